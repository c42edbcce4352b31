"""`label_photos` as a program, with a small TensorFlow Lite model."""

import numpy as np
from PIL import Image
import programs
import pytest
import tensorflow as tf

from deepcomp_tf.data.voc import read_mask

pytestmark = pytest.mark.slow


@pytest.fixture(name="model", scope="module")
def fixture_model(tmp_path_factory):
  """Cats (8) are where it is red, in a photo of 40x40; of what is blue it says cat in the left half only."""
  path = tmp_path_factory.mktemp("model") / "red.tflite"

  @tf.function(input_signature=[tf.TensorSpec([1, 40, 40, 3], tf.uint8)])
  def ids(photo):
    red, _, blue = tf.unstack(tf.cast(photo, tf.float32) > 200.0, axis=-1)
    left = tf.range(40) < 20
    return tf.cast(tf.where(red | (blue & left), 8, 0), tf.int64)

  module = tf.Module()
  module.ids = ids
  path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([ids.get_concrete_function()], module).convert())
  return path


def test_masks_of_photos_of_any_shape(model, tmp_path):
  (tmp_path / "photos").mkdir()
  photos = {"wide": (60, 120), "tall": (50, 30), "tiny": (1, 1)}
  for name, shape in photos.items():
    photo = np.full([*shape, 3], 90, np.uint8)
    photo[:shape[0] // 2 + 1, shape[1] // 3:] = (255, 90, 90)
    Image.fromarray(photo).save(tmp_path / f"photos/{name}.png")
  Image.new("RGB", (40, 40)).save(tmp_path / "photos/nothing.png")
  Image.new("RGB", (40, 40), (90, 90, 255)).save(tmp_path / "photos/disputed.png")
  (tmp_path / "photos/broken.png").write_bytes(b"no picture")
  flags = ["label_photos", f"--model={model}", f"--photos={tmp_path}/photos", f"--output_dir={tmp_path}/set"]
  code, output = programs.finish(programs.start(*flags))
  assert code == 0 and "6 photos, 0 of them before; 3 masks written" in output, output[-2000:]
  assert "broken.png" in output and "Traceback" not in output
  written = sorted(path.name for path in (tmp_path / "set/masks/train").iterdir())
  assert written == ["photos_tall.png", "photos_tiny.png", "photos_wide.png"]
  for name in ("wide", "tall"):
    mask = read_mask(str(tmp_path / f"set/masks/train/photos_{name}.png"))
    photo = np.asarray(Image.open(tmp_path / f"set/images/train/photos_{name}.png"))
    assert mask.shape == photos[name] and ((mask == 8) == (photo[..., 0] == 255)).mean() > 0.9
  left_out = (tmp_path / "set/left_out_train.txt").read_text().split()
  assert sorted(left_out) == ["photos_disputed", "photos_nothing"]

  code, output = programs.finish(programs.start(*flags))
  assert code == 0 and "6 photos, 5 of them before; 0 masks written" in output, output[-2000:]


def test_photos_that_cannot_be_told_apart(model, tmp_path):
  for part in ("a", "b"):
    (tmp_path / part / "x").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / part / "x/1.png")
  line, output = programs.error(programs.start("label_photos", f"--model={model}", f"--photos={tmp_path}/a,{tmp_path}/b",
                                               f"--output_dir={tmp_path}/set"))
  assert ("differ in the names of their folders" in line and "Traceback" not in output
          and not (tmp_path / "set/masks/train").exists())


def test_bad_models(model, tmp_path):
  (tmp_path / "none.tflite").write_bytes(b"no model")
  for path in (tmp_path / "none.tflite", tmp_path / "nowhere"):
    line, output = programs.error(programs.start("label_photos", f"--model={path}", f"--photos={model.parent}/*.tflite",
                                                 f"--output_dir={tmp_path}/set"))
    assert "expected a TensorFlow Lite model" in line and "Traceback" not in output
