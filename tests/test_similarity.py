"""SSIM and MS-SSIM against TensorFlow's own figures."""

import numpy as np
import pytest
import tensorflow as tf

from deepcomp_tf import similarity


def ms_ssim_and_slope(image, target):
  image = tf.constant(image)
  with tf.GradientTape() as tape:
    tape.watch(image)
    value = similarity.ms_ssim(image, tf.constant(target))
  return value.numpy(), tape.gradient(value, image).numpy()


@pytest.mark.parametrize("scales", [3, 4])
def test_ssim_and_ms_ssim_have_tensorflows_values_and_slopes(scales):
  rng = np.random.default_rng(0)
  target = rng.uniform(0, 255, [2, 96, 88, 3]).astype(np.float32)
  image = tf.constant((target + rng.normal(0, 30, target.shape)).astype(np.float32))
  weights = np.array([0.0448, 0.2856, 0.3001, 0.2363])[:scales]
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(image)
    found = similarity.ssim_and_ms_ssim(image, tf.constant(target), scales)
    expected = (tf.reduce_mean(tf.image.ssim(image, target, 255.0)),
                tf.reduce_mean(tf.image.ssim_multiscale(image, target, 255.0, tuple(weights / weights.sum()))))
  for ours, theirs in zip(found, expected):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(ours, image), tape.gradient(theirs, image), rtol=1e-3, atol=1e-9)


def test_a_crop_that_runs_against_its_target_has_no_slope_and_leaves_the_others_theirs():
  target = np.random.default_rng(0).uniform(0, 255, [2, 48, 48, 3]).astype(np.float32)
  image = np.stack([255 - target[0], 0.5 * target[1]])
  _, slope = ms_ssim_and_slope(image, target)
  assert not slope[0].any() and slope[1].any() and np.isfinite(slope).all()


def test_sizes_that_only_the_graph_knows():
  image, target = np.random.default_rng(0).uniform(0, 255, [2, 1, 48, 56, 3]).astype(np.float32)
  dynamic = tf.function(similarity.ssim_and_ms_ssim, input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)] * 2)
  np.testing.assert_allclose(dynamic(image, target), similarity.ssim_and_ms_ssim(image, target), atol=1e-6)
