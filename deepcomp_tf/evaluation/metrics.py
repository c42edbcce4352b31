"""Distortion of a reconstruction: PSNR, SSIM and MS-SSIM, as TensorFlow computes them on RGB in 0..255."""

import numpy as np
import tensorflow as tf

# MS-SSIM halves the image four times and then needs an 11x11 window.
MS_SSIM_MINIMUM = 11 * 16

NAMES = ("psnr", "ssim", "ms_ssim")


def distortion(original, reconstruction):
  """PSNR in dB, SSIM and MS-SSIM of an image.

  Args:
    original, reconstruction: uint8 `[h, w, 3]`.

  Returns:
    dict of floats by the names in `NAMES`. PSNR of an exact reconstruction is infinite. Where the image is too small for a metric
    (11 pixels for SSIM, 176 for MS-SSIM, on its shorter side) the value is NaN.
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
  """Means of dicts of figures over the images where they are finite.

  NaNs, of images too small for a metric, are left out. So is the infinite PSNR of images that are reproduced exactly, such as
  plain
  colours: a single such image would make the mean infinite, and any cap would be arbitrary. Tables say how many there are
  (`exact`). A figure that no image has is left out of the result, which therefore is valid JSON.
  """
  result = {}
  for key in figures[0]:
    values = np.array([figure[key] for figure in figures], np.float64)
    values = values[np.isfinite(values)]
    if values.size:
      result[key] = float(values.mean())
  return result


def exact(figures):
  """How many of the images of these dicts are reproduced exactly, and so have infinite PSNR."""
  return sum(np.isposinf(figure["psnr"]) for figure in figures)
