"""Symbols chosen for one photo: a search in place of the encoder's single look.

A file's meaning is fixed by centers, tables and decoder; who chooses the symbols is free. Here the encoder's choice is where a
descent begins that minimizes, for this photo and with the tables that the file is coded with,

  MSE + w (1 - MS-SSIM) + w / 5 (1 - SSIM) + rate bits / pixels

by stochastic Gumbel annealing (Yang, Bamler, Mandt 2020): every entry lies between two centers and is drawn towards one of them,
at random at first and ever more surely.
"""

import functools
import itertools
import threading

import numpy as np
import tensorflow as tf

from deepcomp_tf.codec import tiling
from deepcomp_tf.layers import similarity
from deepcomp_tf.layers.table_entropy import TableEntropy
from deepcomp_tf.representation import STRIDE

# Steps of the descent for each effort above 0.
STEPS = (5, 8, 12, 18, 27, 40, 60, 90, 135)

# Edge of a tile in positions, without its halo: a gradient takes more memory than a look.
TILE = 64

# Temperatures of the draws, and Adam's step in units of centers and its decays.
_FIRST_TEMPERATURE, _LAST_TEMPERATURE = 0.5, 0.5 * np.exp(-3)
_STEP, _MEAN_DECAY, _SQUARE_DECAY = 0.03, 0.9, 0.99

# Bits per pixel of an operating point's files, and the weights of bits per pixel and of 1 - MS-SSIM there, chosen on validation
# photos; between them, and beyond, straight lines through the logarithms.
_WEIGHTS = ((0.098, 3700.0, 3000.0), (0.338, 430.0, 2000.0), (0.680, 120.0, 1500.0))
_SSIM_SHARE = 0.2


class Search:
  """Finds the symbols of photos, for one operating point.

  Args:
    model: its `CompressionModel`.
    context_model: its `ContextModel`.
    bits_per_pixel: what its files have on average.
  """

  def __init__(self, model, context_model, bits_per_pixel):
    self._decoder = model.decoder
    self._centers = model.quantizer.centers.numpy()
    self._entropy = TableEntropy(context_model, self._centers)
    rates, *weights = np.log(np.array(_WEIGHTS).T)
    place = np.log(bits_per_pixel)
    self._rate, self._ms_ssim = (float(np.exp(_through(place, rates, weight))) for weight in weights)
    self._one_at_a_time = threading.Lock()  # each search takes all cores, and much memory

  def improve(self, image, z_of, symbols, steps, rate=1.0):
    """Changes the encoder's symbols of a photo to better ones, tile by tile.

    Args:
      image: uint8 `[8 h, 8 w, 3]`, padded to whole blocks.
      z_of: function of a part of it, uint8 `[1, 8 h', 8 w', 3]`, that gives the representation, float32 `[1, h', w', C]`.
      symbols: uint8 `[h, w, C]`, changed in place.
      steps: of the descent.
      rate: factor on the weight of the bits.
    """
    with self._one_at_a_time:
      for rows, columns in itertools.product(*map(_tiles, symbols.shape[:2])):
        (y0, y1, top, bottom), (x0, x1, left, right) = rows, columns
        part = image[np.newaxis, top * STRIDE:bottom * STRIDE, left * STRIDE:right * STRIDE]
        around = symbols[top:bottom, left:right]
        free = np.zeros([1, *around.shape[:2], 1], np.float32)
        free[:, y0 - top:y1 - top, x0 - left:x1 - left] = 1
        around[:] = self._descend(part.astype(np.float32), np.asarray(z_of(part)), around[np.newaxis], free, steps, rate)[0]

  def _descend(self, pixels, z, symbols, free, steps, rate):
    """Symbols of a part of a photo: those that are given, changed where `free` is 1, or as they are if no better are found."""
    step, loss_of = _graphs(self, pixels.shape[1:3], z.shape[-1])
    weight = np.float32(rate * self._rate)
    places = np.where(free > 0, self._entropy.positions(z).numpy(), symbols)
    mean, square = np.zeros_like(places), np.zeros_like(places)
    for number in range(steps):
      temperature = _FIRST_TEMPERATURE * (_LAST_TEMPERATURE / _FIRST_TEMPERATURE) ** (number / steps)
      gradient = step(pixels, places, np.float32(temperature), weight, number).numpy() * free
      mean += (1 - _MEAN_DECAY) * (gradient - mean)
      square += (1 - _SQUARE_DECAY) * (gradient ** 2 - square)
      change = mean / (1 - _MEAN_DECAY ** (number + 1)) / (np.sqrt(square / (1 - _SQUARE_DECAY ** (number + 1))) + 1e-9)
      places = np.clip(places - _STEP * change, 0, len(self._centers) - 1).astype(np.float32)
    values = np.interp(places, np.arange(len(self._centers)), self._centers)
    found = np.searchsorted((self._centers[1:] + self._centers[:-1]) / 2, values).astype(np.uint8)
    before, after = (loss_of(pixels, self._centers[chosen], weight).numpy() for chosen in (symbols, found))
    return found if after < before else symbols


