"""SSIM and MS-SSIM (Wang et al. 2003, 2004) as terms of a loss: fast, and with gradients that are finite."""

import functools

import numpy as np
from etils import epy

with epy.lazy_imports():  # the constants are `evaluation.metrics`', too
  import tensorflow as tf

# Weights of MS-SSIM's scales, the finest first (Wang et al. 2003); of fewer scales, they are divided by their sum.
MS_SSIM_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# The Gaussian window, of 11 pixels and deviation 1.5, and what keeps quotients of values in 0..255 finite (Wang et al. 2004).
WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
WINDOW /= WINDOW.sum()
LUMINANCE_CONSTANT, STRUCTURE_CONSTANT = (0.01 * 255) ** 2, (0.03 * 255) ** 2

# Correlations of a scale are taken at least at this before they are raised to a power below 1, of which the gradient at 0 is
# infinite.
_SMALLEST_CORRELATION = 1e-3


def smallest_ms_ssim(scales=3):
  """Shorter side in pixels that MS-SSIM needs: the window of 11 pixels has to fit into the last scale."""
  return WINDOW.size << (scales - 1)


def ssim_and_ms_ssim(image, target, scales=3):
  """Mean SSIM, and mean MS-SSIM of the finest scales, for crops too small for all five: TensorFlow's values, in half the time.

  Gaussian windows are products with two banded matrices.

  Args:
    image, target: float `[batch, h, w, 3]` pixels on the 0..255 scale, h and w multiples of 2^(scales - 1) and at least
      `smallest_ms_ssim(scales)`; in a graph they need not be static.
    scales: 1..5.

  Returns:
    two scalars.
  """
  planes = tf.transpose(tf.stack([image, target]), [0, 1, 4, 2, 3])
  correlations, ssim = [], None
  weights = np.array(MS_SSIM_SCALES[:scales]) / sum(MS_SSIM_SCALES[:scales])
  for scale in range(scales):
    if scale:
      height, width = _sides(planes)
      planes = tf.reduce_mean(tf.reshape(planes, [2, -1, 3, height // 2, 2, width // 2, 2]), axis=[4, 6])
    luminance, structure = _similarities(*tf.unstack(planes))
    both = tf.reduce_mean(luminance * structure, axis=[2, 3])
    ssim = both if ssim is None else ssim
    correlations.append(both if scale + 1 == scales else tf.reduce_mean(structure, axis=[2, 3]))
  powers = [tf.maximum(part, _SMALLEST_CORRELATION) ** weight for part, weight in zip(correlations, weights)]
  return tf.reduce_mean(ssim), tf.reduce_mean(functools.reduce(tf.multiply, powers))


def ms_ssim(image, target):
  """The second of `ssim_and_ms_ssim`."""
  return ssim_and_ms_ssim(image, target)[1]


def _similarities(image, target):
  """SSIM's two factors, of luminance and of contrast and structure, for planes `[batch, channels, h, w]`: `[..., h-10, w-10]`."""
  rows, columns = map(_window_matrix, _sides(image))
  blurred = lambda x: tf.linalg.matmul(tf.linalg.matmul(rows, x), columns, transpose_b=True)
  mean, mean_target = blurred(image), blurred(target)
  product, squares = 2.0 * mean * mean_target, tf.square(mean) + tf.square(mean_target)
  luminance = (product + LUMINANCE_CONSTANT) / (squares + LUMINANCE_CONSTANT)
  structure = ((2.0 * blurred(image * target) - product + STRUCTURE_CONSTANT)
               / (blurred(tf.square(image) + tf.square(target)) - squares + STRUCTURE_CONSTANT))
  return luminance, structure


def _sides(planes):
  """Height and width of `[..., h, w]`: ints, or scalar tensors where only the running graph knows them."""
  return [known or dynamic for known, dynamic in zip(planes.shape[-2:], tf.unstack(tf.shape(planes)[-2:]))]


def _window_matrix(size):
  """`[size - 10, size]`: the Gaussian window of 11 pixels at each of its places."""
  window = tf.constant([0.0, *WINDOW, 0.0], tf.float32)
  offsets = tf.range(size)[tf.newaxis] - tf.range(size - WINDOW.size + 1)[:, tf.newaxis]
  return tf.gather(window, tf.clip_by_value(offsets + 1, 0, WINDOW.size + 1))
