"""`JointModel`: both losses of Eq. 2 reach the encoder, and their gradients add up."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import keras_version
from deepcomp_tf.training import losses

GAMMA = 0.01


@pytest.fixture(name="model", scope="module")
def fixture_model():
  tf.keras.utils.set_random_seed(0)
  model = dc.models.JointModel(dc.models.CompressionModel(3, 5), dc.models.CResNet(12, 4, width=0.125),
                               mean=[0.1, 0.2, 0.3], deviation=[1.0, 2.0, 0.5])
  model(tf.zeros([1, 32, 32, 3]))
  return model


IMAGES = tf.random.stateless_uniform([2, 32, 32, 3], [0, 1], 0, 255)
LABELS = tf.constant([1, 3])


def _gradients(model, gamma, classifies=True):
  """Of Eq. 2 by the variables of encoder, decoder and classifier."""
  with tf.GradientTape() as tape:
    output = model(IMAGES)
    mse = tf.reduce_mean(tf.square(IMAGES - output.compression.reconstruction))
    rate_distortion = losses.rate_distortion(mse, output.compression.bits_per_symbol, 50.0, 0.1)
    cross_entropy = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, output.logits))
    loss = losses.joint(rate_distortion, cross_entropy if classifies else 0.0, gamma)
  parts = [[keras_version.plain_variable(variable) for variable in part.trainable_variables]
           for part in (model.compression.encoder, model.compression.decoder, model.classifier)]
  return tape.gradient(loss, parts, unconnected_gradients="zero")


def _size(gradients):
  return float(tf.linalg.global_norm(gradients))


def test_both_losses_reach_the_encoder(model):
  encoder, decoder, classifier = _gradients(model, gamma=0.0)
  assert _size(encoder) > 0 and _size(decoder) == 0 and _size(classifier) > 0
  encoder, decoder, classifier = _gradients(model, GAMMA, classifies=False)
  assert _size(encoder) > 0 and _size(decoder) > 0 and _size(classifier) == 0


def test_gradients_add_up(model):
  together = _gradients(model, GAMMA)
  apart = _gradients(model, 0.0), _gradients(model, GAMMA, classifies=False)
  for total, one, other in zip(together, *apart):
    for a, b, c in zip(total, one, other):
      np.testing.assert_allclose(a, b + c, rtol=1e-3, atol=1e-4 * float(tf.reduce_max(tf.abs(a))) + 1e-9)


def test_classifier_sees_the_normalised_representation(model):
  output = model(IMAGES)
  values = (output.compression.values - np.array([0.1, 0.2, 0.3], np.float32)) / np.array([1.0, 2.0, 0.5], np.float32)
  np.testing.assert_allclose(output.logits, model.classifier(values), rtol=1e-5, atol=1e-6)


def test_round_trip(model, tmp_path):
  model.save_weights(tmp_path / "model.weights.h5")
  other = dc.models.JointModel.from_config(model.get_config())
  other(IMAGES)
  other.load_weights(tmp_path / "model.weights.h5")
  np.testing.assert_array_equal(other(IMAGES).logits, model(IMAGES).logits)


def test_a_statistic_for_each_channel():
  with pytest.raises(dc.DeepcompError, match="each of the 3 channels.*.2,."):
    dc.models.JointModel(dc.models.CompressionModel(3), dc.models.CResNet(12, 4, width=0.125), mean=[0.0, 1.0])
