"""Starting a network from an operating point with as many or more channels, and fitting its entropy."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.training import starts

SIZE = 9


def test_first_channels_are_kept_and_scaled():
  source = dc.operating_points.load("bpp0.0983")
  model = dc.models.CompressionModel(4, SIZE)
  image = tf.random.stateless_uniform([1, 24, 40, 3], [1, 2], 0, 255)
  model(image)
  starts.from_operating_point(model, source, 0.5)
  z = source.encoder(image).numpy()
  np.testing.assert_allclose(model.encoder(image), 0.5 * z[..., :4], rtol=1e-4, atol=1e-4)
  only_first = np.where(np.arange(8) < 4, z, 0.0).astype(np.float32)
  np.testing.assert_allclose(model.decoder(0.5 * z[..., :4]), source.decoder(only_first), rtol=1e-3, atol=1e-2)


def test_more_channels_than_there_are():
  model = dc.models.CompressionModel(16, SIZE)
  model(tf.zeros([1, 16, 16, 3]))
  with pytest.raises(dc.DeepcompError, match="at least 16 channels.*one with 8"):
    starts.from_operating_point(model, dc.operating_points.load("bpp0.0983"))


def test_weights_of_the_same_architecture():
  resnet = lambda depth: dc.models.CResNet(depth, 3, width=0.125)
  network, trained, larger = resnet(39), resnet(39), resnet(51)
  channels = {network: 8, trained: 16, larger: 8}
  for one, count in channels.items():
    one.build([None, None, None, count])
  before = {name: variable.numpy() for name, variable in network.named_variables().items()}
  starts.from_trained(network, trained, "folder", leave_out=("logits/",), other_channels=True)
  moved = {name for name, variable in network.named_variables().items() if not np.array_equal(variable, before[name])}
  others = {name for name, variable in trained.named_variables().items() if variable.shape != before[name].shape}
  kernels = {name for name in before if name.endswith("kernel")}
  assert moved == kernels - others - {"logits/kernel"} and len(others) >= 1
  with pytest.raises(dc.DeepcompError, match="from of .*cResNet-39.* Received: --start=folder, of .*cResNet-51"):
    starts.from_trained(network, larger, "folder")


def test_a_share_of_the_weights():
  network, trained = (dc.models.CResNet(39, 3, width=0.125) for _ in range(2))
  for built in (network, trained):
    built.build([None, None, None, 8])
  before, others = ({name: variable.numpy() for name, variable in of.named_variables().items()} for of in (network, trained))
  starts.from_trained(network, trained, "folder", share=0.25)
  for name, variable in network.named_variables().items():
    np.testing.assert_allclose(variable, 0.25 * others[name] + 0.75 * before[name], rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_fitting_lowers_the_entropy_and_leaves_the_networks(capsys):
  source = dc.operating_points.load("bpp0.0983")
  centers = source.quantizer.centers.numpy()
  model = dc.models.CompressionModel(8, len(centers), centers=centers, entropy="context")
  images = samples.photos()["chelsea"][np.newaxis, :64, :64]
  model(images)
  starts.from_operating_point(model, source)
  before = model(images)
  bits = starts.fit_entropy(
      tf.distribute.get_strategy(), model, tf.data.Dataset.from_tensors(images).repeat(), 1, steps=60)
  after = model(images)
  assert bits < 0.9 * before.bits_per_symbol
  assert "fitting the entropy: 100%" in capsys.readouterr().err
  assert float(after.bits_per_symbol) == pytest.approx(bits, rel=0.05)
  np.testing.assert_array_equal(after.values, before.values)
  np.testing.assert_array_equal(after.reconstruction, before.reconstruction)
