"""Starting a network from an operating point with more channels."""

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from experiments import train_compression

SIZE = 9


@pytest.fixture(autouse=True)
def parsed_flags():
  saved = flagsaver.save_flag_values()
  flags.FLAGS(["x", "--run_dir=x", "--name=x", "--steps=1", "--batch_size=1", "--beta=1", "--target_entropy=1",
               "--channels=4", "--learning_rate=1", "--start_scale=0.5"])
  yield
  flagsaver.restore_flag_values(saved)


def test_first_channels_are_kept_and_scaled():
  source = dc.operating_points.load("bpp0.0983")
  model = dc.models.CompressionModel(4, SIZE)
  image = tf.random.stateless_uniform([1, 24, 40, 3], [1, 2], 0, 255)
  model(image)
  train_compression.start_from_point(model, source)
  z = source.encoder(image).numpy()
  np.testing.assert_allclose(model.encoder(image), 0.5 * z[..., :4], rtol=1e-4, atol=1e-4)
  only_first = np.where(np.arange(8) < 4, z, 0.0).astype(np.float32)
  np.testing.assert_allclose(model.decoder(0.5 * z[..., :4]), source.decoder(only_first), rtol=1e-3, atol=1e-2)


def test_more_channels_than_there_are():
  model = dc.models.CompressionModel(16, SIZE)
  model(tf.zeros([1, 16, 16, 3]))
  with pytest.raises(dc.DeepcompError, match="at least --channels=16"):
    train_compression.start_from_point(model, dc.operating_points.load("bpp0.0983"))
