"""Steps of one optimizer or several: against hand-computed ones and those of TensorFlow Addons."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.training import optimizers

GRADIENT = np.array([[3.0], [-0.5]], np.float32)


def _layers():
  layers = [tf.keras.layers.Dense(1, use_bias=False, name=name) for name in ("body", "head")]
  for layer in layers:
    layer(tf.zeros([1, 2]))
    layer.kernel.assign([[0.0], [0.0]])
  return layers


def _make(kind, rate):
  schedule = optimizers.falling(rate, 10)
  return optimizers.adam(schedule) if kind == "adam" else optimizers.sgd(schedule, 0.9 if kind == "momentum" else 0.0)


def _two_rates(kind, layers):
  return optimizers.Optimizers({f"{layer.name}_optimizer": (_make(kind, rate), {f"{layer.name}/kernel": layer.kernel})
                                for layer, rate in zip(layers, (0.001, 0.01))})


def _step(optimizer, layers, gradient=GRADIENT):
  loss = lambda: tf.add_n([tf.reduce_sum(tf.multiply(gradient, layer.kernel)) for layer in layers])
  optimizer.replica_step(lambda: (loss(), {}))()


@pytest.mark.parametrize("kind, move", [("sgd", lambda rate: rate * GRADIENT), ("adam", lambda rate: rate * np.sign(GRADIENT))])
def test_two_rates(kind, move):
  """The first step of either optimizer, and those after it while the rates fall."""
  layers = _layers()
  optimizer = _two_rates(kind, layers)
  for step in range(6):
    before = [layer.kernel.numpy() for layer in layers]
    rates = [rate * (1 - step / 10) ** 0.9 for rate in (0.001, 0.01)]
    np.testing.assert_allclose([float(rate) for rate in optimizer.learning_rates().values()], rates, rtol=1e-5)
    _step(optimizer, layers)
    for layer, old, rate in zip(layers, before, rates):
      np.testing.assert_allclose(old - layer.kernel.numpy(), move(rate), rtol=1e-3)
  assert list(optimizer.learning_rates()) == ["body_learning_rate", "head_learning_rate"]


@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_two_rates_are_those_of_tensorflow_addons(kind):
  addons = pytest.importorskip("tensorflow_addons", reason="TensorFlow Addons has no wheels for this version of Python")
  ours, theirs = _layers(), _layers()
  schedules = [optimizers.falling(rate, 10) for rate in (0.001, 0.01)]
  legacy = [tf.keras.optimizers.legacy.Adam(rate) if kind == "adam" else
            tf.keras.optimizers.legacy.SGD(rate, momentum=0.9) for rate in schedules]
  reference = addons.optimizers.MultiOptimizer(list(zip(legacy, theirs)))
  optimizer = _two_rates(kind, ours)
  rng = np.random.default_rng(0)
  for _ in range(8):
    gradient = rng.normal(size=[2, 1]).astype(np.float32)
    _step(optimizer, ours, gradient)
    reference.apply_gradients([(tf.constant(gradient), layer.kernel) for layer in theirs])
  for layer, other in zip(ours, theirs):
    np.testing.assert_allclose(layer.kernel, other.kernel, rtol=1e-4)
    assert np.abs(layer.kernel.numpy()).min() > 1e-5


def test_the_norm_of_all_gradients_is_clipped():
  layers = _layers()
  optimizer = optimizers.Optimizers({"optimizer": (optimizers.sgd(1.0, 0.0), {
      layer.name: layer.kernel for layer in layers})}, gradient_clip=2.0)
  _step(optimizer, layers)
  moved = np.stack([layer.kernel.numpy() for layer in layers])
  assert np.linalg.norm(moved) == pytest.approx(2.0, rel=1e-5)
  np.testing.assert_allclose(moved, -2.0 * GRADIENT / np.linalg.norm([GRADIENT, GRADIENT])
                             * np.ones([2, 1, 1]), rtol=1e-5)


def test_scaled_losses_give_the_same_steps():
  """And a step whose gradient is not finite is left out, with the scale halved."""
  plain, scaled = _layers(), _layers()
  one, other = (optimizers.Optimizers({"optimizer": (optimizers.sgd(0.1, 0.9), {layer.name: layer.kernel for layer in layers})},
                                      gradient_clip=3.0, scale_losses=scales)
                for layers, scales in ((plain, False), (scaled, True)))
  for _ in range(3):
    _step(one, plain)
    _step(other, scaled)
  for layer, twin in zip(plain, scaled):
    np.testing.assert_allclose(layer.kernel, twin.kernel, rtol=1e-5)
  before, scale = scaled[0].kernel.numpy(), float(other.named_variables()["optimizer/loss_scale"])
  _step(other, scaled, np.float32([[np.inf], [1.0]]))
  np.testing.assert_array_equal(scaled[0].kernel, before)
  assert float(other.named_variables()["optimizer/loss_scale"]) == scale / 2


def test_two_optimizers_do_not_share_a_scale():
  layers = _layers()
  with pytest.raises(dc.DeepcompError, match="expected one optimizer where losses are scaled.*bfloat16 needs none"):
    optimizers.Optimizers({layer.name: (optimizers.sgd(0.1, 0.9), {"kernel": layer.kernel}) for layer in layers},
                          scale_losses=True)


def test_averages_do_not_know_the_weights_before_the_start():
  """A start may replace the weights that an optimizer was built with; an average of momentum 0.999 would keep them for long."""
  layer = _layers()[0]
  layer.kernel.assign([[100.0], [100.0]])
  optimizer = optimizers.Optimizers(
      {"optimizer": (optimizers.adam(0.1, use_ema=True, ema_momentum=0.75), {"kernel": layer.kernel})})
  layer.kernel.assign([[1.0], [1.0]])
  step = tf.function(lambda: _step(optimizer, [layer]))
  weights = []
  for _ in range(3):
    step()
    weights.append(layer.kernel.numpy())
  expected = 0.75 * (0.75 * weights[0] + 0.25 * weights[1]) + 0.25 * weights[2]
  with optimizers.averaged_weights(optimizer):
    np.testing.assert_allclose(layer.kernel, expected, rtol=1e-5)
  np.testing.assert_allclose(layer.kernel, weights[-1])


@pytest.mark.parametrize("of", ["steps", "gradients"])
def test_what_momentum_sums(of):
  """By hand, where the learning rate drops; gradients as TensorFlow's MomentumOptimizer sums them."""
  rate = tf.keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.1])  # the first two steps, and the third
  layer = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
  layer.build([None, 1])
  optimizer = optimizers.sgd(rate, 0.5, of)
  old = tf.Variable([[0.0]])
  step = tf.Variable(0, dtype=tf.int64)
  theirs = tf.compat.v1.train.MomentumOptimizer(lambda: rate(step), 0.5)
  optimizer.build([layer.kernel])
  for number, expected in enumerate({"steps": (-1.0, -2.5, -3.35), "gradients": (-1.0, -2.5, -2.675)}[of]):
    tf.function(lambda: optimizer.apply_gradients([(tf.constant([[1.0]]), layer.kernel)]), autograph=False)()
    assert float(layer.kernel[0, 0]) == pytest.approx(expected)
    if of == "gradients":
      step.assign(number)
      theirs.apply_gradients([(tf.constant([[1.0]]), old)])
      assert float(old[0, 0]) == pytest.approx(expected)
