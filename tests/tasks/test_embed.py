"""`Embedder`: the features of a classifier before its last layer, as vectors of length 1."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


@pytest.fixture(name="classifier", scope="module")
def fixture_classifier(codec, tmp_path_factory):
  tf.keras.utils.set_random_seed(0)
  folder = tmp_path_factory.mktemp("classifier")
  inputs = tf.keras.Input([64, 64, 3])
  x = tf.keras.layers.Conv2D(8, 9, 8, "same", activation="relu", name="cut")(inputs)
  x = tf.keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="behind")(x)
  backbone = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(tf.keras.layers.GlobalAveragePooling2D()(x)), name="small")
  classifier = dc.Classifier(
      dc.models.Graft(backbone, filters=8, units=1), NetworkInput("representation", codec), ["a", "b", "c"])
  classifier.copy(rounded=True).save(folder)
  return dc.Classifier.load(folder)


def test_vectors_are_what_the_last_layer_of_the_classifier_sees(codec, classifier):
  embedder = dc.Embedder.load(classifier.source)
  files = [codec.compress(photo[:64, :80]) for photo in samples.photos().values()][:3]
  vectors = embedder.embed(files)
  last = classifier.network.remainder.layers[-1]
  before = tf.keras.Model(classifier.network.remainder.input, last.input)
  for data, vector in zip(files, vectors, strict=True):
    maps = classifier.network.maps(classifier.inputs(codec.symbols(data)[np.newaxis]))
    expected = before(maps * classifier.network.deviation + classifier.network.mean)[0]
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-5)
    assert vector.dtype == np.float32 and np.linalg.norm(vector) == pytest.approx(1)
    np.testing.assert_allclose(embedder.embed(data), vector, rtol=1e-4, atol=1e-5)
  assert embedder.describe() == "graft of small at bpp0.0983 gives vectors of 12 values"


def test_what_cannot_be(codec, classifier, tmp_path):
  embedder = dc.Embedder.load(classifier.source)
  with pytest.raises(dc.DeepcompError, match="expected a classifier, in whose folder"):
    embedder.save(tmp_path / "embedder")
  with pytest.raises(dc.DeepcompError, match="Received: the path x.deepcomp"):
    embedder.embed("x.deepcomp")
  backbone = tf.keras.models.model_from_json(classifier.network.source)
  whole = dc.Classifier(dc.models.Backbone(backbone, preprocessing="none"), NetworkInput("decoded", codec), ["a", "b", "c"])
  whole.save(tmp_path / "whole")
  with pytest.raises(dc.DeepcompError, match="expected a graft, a ResNet or a cResNet. Received: the whole small"):
    dc.Embedder.load(tmp_path / "whole")


@pytest.mark.slow
def test_shipped_grafts_hold_views_of_a_thing_for_alike(codec):
  cat, cup = (samples.photos()[name] for name in ("chelsea", "coffee"))
  files = [codec.compress(photo[top:top + 224, 100:324]) for photo, top in ((cat, 20), (cat, 60), (cup, 100))]
  one, other, unlike = dc.Embedder.load_for(files[0]).embed(files)
  assert one @ other > 0.7 > one @ unlike + 0.2
