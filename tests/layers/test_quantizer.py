"""`Quantizer`: nearest center forward, soft gradient backward, the same symbols under every policy."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc

CENTERS = [-2.5, -1.0, 0.25, 0.75, 3.0]


def _soft_values(z, centers, temperature):
  """The soft value of appendix A.1 in float64."""
  scores = -temperature * (z[..., np.newaxis] - centers) ** 2
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  return (weights / weights.sum(-1, keepdims=True)) @ centers


def _differences(function, x, epsilon=1e-5):
  """Central differences of a scalar function."""
  gradient = np.zeros_like(x)
  for index in np.ndindex(x.shape):
    step = np.zeros_like(x)
    step[index] = epsilon
    gradient[index] = (function(x + step) - function(x - step)) / (2 * epsilon)
  return gradient


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 5, 6, 3), (2, 2, 2, 2, 2)])
def test_values_are_the_nearest_centers_for_any_rank(shape):
  z = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
  output = dc.layers.Quantizer(5, centers=CENTERS)(tf.constant(z))
  nearest = np.abs(z[..., np.newaxis] - np.float32(CENTERS)).argmin(-1)
  assert output.symbols.dtype == tf.int32
  np.testing.assert_array_equal(output.symbols, nearest)
  np.testing.assert_array_equal(output.values, np.float32(CENTERS)[nearest])
  np.testing.assert_array_equal(output.assignments, np.eye(5, dtype=np.float32)[nearest])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_gradients_of_values_are_those_of_the_soft_values(temperature):
  rng = np.random.default_rng(1)
  z = rng.normal(0, 1.5, [3, 2])
  weights = rng.normal(size=z.shape)
  quantizer = dc.layers.Quantizer(5, temperature, centers=CENTERS)
  z_tensor = tf.constant(z, tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(z_tensor)
    loss = tf.reduce_sum(weights * tf.cast(quantizer(z_tensor).values, tf.float64))
  by_z, by_centers = tape.gradient(loss, [z_tensor, quantizer.centers])
  centers = np.asarray(CENTERS)
  expected_by_z = _differences(lambda x: (weights * _soft_values(x, centers, temperature)).sum(), z)
  expected_by_centers = _differences(lambda c: (weights * _soft_values(z, c, temperature)).sum(), centers)
  np.testing.assert_allclose(by_z, expected_by_z, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(by_centers, expected_by_centers, rtol=1e-3, atol=1e-4)
  assert np.abs(expected_by_z).max() > 0.1 and np.abs(expected_by_centers).max() > 0.1


def test_gradient_of_assignments_is_that_of_the_softmax():
  z = tf.constant([0.4, -1.7])
  quantizer = dc.layers.Quantizer(2, centers=[-1.0, 1.0])
  with tf.GradientTape() as tape:
    tape.watch(z)
    first = tf.reduce_sum(quantizer(z).assignments[..., 0])
  # With centers at -1 and 1, phi_0 = 1 / (1 + exp(4 z)).
  phi = 1.0 / (1.0 + np.exp(4.0 * z.numpy().astype(np.float64)))
  np.testing.assert_allclose(tape.gradient(first, z), -4.0 * phi * (1.0 - phi), rtol=1e-4)


def test_centers_that_training_put_out_of_order_still_quantize_to_the_nearest():
  quantizer = dc.layers.Quantizer(4)
  unordered = np.float32([1.0, -2.0, 5.0, 0.0])
  quantizer.centers.assign(unordered)
  z = np.float32([-9.0, -1.2, -0.9, 0.4, 0.6, 2.9, 3.1, 90.0])
  output = quantizer(tf.constant(z))
  np.testing.assert_array_equal(output.symbols, [1, 1, 3, 3, 0, 0, 2, 2])
  np.testing.assert_array_equal(output.values, unordered[output.symbols.numpy()])
  np.testing.assert_array_equal(quantizer.values(output.symbols), output.values)


def test_ties_go_to_the_lower_center():
  quantizer = dc.layers.Quantizer(3, centers=[-1.0, 0.0, 1.0])
  np.testing.assert_array_equal(quantizer.symbols([-0.5, 0.5]), [0, 1])


def test_values_of_uint8_symbols():
  quantizer = dc.layers.Quantizer(5, centers=CENTERS)
  np.testing.assert_array_equal(quantizer.values(np.uint8([[4, 0]])), [[3.0, -2.5]])


def test_default_centers_are_equidistant_from_minus_2_to_2():
  np.testing.assert_allclose(dc.layers.Quantizer().centers, [-2.0, -1.2, -0.4, 0.4, 1.2, 2.0], rtol=1e-6)


@pytest.mark.parametrize("arguments, message", [
    ({"num_centers": 1}, r"`num_centers` must be in 2\.\.256\. Received: num_centers=1"),
    ({"num_centers": 257}, "num_centers=257"),
    ({"temperature": 0}, "`temperature` must be above 0. Received: temperature=0"),
    ({"temperature": float("nan")}, "temperature=nan"),
    ({"num_centers": 3, "centers": [0.0, 2.0, 1.0]}, "ascending"),
    ({"num_centers": 3, "centers": [0.0, 1.0, 1.0]}, "ascending"),
    ({"num_centers": 3, "centers": [0.0, 1.0]}, "num_centers=3"),
])
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(dc.DeepcompError, match=message):
    dc.layers.Quantizer(**arguments)


def test_most_centers_fit_in_a_byte():
  quantizer = dc.layers.Quantizer(256, centers=range(256))
  np.testing.assert_array_equal(tf.cast(quantizer.symbols([0.1, 254.9, 999.0]), tf.uint8), [0, 255, 255])


def test_penalty_on_centers():
  quantizer = dc.layers.Quantizer(3, centers=[-1.0, 0.5, 2.0], l2=0.05)
  np.testing.assert_allclose(tf.add_n(quantizer.losses), 0.05 * 5.25, rtol=1e-6)


def test_configuration_round_trip():
  quantizer = dc.layers.Quantizer(5, temperature=0.7, centers=CENTERS, l2=0.05, name="q")
  for twin in (dc.layers.Quantizer.from_config(quantizer.get_config()),
               tf.keras.utils.deserialize_keras_object(tf.keras.utils.serialize_keras_object(quantizer))):
    assert twin.get_config() == quantizer.get_config()
    assert (twin.name, twin.temperature, twin.num_centers) == ("q", 0.7, 5)
    np.testing.assert_array_equal(twin.centers, quantizer.centers)


def test_mixed_precision_changes_no_symbol():
  # Multiples of 1/64 are exact in float16; float16 distances to centers near 5 are not.
  z = np.arange(-640, 640, dtype=np.float32) / 64
  centers = np.linspace(-5, 5, 41) + 1e-3
  expected = dc.layers.Quantizer(41, centers=centers)(tf.constant(z))
  tf.keras.mixed_precision.set_global_policy("mixed_float16")
  try:
    mixed = dc.layers.Quantizer(41, centers=centers)(tf.constant(z, tf.float16))
  finally:
    tf.keras.mixed_precision.set_global_policy("float32")
  np.testing.assert_array_equal(mixed.symbols, expected.symbols)
  assert mixed.values.dtype == tf.float32
  np.testing.assert_array_equal(mixed.values, expected.values)
