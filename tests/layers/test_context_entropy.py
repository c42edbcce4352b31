"""`ContextEntropy`: a probability distribution over symbols in coding order, that learns to predict."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc


def _random_layer(shape, seed=0):
  """A layer with every kernel entry random, so that only its masks make it causal."""
  layer = dc.layers.ContextEntropy()
  layer(tf.zeros([1, *shape]))
  rng = np.random.default_rng(seed)
  layer.mean_kernel.assign(rng.uniform(-0.12, 0.12, layer.mean_kernel.shape))
  layer.scale_kernel.assign(rng.uniform(-0.3, 0.3, layer.scale_kernel.shape))
  layer.scale_bias.assign(rng.uniform(-1.3, -0.7, layer.scale_bias.shape))
  layer.tail.assign(rng.uniform(-0.2, 0.1, layer.tail.shape))
  return layer


def _probabilities(layer, maps):
  """2^-(bits of the whole map), float64 `[n]`, of maps `[n, h, w, C]`."""
  count = np.prod(maps.shape[1:])

  @tf.function
  def bits(maps):
    return tf.map_fn(lambda values: layer(values[tf.newaxis]), maps)

  return 2.0 ** (-count * bits(tf.constant(maps, tf.float32)).numpy().astype(np.float64))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (3, 1, 1), (2, 2, 1), (1, 1, 3), (1, 2, 2), (2, 1, 2)])
def test_probabilities_of_all_maps_sum_to_one(shape):
  # That holds only if no symbol's distribution depends on itself or on one coded after it.
  layer = _random_layer(shape)
  values = range(-4, 5)
  maps = np.reshape(list(itertools.product(values, repeat=int(np.prod(shape)))), [-1, *shape])
  assert _probabilities(layer, maps).sum() == pytest.approx(1.0, abs=0.01)


def _bits(layer, values):
  return float(layer(tf.constant(values, tf.float32))) * np.prod(values.shape)


@pytest.mark.parametrize("kernel", ["mean_kernel", "scale_kernel"])
def test_looks_at_all_that_is_known_in_its_window(kernel):
  values = np.random.default_rng(0).integers(-3, 4, [1, 6, 7, 2])
  layer = dc.layers.ContextEntropy()
  static = _bits(layer, values)
  weights = getattr(layer, kernel)
  for dy, dx, source, target in itertools.product(range(-2, 3), range(-2, 3), range(2), range(2)):
    known = source < target or (source == target and (dy, dx) < (0, 0))
    one = np.zeros(weights.shape)
    one[2 + dy, 2 + dx, source, target] = 0.4
    weights.assign(one)
    assert (abs(_bits(layer, values) - static) > 1e-2) == known, (dy, dx, source, target)


def test_cost_of_one_symbol_by_hand():
  # A single position has no neighbours: mean 0, scale 0.1 + softplus(0), and tails of share sigmoid(-1.5)
  # with a scale 2 + softplus(0) times as wide.
  layer = dc.layers.ContextEntropy()
  scale = 0.1 + np.log(2.0)
  share = 1.0 / (1.0 + np.exp(1.5))
  cumulative = lambda x, s: 1.0 / (1.0 + np.exp(-x / s))
  for value in (0.0, 2.0, -3.0):
    p = sum(weight * (cumulative(value + 0.5, s) - cumulative(value - 0.5, s))
            for weight, s in ((1 - share, scale), (share, scale * (2 + np.log(2.0)))))
    assert _bits(layer, np.full([1, 1, 1, 1], value)) == pytest.approx(-np.log2(p), rel=1e-4)


def _smooth_field():
  """`[8, 16, 16, 2]` integers: a low-passed noise and a channel that follows it."""
  rng = np.random.default_rng(0)
  spectrum = np.fft.fft2(rng.normal(size=[8, 16, 16]))
  frequency = np.fft.fftfreq(16)
  keep = np.hypot(frequency[:, np.newaxis], frequency) < 0.15
  field = np.fft.ifft2(spectrum * keep).real
  field *= 4.0 / field.std()
  other = 0.5 * field + rng.normal(0, 0.3, field.shape)
  return np.round(np.stack([field, other], axis=-1)).astype(np.float32)


def test_learns_that_neighbours_predict():
  values = _smooth_field()
  static = 0.0
  for channel in range(2):
    p = np.unique(values[..., channel], return_counts=True)[1] / values[..., channel].size
    static -= (p * np.log2(p)).sum() / 2
  layer = dc.layers.ContextEntropy()
  layer(values[:1])
  layer.spread.assign(values.std(axis=(0, 1, 2)))
  optimizer = tf.keras.optimizers.Adam(3e-3)

  @tf.function
  def step():
    with tf.GradientTape() as tape:
      bits = layer(values)
    optimizer.apply_gradients(zip(tape.gradient(bits, layer.trainable_variables), layer.trainable_variables))
    return bits

  for _ in range(300):
    bits = step()
  assert float(bits) < static - 1.0


def test_gradient_reaches_the_values():
  values = tf.constant(_smooth_field()[:1])
  layer = _random_layer(values.shape[1:])
  with tf.GradientTape() as tape:
    tape.watch(values)
    bits = layer(values)
  gradient = tape.gradient(bits, values).numpy()
  assert np.isfinite(gradient).all() and (gradient != 0).mean() > 0.9


def test_far_outlier_costs_a_finite_number_of_bits():
  values = np.zeros([1, 1, 1, 1])
  values[...] = 1e4
  assert 20 < _bits(dc.layers.ContextEntropy(), values) < 40


@pytest.mark.parametrize("size", [1, 4])
def test_bad_kernel_size(size):
  with pytest.raises(dc.DeepcompError, match=f"`kernel_size` must be odd and at least 3. Received: kernel_size={size}"):
    dc.layers.ContextEntropy(kernel_size=size)


def test_configuration_round_trip():
  layer = dc.layers.ContextEntropy(kernel_size=3)
  twin = tf.keras.utils.deserialize_keras_object(tf.keras.utils.serialize_keras_object(layer))
  assert twin.kernel_size == 3 and twin.get_config() == layer.get_config()
