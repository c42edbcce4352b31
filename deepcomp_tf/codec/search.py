"""Better symbols for a photo than the encoder's, which every decoder reads as before: `Codec.compress(image, effort=...)`.

The loss is that of encoders that are trained on: MSE + w (1 - MS-SSIM) + v (1 - SSIM) + lambda bits per pixel, the bits those of
the operating point's tables. A sweep asks what would change if a symbol were lower or higher by 1: the distortion, by its
gradient and curvature; the symbol's bits, by its table; and the bits of the symbols that are predicted from it, by the gradient
of `TableEntropy`. Of the changes that pay, those are made that pay most among their neighbours, since changes close to each
other add up in the picture. The best symbols that any sweep saw are taken, the encoder's among them.

An aim other than the picture adds a term to the loss. It is an object with `picture` and `bits`, the factors on MSE + w (1 -
MS-SSIM) + v (1 - SSIM) and on lambda, and `loss`, a TensorFlow function of the values of symbols, float `[1, h, w, C]`, and the
photo, uint8 `[1, H, W, 3]`, that returns a scalar. Of a large photo they are those of a tile.
"""

import functools
import itertools
import threading

import numpy as np
import tensorflow as tf

from deepcomp_tf import similarity
from deepcomp_tf.codec import tiling
from deepcomp_tf.codec.entropy_coder import EntropyCoder
from deepcomp_tf.codec.table_entropy import TableEntropy
from deepcomp_tf.representation import STRIDE

# Sweeps of a tile, by the effort.
SWEEPS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24)

# Edge of a tile without its margin, and the margin, in positions: multiples of 8, so that positions are coded in the same
# passes as on the whole map. Gradients take far more memory than encoding does.
TILE, MARGIN = 96, 8

# Rows, columns and channels of the neighbourhoods in which one change is made at a time.
_NEIGHBOURHOOD = (3, 3, 3)

# What changes are charged for their curvature, over its estimate: at first,
# and how much more after a sweep that was for the worse.
_CAUTION, _MORE_CAUTION = 1.0, 1.5

# Of the curvature's estimate: the step over the distance between centers, and the positions that it is a mean over.
_STEP, _WINDOW = 0.3, 7

# Where a tile's places are shifted to, in symbols, so that costs are taken towards the symbol above or below.
_SHIFT = 1e-3

# Bits per pixel of an operating point's files, and the weights of bits per pixel, of 1 - MS-SSIM and of 1 - SSIM there; between
# them, and beyond, straight lines through the logarithms.
_WEIGHTS = ((0.098, 4500.0, 3000.0, 800.0), (0.338, 250.0, 300.0, 400.0), (0.680, 98.0, 300.0, 500.0))


