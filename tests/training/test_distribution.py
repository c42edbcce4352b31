"""`tf.distribute`: two replicas train as one device with the same global batch does."""

import numpy as np
from PIL import Image
import programs
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow

FLAGS = ["--held_out=1", "--channels=2", "--num_centers=7", "--crop_size=16", "--beta=100", "--target_entropy=0.1",
         "--centers_l2=0.5", "--learning_rate=1e-3", "--name=tiny", "--checkpoint_every=1", "--summary_every=1"]


def _train(folder, run, devices, *flags):
  return programs.finish(programs.start(
      "train_compression", f"--images={folder}", f"--run_dir={folder / run}", *FLAGS, *flags, devices=devices))


def _curves(run):
  """dict of (name, step) -> value of the training curves."""
  return {(value.tag, event.step): float(tf.make_ndarray(value.tensor))
          for path in (run / "train").iterdir() for event in tf.compat.v1.train.summary_iterator(str(path))
          for value in event.summary.value if value.tag != "centers"}


def _weights(run, step):
  """dict of the model's variables in a checkpoint."""
  reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"ckpt-{step}"))
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
          if name.startswith("model/") and name.endswith("VARIABLE_VALUE") and "OPTIMIZER_SLOT" not in name}


@pytest.fixture(name="photos")
def fixture_photos(tmp_path):
  rng = np.random.default_rng(0)
  for number in range(4):
    # Photos of unlike statistics: the histogram of half a batch is not that of the whole.
    pixels = rng.normal(128, [5, 15, 40, 80][number], [6, 8, 3]).repeat(8, 0).repeat(8, 1)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
  return tmp_path


def test_two_replicas_are_one_device(photos):
  flags = ["--batch_size=4", "--steps=2", "--start=klt", "--klt_step=60",
           "--rate_step=20", "--weight_average=0.9"]
  for run, devices, strategy in (("one", 1, "default"), ("two", 2, "mirrored")):
    code, output = _train(photos, run, devices, *flags, f"--strategy={strategy}")
    assert code == 0, output[-2000:]
  one, two = _curves(photos / "one"), _curves(photos / "two")
  assert one.keys() == two.keys() and ("bits_per_symbol", 2) in one
  for key, value in one.items():
    assert two[key] == pytest.approx(value, rel=1e-4), key
  first, other, later = _weights(photos / "one", 1), _weights(photos / "two", 1), _weights(photos / "one", 2)
  assert first.keys() == other.keys() and len(first) > 20
  moved = 0
  for name, value in first.items():
    # Adam's step is 1e-3 wherever the gradient is not zero; a gradient of another scale or half a batch's
    # signs would show in many weights, rounding in very few.
    assert (np.abs(value - other[name]) < 1e-4).mean() > 0.99, name
    moved += np.abs(later[name] - value).max() > 5e-4
  assert moved > 20


def test_batch_that_does_not_divide_is_an_error(photos):
  line, _ = programs.error(programs.start(
      "train_compression", f"--images={photos}", f"--run_dir={photos / 'odd'}", *FLAGS, "--batch_size=3", "--steps=1",
      "--strategy=mirrored", devices=2))
  assert "--batch_size must be a multiple of the 2 replicas. Received: 3" in line
