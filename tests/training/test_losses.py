"""Training losses against TensorFlow's own figures."""

import numpy as np
import tensorflow as tf

from deepcomp_tf.training import losses


def ms_ssim_and_slope(image, target):
  image = tf.constant(image)
  with tf.GradientTape() as tape:
    tape.watch(image)
    value = losses.ms_ssim(image, tf.constant(target))
  return value.numpy(), tape.gradient(value, image).numpy()


def test_ms_ssim_has_tensorflows_value_and_slope():
  rng = np.random.default_rng(0)
  target = rng.uniform(0, 255, [2, 48, 56, 3]).astype(np.float32)
  image = (target + rng.normal(0, 30, target.shape)).astype(np.float32)
  value, slope = ms_ssim_and_slope(image, target)
  weights = np.array([0.0448, 0.2856, 0.3001])
  with tf.GradientTape() as tape:
    variable = tf.Variable(image)
    expected = tf.reduce_mean(tf.image.ssim_multiscale(variable, target, 255.0, tuple(weights / weights.sum())))
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(slope, tape.gradient(expected, variable), rtol=1e-4, atol=1e-9)


def test_a_crop_that_runs_against_its_target_has_no_slope_and_leaves_the_others_theirs():
  target = np.random.default_rng(0).uniform(0, 255, [2, 48, 48, 3]).astype(np.float32)
  image = np.stack([255 - target[0], 0.5 * target[1]])
  _, slope = ms_ssim_and_slope(image, target)
  assert not slope[0].any() and slope[1].any() and np.isfinite(slope).all()
