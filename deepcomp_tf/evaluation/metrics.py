"""Distortion of a reconstruction on RGB in 0..255: PSNR, SSIM and MS-SSIM, with TensorFlow's figures in a third of the time."""

import numpy as np
from scipy import ndimage

from deepcomp_tf import similarity

# MS-SSIM halves the image four times and then needs an 11x11 window.
MS_SSIM_MINIMUM = similarity.smallest_ms_ssim(len(similarity.MS_SSIM_SCALES))

NAMES = ("psnr", "ssim", "ms_ssim")


def distortion(original, reconstruction):
  """PSNR in dB, SSIM and MS-SSIM of an image.

  Args:
    original, reconstruction: uint8 `[h, w, 3]`.

  Returns:
    dict of floats by the names in `NAMES`. PSNR of an exact reconstruction is infinite. Where the image is too small for a metric
    (11 pixels for SSIM, 176 for MS-SSIM, on its shorter side) the value is NaN.
  """
  # A plane for each channel: the Gaussian windows run along the last axes.
  planes = [np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32) for image in (original, reconstruction)]
  squared_error = np.mean(np.square(planes[0] - planes[1]), dtype=np.float64)
  ssim, ms_ssim = _ssim_and_ms_ssim(*planes)
  psnr = float(10 * np.log10(255 ** 2 / squared_error)) if squared_error else float("inf")
  return {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}


def _ssim_and_ms_ssim(image, target):
  """SSIM and MS-SSIM of float32 `[3, h, w]`, NaN where it is too small.

  What `similarity.ssim_and_ms_ssim` computes for training, of any size and without slopes, in a time that grows with the pixels.
  """
  shortest = min(image.shape[1:])
  scales = len(similarity.MS_SSIM_SCALES) if shortest >= MS_SSIM_MINIMUM else 1 if shortest >= similarity.WINDOW.size else 0
  parts, ssim = [], float("nan")
  for scale in range(scales):
    if scale:
      image, target = _halved(image), _halved(target)
    luminance, structure = _similarities(image, target)
    both = np.mean(luminance * structure, axis=(1, 2), dtype=np.float64)
    if not scale:
      ssim = float(both.mean())
    parts.append(both if scale + 1 == scales else np.mean(structure, axis=(1, 2), dtype=np.float64))
  if scales <= 1:
    return ssim, float("nan")
  powers = np.maximum(parts, 0.0) ** np.reshape(similarity.MS_SSIM_SCALES, [-1, 1])
  return ssim, float(powers.prod(axis=0).mean())


def _similarities(image, target):
  """SSIM's two factors, of luminance and of contrast and structure: `[3, h-10, w-10]`."""
  mean, mean_target = _blurred(image), _blurred(target)
  product, squares = 2 * mean * mean_target, mean ** 2 + mean_target ** 2
  luminance = (product + similarity.LUMINANCE_CONSTANT) / (squares + similarity.LUMINANCE_CONSTANT)
  structure = ((2 * _blurred(image * target) - product + similarity.STRUCTURE_CONSTANT)
               / (_blurred(image ** 2 + target ** 2) - squares + similarity.STRUCTURE_CONSTANT))
  return luminance, structure


def _blurred(planes):
  """`[3, h, w]` -> `[3, h-10, w-10]`: means under a Gaussian window wherever it fits."""
  border = similarity.WINDOW.size // 2
  for axis in (1, 2):
    planes = ndimage.correlate1d(planes, similarity.WINDOW, axis)
  return planes[:, border:-border, border:-border]


def _halved(planes):
  """Means of 2x2 pixels; of an odd side, the last row or column counts twice."""
  planes = np.pad(planes, [(0, 0), (0, planes.shape[1] % 2), (0, planes.shape[2] % 2)], "edge")
  return (planes[:, ::2, ::2] + planes[:, ::2, 1::2] + planes[:, 1::2, ::2] + planes[:, 1::2, 1::2]) / 4


def means(figures):
  """Means of dicts of figures over the images where they are finite.

  NaNs, of images too small for a metric, are left out. So is the infinite PSNR of images that are reproduced exactly, such as
  plain colours: a single such image would make the mean infinite, and any cap would be arbitrary. Tables say how many there are
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
