"""LiteRT files of trained networks, run by LiteRT's interpreter."""

import json

import numpy as np
import programs
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.layers.naming import build


@pytest.fixture(name="inputs", scope="module")
def fixture_inputs():
  tf.keras.utils.set_random_seed(0)
  return NetworkInput("representation", dc.Codec.load("bpp0.0983"))


def answers(path, codec, photos):
  """What the file gives for photos of one size: dict of arrays."""
  runner = tf.lite.Interpreter(str(path)).get_signature_runner("symbols")
  return runner(symbols=np.stack([codec.symbols(codec.compress(photo)) for photo in photos]))


def photos_of(height, width):
  return [photo[:height, :width] for photo in samples.photos().values()][:2]


@pytest.mark.slow
def test_a_classifier_by_the_command(inputs, tmp_path):
  """Of any size, and of a batch."""
  dc.Classifier(dc.models.CResNet(12, 2, width=0.125), inputs, ["cup", "cat"]).save(tmp_path / "run/classifier")
  classifier = dc.Classifier.load(tmp_path / "run")
  export = ("export", "classify", "run", "-o", "new/photos.tflite")
  result = programs.deepcomp_here(*export, "--json", cwd=tmp_path)
  assert (result.returncode, result.stderr) == (0, "") and json.loads(result.stdout)["format"] == "LiteRT"
  names = json.loads((tmp_path / "new/photos.json").read_text())["class_names"]
  for photos in (photos_of(96, 120), photos_of(61, 64)[:1]):
    found = answers(tmp_path / "new/photos.tflite", inputs.codec, photos)
    for photo, probabilities in zip(photos, found["probabilities"], strict=True):
      expected = dict(classifier.classify(inputs.codec.compress(photo)))
      assert dict(zip(names, probabilities, strict=True)) == pytest.approx(expected, abs=1e-5)
  assert "photos.tflite exists; give --overwrite" in programs.deepcomp_here(*export, cwd=tmp_path).stderr
  assert programs.deepcomp_here("export", "classify", "run", "-o", "models/1", cwd=tmp_path).returncode == 0
  assert "symbols" in tf.saved_model.load(str(tmp_path / "models/1")).signatures


@pytest.mark.slow
def test_a_segmenter_and_an_embedder(inputs, tmp_path):
  network = dc.models.CResNet(12, 2, width=0.125)
  build(network, 8)
  segmenter = dc.Segmenter(dc.models.DeepLab.from_classifier(network, 3), inputs,
                           [mask_classes.VOC[place] for place in (0, 8, 15)])
  segmenter.export_litert(tmp_path / "masks.tflite")
  photos = photos_of(99, 125)
  for photo, mask in zip(photos, answers(tmp_path / "masks.tflite", inputs.codec, photos)["classes"], strict=True):
    assert mask.dtype == np.uint8 and len(np.unique(mask)) > 1
    assert np.mean(segmenter.mask_ids[mask[:99, :125]] != segmenter.segment(inputs.codec.compress(photo))) < 1e-3
  embedder = dc.Embedder(dc.models.CResNet(12, None, width=0.125), inputs)
  embedder.export_litert(tmp_path / "vectors.tflite")
  for photo, vector in zip(photos, answers(tmp_path / "vectors.tflite", inputs.codec, photos)["embeddings"], strict=True):
    np.testing.assert_allclose(vector, embedder.embed(inputs.codec.compress(photo)), atol=1e-5)


@pytest.mark.slow
def test_the_shipped_segmenters(tmp_path):
  """Grafts of networks that segment; of even and of odd numbers of positions."""
  segmenter = dc.Segmenter.load("graft_bpp0.0983")
  segmenter.export_litert(tmp_path / "masks.tflite")
  for height, width in ((192, 256), (99, 125)):
    photo = samples.photos(256)["chelsea"][:height, :width]
    mask, = answers(tmp_path / "masks.tflite", segmenter.codec, [photo])["classes"]
    height, width = photo.shape[:2]
    expected = segmenter.segment(segmenter.codec.compress(photo))
    assert len(np.unique(expected)) > 1 and np.mean(segmenter.mask_ids[mask[:height, :width]] != expected) < 1e-3


def test_what_cannot_be_exported(inputs, tmp_path):
  network = dc.models.CResNet(12, 2, width=0.125)
  with pytest.raises(dc.DeepcompError, match="expected a file that ends in .tflite. Received: .*/photos.lite"):
    dc.Classifier(network, inputs, ["cup", "cat"]).export_litert(tmp_path / "photos.lite")
  result = programs.deepcomp_here("export", "segment", "nobody", "-o", "x.tflite", cwd=tmp_path)
  assert result.returncode == 1 and "no segmenter 'nobody': expected one of" in result.stderr
