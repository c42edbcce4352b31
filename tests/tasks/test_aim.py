"""Searches for networks: a graft's answers come nearer to its teacher's, at little cost for the picture."""

import pickle

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.tasks import aim
from deepcomp_tf.tasks.teachers import Teacher

PHOTO = samples.photos()["chelsea"][100:164, 120:184]
NAMES = ["a", "b", "c"]


@pytest.fixture(name="classifier", scope="module")
def fixture_classifier():
  tf.keras.utils.set_random_seed(0)
  classifier = dc.Classifier(dc.models.Graft(_backbone(), filters=8, units=1),
                             NetworkInput("representation", dc.Codec.load("bpp0.0983")), NAMES)
  kernel = classifier.network.remainder.layers[-1].kernel
  kernel.assign(10 * kernel)  # symbols matter to a trained network
  return classifier


def _backbone():
  inputs = tf.keras.Input([64, 64, 3])
  x = tf.keras.layers.Conv2D(8, 9, 8, "same", activation="relu", name="cut")(inputs)
  x = tf.keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
  return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(tf.keras.layers.GlobalAveragePooling2D()(x)), name="small")


class _Sure(Teacher):
  """Says the same of whatever it sees: `identity` are the logits."""

  def answers(self, cut):
    del cut
    return lambda pixels: (None, tf.constant([self.identity], tf.float32))


def _teacher(*logits):
  return _Sure("sure", None, "none", NAMES, logits)


def _divergence(classifier, symbols, wanted):
  """Kullback-Leibler divergence in nats of the graft's answers from logits, in float64."""
  wanted, found = (np.float64(logits) - np.log(np.exp(np.float64(logits)).sum())
                   for logits in (wanted, classifier.logits(symbols[np.newaxis])[0]))
  return float((np.exp(wanted) * (wanted - found)).sum())


@pytest.mark.slow
def test_the_more_a_search_is_for_networks_the_nearer_are_their_answers(classifier):
  people, found, losses = dc.Codec.load("bpp0.0983"), {}, {}
  wanted = -3 * classifier.logits(people.encode(PHOTO)[np.newaxis])[0].numpy()  # far from what the graft says
  teacher = _teacher(*wanted)
  for readers in ("people", "both", "networks"):
    codec = people if readers == "people" else dc.Codec.load(
        "bpp0.0983", aim=aim.SameAnswers("bpp0.0983", readers, classifier, teacher))
    assert codec.readers == readers
    data = codec.compress(PHOTO, effort=3)
    assert people.decompress(data).shape == PHOTO.shape
    found[readers], losses[readers] = (
        _divergence(classifier, codec.symbols(data), wanted), people._search.loss(PHOTO, codec.symbols(data)))
  assert found["both"] < 0.9 * found["people"] and found["networks"] < 0.9 * found["both"]
  assert losses["people"] < losses["both"] < losses["networks"]


def test_the_loss_is_zero_where_the_answers_are_the_same(classifier):
  values = classifier.codec.representation(classifier.codec.compress(PHOTO))[np.newaxis]
  network, inputs = classifier.network, classifier.inputs
  own = aim.SameAnswers("bpp0.0983", "both", classifier, _teacher(0, 0, 0))
  own._answers = lambda photo: (None, network(inputs.normalize(values), training=False))
  assert abs(float(own.loss(values, PHOTO[np.newaxis]))) < 1e-3


def test_what_is_no_graft_of_the_operating_point_is_refused(classifier):
  with pytest.raises(dc.DeepcompError,
                     match="expected a graft at the operating point bpp0.330. Received: graft of small at bpp0.0983"):
    aim.SameAnswers("bpp0.330", "both", classifier)
  with pytest.raises(dc.DeepcompError, match="must be one of networks, both. Received: readers='people'"):
    aim.SameAnswers("bpp0.0983", "people", classifier)
  assert aim.load("people", "bpp0.0983") is None


def test_a_codec_is_pickled_with_its_aim(classifier):
  codec = dc.Codec.load("bpp0.0983", aim=aim.SameAnswers("bpp0.0983", "both", classifier, _teacher(0, 0, 5)))
  with pytest.raises(dc.DeepcompError, match="expected a classifier that was loaded by its name or folder"):
    pickle.dumps(codec)  # it cannot be left out without a word
