"""Running the networks over images of any size in bounded memory.

A tile is computed with a halo as wide as the receptive field, so that it holds what the whole image would
give there.
"""

import itertools

import numpy as np

from deepcomp_tf.representation import STRIDE
from deepcomp_tf.threads import check_fork

# Edge of a tile without its halo, in positions of the representation.
TILE = 128

# The encoder sees 31 pixels before and 38 behind a position's 8x8 block, the decoder 6 positions before and 5
# behind a pixel's; both from the kernel sizes and strides of appendix A.1.
HALO = 6


def tiles(size, edge, halo):
  """Tiles of an axis of `size` positions: (begin, end, begin with halo, end with halo)."""
  return [(begin, min(begin + edge, size), max(0, begin - halo), min(begin + edge + halo, size))
          for begin in range(0, size, edge)]


def apply(network, source, s, r, channels):
  """network(source), tile by tile: uint8 `[r * h, r * w, channels]`.

  Args:
    network: function from `[1, s * h, s * w, .]` to `[1, r * h, r * w, channels]`, for h x w positions of the representation.
    source: uint8 `[s * h, s * w, .]`.
    s, r: entries of source and result per position, in each direction.
    channels: of the result.
  """
  height, width = (side // s for side in source.shape[:2])
  result = np.empty([height * r, width * r, channels], np.uint8)
  for (y0, y1, top, bottom), (x0, x1, left, right) in itertools.product(tiles(height, TILE, HALO), tiles(width, TILE, HALO)):
    part = np.asarray(network(source[np.newaxis, top * s:bottom * s, left * s:right * s]))[0]
    result[y0 * r:y1 * r, x0 * r:x1 * r] = part[(y0 - top) * r:(y1 - top) * r, (x0 - left) * r:(x1 - left) * r]
  return result


def pad(image):
  """An image `[h, w, 3]` padded by reflection at the bottom and right to multiples of 8."""
  height, width = image.shape[:2]
  margins = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
  return np.pad(image, margins, mode="reflect") if any(map(sum, margins)) else image


def graph(function, channels, batch=1):
  """A function of uint8 images `[batch, h, w, channels]` of any size as a TensorFlow graph, not after a fork."""
  import tensorflow as tf  # slow to import, and reading symbols does not need it
  compiled = tf.function(function, input_signature=[tf.TensorSpec([batch, None, None, channels], tf.uint8)], jit_compile=False)

  def run(images):
    check_fork()
    return compiled(images)
  return run
