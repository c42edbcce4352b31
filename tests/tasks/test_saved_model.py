"""SavedModels of classifiers and segmenters."""

import json

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.layers.naming import build


@pytest.fixture(name="network", scope="module")
def fixture_network():
  tf.keras.utils.set_random_seed(0)
  network = dc.models.CResNet(12, 2, width=0.125)
  build(network, 8)
  return network


def check_saved_model(folder, codec, photos):
  """Asserts what TensorFlow Serving asks of rows and batches: n in, n out, in every output of every signature.

  Yields:
    the outputs of each signature for all photos, a dict of arrays.
  """
  loaded = tf.saved_model.load(folder)
  assert set(loaded.signatures) == {"serving_default", "symbols"}
  for signature, name, read in (("serving_default", "representation", codec.representation),
                                ("symbols", "symbols", codec.symbols)):
    function = loaded.signatures[signature]
    specs = {**function.structured_outputs, **function.structured_input_signature[1]}
    assert len(specs) > 1 and all(spec.shape[0] is None for spec in specs.values())
    rows = np.stack([read(codec.compress(photo)) for photo in photos])
    outputs = {key: value.numpy() for key, value in function(**{name: tf.constant(rows)}).items()}
    for key, value in outputs.items():
      assert len(value) == len(rows)
      np.testing.assert_allclose(function(**{name: tf.constant(rows[1:2])})[key][0], value[1], rtol=1e-3, atol=1e-5)
    yield outputs


@pytest.mark.slow
def test_an_exported_classifier(network, tmp_path):
  codec = dc.Codec.load("bpp0.0983")
  classifier = dc.Classifier(network, NetworkInput("representation", codec), ["cup", "cat"])
  classifier.export_saved_model(str(tmp_path / "photos/1"))
  names = json.loads((tmp_path / "photos/1/assets/classes.json").read_text())["class_names"]
  photos = [photo[:96, :120] for photo in samples.photos().values()][:3]
  for outputs in check_saved_model(str(tmp_path / "photos/1"), codec, photos):
    assert outputs.keys() == {"logits", "probabilities"}
    for photo, probabilities in zip(photos, outputs["probabilities"], strict=True):
      expected = dict(classifier.classify(codec.compress(photo)))
      assert dict(zip(names, probabilities, strict=True)) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(tf.nn.softmax(outputs["logits"]), outputs["probabilities"], rtol=1e-5)


@pytest.mark.slow
def test_an_exported_segmenter(network, tmp_path):
  """As the classifier's; masks are cut to the photo, whose size is no multiple of 8."""
  codec = dc.Codec.load("bpp0.0983")
  segmenter = dc.Segmenter(dc.models.DeepLab.from_classifier(network, 3), NetworkInput("representation", codec),
                           [mask_classes.VOC[place] for place in (0, 8, 15)])
  segmenter.export_saved_model(str(tmp_path / "masks/1"))
  kept = json.loads((tmp_path / "masks/1/assets/classes.json").read_text())
  assert mask_classes.check_classes(kept["classes"], "classes.json") == segmenter.classes
  photos = [photo[:99, :125] for photo in samples.photos().values()][:3]
  for outputs in check_saved_model(str(tmp_path / "masks/1"), codec, photos):
    masks, = outputs.values()
    assert len(np.unique(masks)) > 1
    assert masks.shape == (3, 104, 128) and masks.dtype == np.uint8
    for photo, mask in zip(photos, masks, strict=True):
      assert np.mean(segmenter.mask_ids[mask[:99, :125]] != segmenter.segment(codec.compress(photo))) < 1e-3
