"""The bottleneck unit: its geometry, its strides and dilation rates, its round trips."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc


def _randomized(unit, x):
  """Builds a unit and gives its batch normalizations weights and statistics that matter."""
  unit(x)
  rng = np.random.default_rng(0)
  for layer in (unit.bn1, unit.bn2, unit.bn3, unit.bn_projection):
    for variable in layer.variables if layer else ():
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  return unit


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
@pytest.mark.parametrize("size, strides, expected", [(14, 1, 14), (14, 2, 7), (15, 2, 8), (1, 2, 1)])
def test_shape(stride_in, size, strides, expected):
  unit = dc.layers.Bottleneck(4, strides, stride_in=stride_in)
  assert unit(tf.zeros([2, size, size + 2, 6])).shape == (2, expected, (size + 2 + strides - 1) // strides, 16)


def test_matches_a_computation_by_hand():
  # On one position, a 3x3 convolution is its central weights.
  x = np.array([1.0, -2.0, 0.5], np.float32)
  unit = _randomized(dc.layers.Bottleneck(2), x.reshape(1, 1, 1, 3))

  def normalized(y, layer):
    gamma, beta, mean, variance = (v.numpy().astype(np.float64) for v in (
        layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance))
    return (y - mean) / np.sqrt(variance + 1e-5) * gamma + beta

  y = np.maximum(normalized(x @ unit.conv1.kernel.numpy()[0, 0], unit.bn1), 0)
  y = np.maximum(normalized(y @ unit.conv2.kernel.numpy()[1, 1], unit.bn2), 0)
  y = normalized(y @ unit.conv3.kernel.numpy()[0, 0], unit.bn3)
  shortcut = normalized(x @ unit.projection.kernel.numpy()[0, 0], unit.bn_projection)
  np.testing.assert_allclose(unit(x.reshape(1, 1, 1, 3))[0, 0, 0], np.maximum(shortcut + y, 0), rtol=1e-5, atol=1e-6)


def test_shortcut_is_the_identity_where_the_shape_stays():
  unit = dc.layers.Bottleneck(4)
  x = tf.random.stateless_uniform([1, 5, 5, 16], [1, 2])
  unit(x)
  unit.bn3.gamma.assign(tf.zeros([16]))
  assert unit.projection is None
  np.testing.assert_array_equal(unit(x), x)


@pytest.mark.parametrize("stride_in, rate", [("conv1", 2), ("conv2", 1)])
@pytest.mark.parametrize("channels", [6, 16])
@pytest.mark.parametrize("size", [12, 13])
def test_a_stride_given_up_for_a_rate_computes_the_same_at_every_second_position(stride_in, rate, channels, size):
  x = tf.random.stateless_normal([2, size, size, channels], [3, 4])
  strided = _randomized(dc.layers.Bottleneck(4, 2, stride_in=stride_in), x)
  dense = dc.layers.Bottleneck(4, 1, dilation_rate=rate, stride_in=stride_in)
  dense(x)
  dense.set_weights(strided.get_weights())
  np.testing.assert_allclose(dense(x)[:, ::2, ::2], strided(x), atol=1e-5)


def test_round_trip(tmp_path):
  inputs = tf.keras.Input([8, 8, 6])
  model = tf.keras.Model(inputs, dc.layers.Bottleneck(4, 2, stride_in="conv2", name="unit")(inputs))
  model.save(tmp_path / "model.keras")
  twin = tf.keras.models.load_model(tmp_path / "model.keras")
  x = tf.random.stateless_normal([1, 8, 8, 6], [0, 0])
  np.testing.assert_array_equal(twin(x), model(x))
  assert twin.get_layer("unit").get_config() == model.get_layer("unit").get_config()


def test_mixed_precision():
  tf.keras.mixed_precision.set_global_policy("mixed_float16")
  try:
    unit = dc.layers.Bottleneck(4)
    assert unit(tf.zeros([1, 8, 8, 6])).dtype == tf.float16
    assert unit.conv1.kernel.dtype == tf.float32
  finally:
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("arguments, message", [
    ({"filters": 0}, "filters=0"), ({"filters": 4, "stride_in": "conv3"}, "'conv3'"),
    ({"filters": 4, "strides": 2, "dilation_rate": 2, "stride_in": "conv2"}, "dilation_rate=2"),
])
def test_bad_arguments(arguments, message):
  with pytest.raises(dc.DeepcompError, match=message):
    dc.layers.Bottleneck(**arguments)
