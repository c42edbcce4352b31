"""Networks of tasks as LiteRT runs them, kept once and loaded without TensorFlow."""

import os
import subprocess
import sys

import numpy as np
import programs
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.layers.naming import build
from deepcomp_tf.library import understanding
from deepcomp_tf.tasks import litert
from deepcomp_tf.tasks import quick

POINT = "bpp0.0983"

# The command in a process of its own, which ends with code 3 if TensorFlow was imported.
COMMAND = """
import sys
from deepcomp_tf import cli
code = 0
try:
  cli.main()
except SystemExit as end:
  code = end.code
sys.exit(code or (3 if "tensorflow" in sys.modules else 0))
"""


@pytest.fixture(autouse=True)
def fixture_litert(monkeypatch):
  """Other tests leave LiteRT out."""
  monkeypatch.setenv("DEEPCOMP_LITERT", "1")


@pytest.fixture(name="caches", autouse=True)
def fixture_caches(tmp_path, monkeypatch):
  monkeypatch.setattr("deepcomp_tf.caches.CACHE_DIR", str(tmp_path / "cache/deepcomp_tf"))


@pytest.fixture(name="folders", scope="module")
def fixture_folders(tmp_path_factory):
  """A classifier that was trained on photos of 32 pixels, so that it halves those of the samples, and a segmenter of its kind."""
  tf.keras.utils.set_random_seed(0)
  folder, inputs = tmp_path_factory.mktemp("networks"), NetworkInput("representation", dc.Codec.load(POINT))
  network = dc.models.CResNet(12, 2, width=0.125)
  dc.Classifier(network, inputs, ["cup", "cat"], {"crop_size": 32}).save(folder / "classifier")
  body = dc.models.CResNet(12, 2, width=0.125)
  build(body, 8)
  dc.Segmenter(dc.models.DeepLab.from_classifier(body, 3), inputs, [mask_classes.VOC[place] for place in (0, 8, 15)],
               {"crop_size": 32}).save(folder / "segmenter")
  return folder


def files():
  """Of odd sizes, large and small."""
  codec = dc.Codec.load(POINT)
  return [codec.compress(photo[:height, :width]) for photo, (height, width) in zip(
      samples.photos().values(), ((96, 120), (61, 75), (33, 40)))]


def test_labels_and_probabilities_are_those_of_tensorflow(folders):
  slow = dc.Classifier.load(folders / "classifier")
  assert quick.load(dc.Classifier, folders / "classifier") is None
  quick.keep(slow)
  found = quick.load(dc.Classifier, folders / "classifier")
  assert found.describe() == slow.describe() and found.halvings(96, 120) > 0
  for data in files():
    expected = dict(slow.classify(data))
    assert dict(found.classify(data)) == pytest.approx(expected, abs=1e-5)


def test_masks_are_those_of_tensorflow(folders):
  slow = dc.Segmenter.load(folders / "segmenter")
  quick.keep(slow)
  found = quick.load(dc.Segmenter, folders / "segmenter")
  for data in files():
    expected = slow.segment(data)
    mask = found.segment(data)
    assert mask.shape == expected.shape and mask.dtype == np.uint8 and np.mean(mask != expected) < 1e-3


@pytest.mark.parametrize("task", [dc.Embedder, understanding.Understanding])
def test_vectors_are_those_of_tensorflow(folders, task):
  slow = task.load(str(folders / "classifier"))
  quick.keep(slow)
  found = quick.load(task, str(folders / "classifier"))
  for expected, answer in zip(slow.answer(files()), found.answer(files()), strict=True):
    if task is dc.Embedder:
      np.testing.assert_allclose(answer, expected, atol=1e-5)
    else:
      np.testing.assert_allclose(answer["vector"], expected["vector"], atol=1e-3)  # float16
      assert (answer["labels"], answer["space"]) == (expected["labels"], expected["space"])


def test_a_codec_makes_the_files_and_pictures_that_tensorflow_makes():
  codec, photo = dc.Codec.load(POINT), samples.photos()["chelsea"][:121, :205]
  assert quick.codec(POINT) is None
  quick.keep(codec)
  found = quick.codec(POINT)
  assert np.mean(found.encode(photo) != codec.encode(photo)) < 1e-3
  data = codec.compress(photo)
  difference = np.abs(found.decompress(data).astype(int) - codec.decompress(data))
  assert difference.shape == photo.shape and difference.max() <= 1 and difference.mean() < 1e-3


def test_what_is_kept_is_of_these_weights(folders, tmp_path):
  slow = dc.Classifier.load(folders / "classifier")
  quick.keep(slow)
  slow.network.logits.kernel.assign(2 * slow.network.logits.kernel)
  slow.save(tmp_path / "other")
  assert quick.load(dc.Classifier, tmp_path / "other") is None


def test_a_damaged_file_and_a_folder_that_cannot_be_written_are_left_to_tensorflow(folders, tmp_path, monkeypatch):
  loader = quick.Loader()
  network = loader.task(dc.Classifier, folders / "classifier")
  assert loader.task(dc.Classifier, folders / "classifier") is network
  (tmp_path / "file").write_text("no folder")
  with monkeypatch.context() as patch:
    patch.setattr("deepcomp_tf.caches.CACHE_DIR", str(tmp_path / "file/cache"))
    loader.keep()
  quick.keep(network)
  assert quick.load(dc.Classifier, folders / "classifier") is not None
  kept, = (tmp_path / "cache").rglob("network.tflite")
  kept.write_bytes(kept.read_bytes()[:100])
  assert quick.load(dc.Classifier, folders / "classifier") is None


def test_what_litert_does_not_have_is_left_to_tensorflow(folders, monkeypatch):
  tries = []
  monkeypatch.setattr(litert, "convert", lambda *arguments: tries.append(1) or 1 / 0)
  for _ in range(2):
    quick.keep(dc.Classifier.load(folders / "classifier"))
    assert quick.load(dc.Classifier, folders / "classifier") is None
  assert len(tries) == 1
  monkeypatch.setenv("DEEPCOMP_LITERT", "0")
  assert not quick.is_there()


@pytest.mark.slow
def test_a_second_command_needs_no_tensorflow(folders, tmp_path):
  (tmp_path / "photo.deepcomp").write_bytes(files()[1])
  environment = {**os.environ, "PYTHONPATH": str(programs.ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
  for words in (["classify", f"--classifier={folders}/classifier"], ["embed", f"--classifier={folders}/classifier", "-o", "-"],
                ["segment", f"--segmenter={folders}/segmenter", "-o", "-", "--overlay=overlay.png", "--overwrite"]):
    first = programs.deepcomp_here(*words, "photo.deepcomp", cwd=tmp_path, text=False)
    second = subprocess.run([sys.executable, "-c", COMMAND, *words, "photo.deepcomp"], cwd=tmp_path, env=environment,
                            capture_output=True, check=False)
    assert (first.returncode, second.returncode) == (0, 0), (first, second)
    assert len(second.stdout) == len(first.stdout) > 0
    assert words[0] == "embed" or second.stdout == first.stdout