def _tiles(size):
  """Tiles of an axis, all of about one size, as `tiling.tiles` gives them. Those that were searched are what later ones see."""
  count = -(-size // TILE)
  edges = [number * size // count for number in range(count + 1)]
  return [(begin, end, max(0, begin - tiling.HALO), min(end + tiling.HALO, size)) for begin, end in itertools.pairwise(edges)]


@functools.lru_cache(maxsize=16)
def _graphs(search, size, channels):
  """The gradient of a step, and the loss of symbols, for photos of one size."""
  # pylint: disable=protected-access
  centers, last = tf.constant(search._centers), len(search._centers) - 1
  map_size = [1, size[0] // STRIDE, size[1] // STRIDE, channels]
  scales = max((n for n in (2, 3, 4) if min(size) >= similarity.smallest_ms_ssim(n)), default=0)

  def loss(pixels, values, weight):
    decoded = search._decoder(values, training=False)
    distortion = tf.reduce_mean(tf.math.squared_difference(decoded, pixels))
    if scales:
      ssim, ms_ssim = similarity.ssim_and_ms_ssim(decoded, pixels, scales)
      distortion += search._ms_ssim * (1.0 - ms_ssim + _SSIM_SHARE * (1.0 - ssim))
    return distortion + weight * tf.reduce_sum(search._entropy(values)) / (size[0] * size[1])

  images, maps = tf.TensorSpec([1, *size, 3], tf.float32), tf.TensorSpec(map_size, tf.float32)
  scalar = tf.TensorSpec([], tf.float32)

  @tf.function(input_signature=[images, maps, scalar, scalar, tf.TensorSpec([], tf.int32)])
  def step(pixels, places, temperature, weight, number):
    with tf.GradientTape() as tape:
      tape.watch(places)
      below = tf.clip_by_value(tf.floor(tf.stop_gradient(places)), 0.0, last - 1.0)
      share = tf.clip_by_value(places - below, 1e-4, 1.0 - 1e-4)
      noise = -tf.math.log(-tf.math.log(tf.random.stateless_uniform([2, *map_size], tf.stack([0, number]), 1e-6, 1.0 - 1e-6)))
      drawn = tf.sigmoid(((tf.atanh(share) - tf.atanh(1.0 - share)) / temperature + noise[0] - noise[1]) / temperature)
      index = tf.cast(below, tf.int32)
      values = (1.0 - drawn) * tf.gather(centers, index) + drawn * tf.gather(centers, index + 1)
      value = loss(pixels, values, weight)
    return tape.gradient(value, places)

  return step, tf.function(loss, input_signature=[images, maps, scalar])


def _through(x, places, values):
  """A function that is linear between its values at ascending places, and goes on so beyond them."""
  index = int(np.clip(np.searchsorted(places, x), 1, len(places) - 1))
  share = (x - places[index - 1]) / (places[index] - places[index - 1])
  return values[index - 1] + share * (values[index] - values[index - 1])
