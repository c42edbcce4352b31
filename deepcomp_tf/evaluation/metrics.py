"""Distortion of a reconstruction: PSNR, SSIM and MS-SSIM, as TensorFlow computes them on RGB in 0..255."""

import numpy as np
import tensorflow as tf

# MS-SSIM halves the image four times and then needs an 11x11 window.
MS_SSIM_MINIMUM = 11 * 16

NAMES = ("psnr", "ssim", "ms_ssim")


def distortion(original, reconstruction):
  """PSNR in dB, SSIM and MS-SSIM of one image.

  Args:
    original, reconstruction: uint8 `[h, w, 3]`.

  Returns:
    dict of floats by the names in `NAMES`. Where the image is too small for a metric (11 pixels for SSIM,
    176 for MS-SSIM, on its shorter side) the value is NaN.
  """
  original, reconstruction = tf.convert_to_tensor(original), tf.convert_to_tensor(reconstruction)
  shortest = min(original.shape[:2])
  return {
      "psnr": float(tf.image.psnr(original, reconstruction, 255)),
      "ssim": float(tf.image.ssim(original, reconstruction, 255)) if shortest >= 11 else float("nan"),
      "ms_ssim": (float(tf.image.ssim_multiscale(original, reconstruction, 255))
                  if shortest >= MS_SSIM_MINIMUM else float("nan")),
  }


def means(figures):
  """Means of dicts of figures. NaNs, of images too small for a metric, are left out; so is a figure that none has."""
  result = {}
  for key in figures[0]:
    values = np.array([figure[key] for figure in figures], np.float64)
    values = values[~np.isnan(values)]
    if values.size:
      result[key] = float(values.mean())
  return result
