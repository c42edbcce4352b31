"""Distortion of a reconstruction: PSNR, SSIM and MS-SSIM, as TensorFlow computes them on RGB in 0..255."""

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
