"""`HistogramEntropy`: hand-computed entropies, and the soft histogram's gradient."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc


def _assignments(symbols, num_centers=6):
  """One-hot `[1, n, 1, C, L]` of symbols `[n, C]`."""
  return tf.one_hot(np.asarray(symbols)[np.newaxis, :, np.newaxis], num_centers)


@pytest.mark.parametrize("symbols, bits", [
    ([0, 1, 2, 3], 2.0),
    ([3, 3, 3], 0.0),
    ([5, 5, 0, 1], 1.5),
    ([0] * 7 + [1], 7 / 8 * np.log2(8 / 7) + 3 / 8),
])
def test_known_histograms(symbols, bits):
  column = np.asarray(symbols)[:, np.newaxis]
  for per_channel in (False, True):
    assert float(dc.layers.HistogramEntropy(per_channel)(_assignments(column))) == pytest.approx(bits, abs=1e-6)


def test_channels_pooled_or_apart():
  constant = np.tile([[1, 4]], [10, 1])
  assert float(dc.layers.HistogramEntropy()(_assignments(constant))) == pytest.approx(1.0)
  assert float(dc.layers.HistogramEntropy(per_channel=True)(_assignments(constant))) == pytest.approx(0.0, abs=1e-6)
  # A channel of 2 bits and one of 0: one bit a symbol on average.
  mixed = np.stack([np.arange(8) % 4, np.zeros(8, int)], axis=1)
  assert float(dc.layers.HistogramEntropy(per_channel=True)(_assignments(mixed))) == pytest.approx(1.0)


@pytest.mark.parametrize("entropy", dc.models.compression.ENTROPIES)
def test_examples_that_do_not_count(entropy):
  model = dc.models.CompressionModel(2, entropy=entropy)
  model.build([None, None, None, 3])
  quantized = model.quantizer(tf.random.stateless_uniform([5, 4, 3, 2], [0, 1], -3.0, 3.0))
  chosen = [0, 2, 3]
  alone = dc.layers.Quantized(*(tf.gather(part, chosen) for part in quantized))
  counted = np.isin(np.arange(5), chosen)
  assert float(model.bits_of(quantized, counted)) == pytest.approx(float(model.bits_of(alone)), rel=1e-6)
  assert float(model.bits_of(quantized)) != pytest.approx(float(model.bits_of(alone)), rel=1e-3)


def test_value_is_of_the_hard_histogram():
  # The soft histogram of a constant at -2 reads 1.18 bits at temperature 1 (DESIGN.md); the hard one 0.
  quantized = dc.layers.Quantizer()(tf.fill([1, 4, 4, 2], -2.0))
  assert float(dc.layers.HistogramEntropy()(quantized.assignments)) == pytest.approx(0.0, abs=1e-6)


def _gradient(z, centers, per_channel):
  """d/dz of H at the hard histogram through the soft assignments, in float64; z `[n, C]`.

  dH/dp_j = -(log2 p_j + 1/ln 2), and dphi_j/dz = phi_j (s_j - sum_k phi_k s_k) with s_j = -2 (z - c_j).
  """
  n, channels = z.shape
  distances = z[..., np.newaxis] - centers
  hard = np.eye(len(centers))[np.abs(distances).argmin(-1)]
  p = hard.mean(0) if per_channel else np.tile(hard.mean((0, 1)), [channels, 1])
  by_p = -(np.log2(np.maximum(p, 1e-10)) + np.where(p > 0, 1 / np.log(2), 0.0))
  phi = np.exp(-distances ** 2)
  phi /= phi.sum(-1, keepdims=True)
  slopes = -2 * distances
  by_z = phi * (slopes - (phi * slopes).sum(-1, keepdims=True))
  return (by_p * by_z).sum(-1) / (n * channels)


@pytest.mark.parametrize("per_channel", [False, True])
def test_gradient_is_that_of_the_soft_histogram(per_channel):
  z = np.random.default_rng(0).normal([0.0, 1.0], 0.8, [40, 2])
  quantizer, entropy = dc.layers.Quantizer(), dc.layers.HistogramEntropy(per_channel)
  tensor = tf.constant(z.reshape(1, 8, 5, 2), tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(tensor)
    bits = entropy(quantizer(tensor).assignments)
  expected = _gradient(z, np.linspace(-2, 2, 6), per_channel)
  np.testing.assert_allclose(tf.reshape(tape.gradient(bits, tensor), [40, 2]), expected, rtol=1e-3, atol=1e-6)
  assert np.abs(expected).max() > 1e-3


def test_gradient_is_finite_where_centers_are_unused():
  quantizer = dc.layers.Quantizer(9)
  tensor = tf.fill([1, 2, 2, 3], 0.1)
  with tf.GradientTape() as tape:
    tape.watch(tensor)
    bits = dc.layers.HistogramEntropy()(quantizer(tensor).assignments)
  gradients = tape.gradient(bits, [tensor, quantizer.centers])
  assert all(np.isfinite(gradient).all() for gradient in gradients)
  assert np.abs(gradients[0]).max() > 0


def test_half_precision_assignments_are_counted_in_float32():
  # In float16 the counts of 4096 + 1 symbols would be lost.
  assignments = tf.cast(_assignments(np.r_[np.zeros(4096, int), 1][:, np.newaxis], 2), tf.float16)
  bits = dc.layers.HistogramEntropy()(assignments)
  p = np.array([4096, 1]) / 4097
  assert bits.dtype == tf.float32
  assert float(bits) == pytest.approx(-(p * np.log2(p)).sum(), rel=1e-3)


def test_configuration_round_trip():
  layer = dc.layers.HistogramEntropy(per_channel=True, name="h")
  twin = tf.keras.utils.deserialize_keras_object(tf.keras.utils.serialize_keras_object(layer))
  assert twin.per_channel and twin.get_config() == layer.get_config()


def test_replica_mean_outside_of_a_strategy_is_the_identity():
  assert float(dc.layers.replica_mean(tf.constant(3.0))) == 3.0