class Search:
  """Finds the symbols of photos, for one operating point.

  Args:
    model: its `CompressionModel`.
    context_model: its `ContextModel`.
    bits_per_pixel: what its files have on average.
    aim: see above; None for the picture alone.
  """

  def __init__(self, model, context_model, bits_per_pixel, aim=None):
    self._aim = aim
    self._decoder, self._context, self._coder = model.decoder, context_model, EntropyCoder(context_model)
    self._centers = model.quantizer.centers.numpy()
    self._gaps = np.diff(self._centers)
    self._entropy = TableEntropy(context_model, self._centers)
    rates, *weights = np.log(np.array(_WEIGHTS).T)
    place = np.log(bits_per_pixel)
    self._rate, self._ms_ssim, self._ssim = (float(np.exp(_through(place, rates, weight))) for weight in weights)
    if aim:
      self._rate *= aim.bits
    self._graph = functools.lru_cache(maxsize=None)(self._make_distortion)
    self._one_at_a_time = threading.Lock()  # each search takes all cores, and much memory

  def improve(self, image, symbols, sweeps, rate=1.0):
    """Symbols with no larger loss than those given; the same each time for the same image on the same machine.

    Args:
      image, symbols, rate: see `Codec.improve`.
      sweeps: at least 1.
    """
    with self._one_at_a_time:
      result = symbols.copy()
      places = _tiles(symbols.shape)
      for (y0, y1, top, bottom), (x0, x1, left, right) in places:
        free = np.zeros([bottom - top, right - left, 1], bool)
        free[y0 - top:y1 - top, x0 - left:x1 - left] = True
        part = self._search(_pixels(image, top, bottom, left, right), result[top:bottom, left:right], free, sweeps, rate)
        result[y0:y1, x0:x1] = part[y0 - top:y1 - top, x0 - left:x1 - left]
      # A tile's search does not see all symbols outside that are predicted from the tile's.
      if len(places) > 1 and self._loss(image, result, rate) > self._loss(image, symbols, rate):
        return symbols
      return result

  def loss(self, image, symbols, rate=1.0):
    """The loss of symbols of an image, over its tiles where it is large: the less the better."""
    with self._one_at_a_time:
      return self._loss(image, symbols, rate)

  def _loss(self, image, symbols, rate):
    total = pixels = 0
    for (_, _, top, bottom), (_, _, left, right) in _tiles(symbols.shape):
      target, values = _pixels(image, top, bottom, left, right), self._centers[symbols[top:bottom, left:right]]
      area = target.shape[0] * target.shape[1]
      total, pixels = total + area * self._distortion(values, target, gradient=False)[0], pixels + area
    return total / pixels + rate * self._rate * self._coder.bits(symbols) / (image.shape[0] * image.shape[1])

  def _search(self, target, symbols, free, sweeps, rate):
    """The best symbols of a tile; `free` `[h, w, 1]` says which may change."""
    centers, random = self._centers, np.random.default_rng(0)
    rate *= self._rate / (target.shape[0] * target.shape[1])
    best, least, curvature, caution = None, np.inf, None, _CAUTION
    for sweep in range(sweeps + 1):
      last = sweep == sweeps
      distortion, slope = self._distortion(centers[symbols], target, gradient=not last)
      costs = self._costs_of(symbols)
      loss = distortion + rate * costs[1].sum()
      if loss < least:
        best, least = (symbols, slope, costs), loss
      else:
        caution *= _MORE_CAUTION
      symbols, slope, costs = best
      if last:
        return symbols
      if curvature is None:
        curvature = self._curvature(centers[symbols], target, slope, random)
      influence = self._influence(symbols, costs, random)
      change, gain = np.zeros(symbols.shape, np.int8), np.zeros(symbols.shape, np.float32)
      for step in (-1, 1):
        there = symbols.astype(np.int32) + step
        known = free & (there >= 0) & (there < len(centers))
        distance = centers[np.clip(there, 0, len(centers) - 1)] - centers[symbols]
        saved = -(slope * distance + 0.5 * caution * curvature * distance ** 2
                  + rate * (costs[1 + step] - costs[1] + step * influence))
        better = known & (saved > gain)
        change[better], gain[better] = step, saved[better]
      most = tf.nn.max_pool3d(gain[np.newaxis, ..., np.newaxis], _NEIGHBOURHOOD, 1, "SAME").numpy()[0, ..., 0]
      change[gain < most] = 0
      symbols = (symbols + change).astype(np.uint8)

  def _distortion(self, values, target, gradient=True):
    """The loss without its bits: values float `[h, w, C]`, target uint8 `[H, W, 3]` -> float, and its gradient `[h, w, C]`."""
    scales = sum(min(target.shape[:2]) >= similarity.smallest_ms_ssim(count) for count in range(1, 6))
    result = self._graph(scales, gradient)(values[np.newaxis], target[np.newaxis])
    return (float(result[0]), result[1].numpy()[0]) if gradient else (float(result), None)

  def _make_distortion(self, scales, gradient):
    """The graph of `_distortion`, for images that have room for so many scales of MS-SSIM."""
    decoder, aim, unit = self._decoder, self._aim, 1 << max(0, scales - 1)

    def distortion(values, photo):
      target, size = tf.cast(photo, tf.float32), tf.shape(photo)
      decoded = tf.clip_by_value(decoder(values)[:, :size[1], :size[2]], 0.0, 255.0)
      result = tf.reduce_mean(tf.math.squared_difference(decoded, target))
      if scales:
        margins = [[0, 0], [0, -size[1] % unit], [0, -size[2] % unit], [0, 0]]
        ssim, ms_ssim = similarity.ssim_and_ms_ssim(*(tf.pad(x, margins, "SYMMETRIC") for x in (decoded, target)), scales)
        result += self._ssim * (1.0 - ssim) + self._ms_ssim * (1.0 - ms_ssim)
      return aim.picture * result + aim.loss(values, photo) if aim else result

    def with_gradient(values, photo):
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        result = distortion(values, photo)
      return result, tape.gradient(result, values)

    return tf.function(with_gradient if gradient else distortion, autograph=False, jit_compile=False, input_signature=[
        tf.TensorSpec([1, None, None, self._context.channels], tf.float32), tf.TensorSpec([1, None, None, 3], tf.uint8)])

  def _curvature(self, values, target, slope, random):
    """Second derivatives of the distortion: its Hessian's diagonal by one random direction, as means over a few positions."""
    signs, step = random.choice(np.float32([-1, 1]), values.shape), _STEP * float(np.mean(self._gaps))
    single = signs * (self._distortion(values + step * signs, target)[1] - slope) / step
    near, mean = tf.nn.avg_pool2d(single[np.newaxis], _WINDOW, 1, "SAME").numpy()[0], single.mean((0, 1))
    return np.maximum((near + mean) / 2, 0.3 * np.abs(mean))

  def _costs_of(self, symbols):
    """What the tables charge for each symbol less 1, as it is, and plus 1: bits `[3, h, w, C]`."""
    model, (tables, places) = self._context, self._context.entries_of(symbols)
    costs = [model.costs[tables, np.clip(places + step, 0, model.costs.shape[1] - 1)] for step in (-1, 0, 1)]
    return np.float32(costs).reshape(3, model.channels, *symbols.shape[:2]).transpose(0, 2, 3, 1)

  def _influence(self, symbols, costs, random):
    """How many bits the others cost more where a symbol is larger by 1: `[h, w, C]`.

    Costs are steep to both sides of the likeliest symbol. A random side is taken for each, so that they balance.
    """
    up = random.random(symbols.shape) < 0.5
    below = np.clip(symbols.astype(np.int32) - ~up, 0, len(self._gaps) - 1)
    gaps = self._gaps[below]
    shifted = tf.constant((self._centers[symbols] + np.where(up, _SHIFT, -_SHIFT) * gaps)[np.newaxis], tf.float32)
    with tf.GradientTape() as tape:
      tape.watch(shifted)
      bits = self._entropy(shifted)
    up = below == symbols
    return tape.gradient(bits, shifted).numpy()[0] * gaps - np.where(up, costs[2] - costs[1], costs[1] - costs[0])


def _tiles(shape):
  """Tiles of a map whose shape begins so, see `tiling.tiles`."""
  return list(itertools.product(*(tiling.tiles(size, TILE, MARGIN) for size in shape[:2])))


def _pixels(image, top, bottom, left, right):
  """The pixels of some positions, as many as there are."""
  return image[top * STRIDE:bottom * STRIDE, left * STRIDE:right * STRIDE]


def _through(x, places, values):
  """A function that is linear between its values at ascending places, and goes on so beyond them."""
  index = int(np.clip(np.searchsorted(places, x), 1, len(places) - 1))
  share = (x - places[index - 1]) / (places[index] - places[index - 1])
  return values[index - 1] + share * (values[index] - values[index - 1])
