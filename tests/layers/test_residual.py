"""`ResidualUnit`: the identity at first, then x + conv(relu(conv(x))), or, with a bottleneck, three convolutions."""

import numpy as np
import tensorflow as tf

import deepcomp_tf as dc


def _input(filters):
  return tf.constant(np.random.default_rng(0).normal(size=[2, 5, 7, filters]), tf.float32)


def _randomize(layer):
  layer.set_weights([np.random.default_rng(1).normal(0, 0.2, w.shape) for w in layer.get_weights()])


def test_new_unit_is_the_identity_and_learns():
  unit, x = dc.layers.ResidualUnit(6), _input(6)
  with tf.GradientTape() as tape:
    y = unit(x)
    loss = tf.reduce_sum(tf.square(y + 1.0))
  np.testing.assert_array_equal(y, x)
  assert np.abs(tape.gradient(loss, unit.conv2.kernel)).max() > 0


def _float64(layer):
  return [variable.numpy().astype(np.float64) for variable in layer.weights]


def _convolution3x3(x, kernel, bias):
  padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
  return bias + sum(padded[:, dy:dy + x.shape[1], dx:dx + x.shape[2]] @ kernel[dy, dx]
                    for dy in range(3) for dx in range(3))


def test_formula():
  unit, x = dc.layers.ResidualUnit(3), _input(3)
  unit(x)
  _randomize(unit)
  kernel1, bias1, kernel2, bias2 = _float64(unit)
  inner = np.maximum(_convolution3x3(x.numpy().astype(np.float64), kernel1, bias1), 0)
  expected = x.numpy() + _convolution3x3(inner, kernel2, bias2)
  np.testing.assert_allclose(unit(x), expected, rtol=1e-4, atol=1e-4)
  assert expected.min() < 0  # no activation after the sum


def test_formula_with_a_bottleneck():
  unit, x = dc.layers.ResidualUnit(6, bottleneck=2), _input(6)
  np.testing.assert_array_equal(unit(x), x)
  _randomize(unit)
  kernel1, bias1, kernel2, bias2, kernel3, bias3 = _float64(unit)
  inner = np.maximum(x.numpy().astype(np.float64) @ kernel1[0, 0] + bias1, 0)
  inner = np.maximum(_convolution3x3(inner, kernel2, bias2), 0)
  np.testing.assert_allclose(unit(x), x.numpy() + inner @ kernel3[0, 0] + bias3, rtol=1e-4, atol=1e-4)
  assert unit.count_params() == (6 * 2 + 2) + (9 * 2 * 2 + 2) + (2 * 6 + 6)


def test_round_trips(tmp_path):
  model = tf.keras.Sequential([tf.keras.Input([None, None, 4]), dc.layers.ResidualUnit(4, name="unit")])
  _randomize(model)
  model.save(tmp_path / "unit.keras")
  loaded = tf.keras.models.load_model(tmp_path / "unit.keras")
  np.testing.assert_array_equal(loaded(_input(4)), model(_input(4)))
  assert loaded.get_layer("unit").filters == 4


def test_unit_has_two_convolutions_of_parameters():
  unit = dc.layers.ResidualUnit(128)
  unit(tf.zeros([1, 4, 4, 128]))
  assert unit.count_params() == 2 * (3 * 3 * 128 * 128 + 128)
