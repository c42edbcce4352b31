"""Bringing the representation of a large photo down to the size that a network knows, without pixels.

Networks know objects of the size that they were trained on. From the representation of a photo follows, nearly,
that of the same photo at half the size, linearly: `experiments.fit_halving` finds how, and keeps it in
halving.npz in the operating point's folder.
"""

import os

import numpy as np
from etils import epy

from deepcomp_tf import files
from deepcomp_tf import shipped

with epy.lazy_imports():  # arrays are halved without it
  import tensorflow as tf

FILE = "halving.npz"

# Objects that are too small are seen worse than those that are too large,
# so that photos are halved from 1.57 times the size on, not from the square root of 2.
_LARGER = 0.15
# Up to so many times the size the answers before and after the halving are better together than either.
_BOTH_UP_TO = 1.9


def path_of(folder):
  """Where an operating point's folder keeps its halving."""
  return os.path.join(folder, FILE)


def load(folder):
  """(kernel `[4, 4, C, C]`, bias `[C]`), float32, of an operating point's folder; None where there is none."""
  if not files.exists(path_of(folder)):
    return None
  arrays = files.read_arrays(path_of(folder))
  return arrays["kernel"].astype(np.float32), arrays["bias"]


def of_codec(codec):
  """What `load` gives for the operating point of a `Codec`; None of one that was not loaded from a folder, too."""
  return codec.source and load(shipped.find("operating point", codec.source))


def times(height, width, trained):
  """How often a photo of that size is halved so that its shorter side has 0.79 to 1.57 times `trained` pixels."""
  return max(0, round(float(np.log2(min(height, width) / trained)) - _LARGER))


def is_between(height, width, trained):
  """Whether a photo of that size is, before it is halved for the last time, so near to what a network knows that its answers
  there count, too."""
  count = times(height, width, trained)
  return count > 0 and min(height, width) / 2 ** (count - 1) < _BOTH_UP_TO * trained


def halve(representation, kernel, bias):
  """Normalised `[batch, h, w, C]`, a tensor or an array -> `[batch, ceil(h/2), ceil(w/2), C]`; beyond its edges a photo goes on
  as at them."""
  if isinstance(representation, np.ndarray):
    margins = [(0, size % 2) for size in representation.shape[1:3]]
    return np.stack([windows(np.pad(one, (*margins, (0, 0)), "symmetric")) @ kernel.reshape(-1, kernel.shape[-1])
                     for one in representation]) + bias
  height, width = tf.shape(representation)[1], tf.shape(representation)[2]
  padded = tf.pad(representation, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]], "SYMMETRIC")
  padded = tf.pad(padded, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
  return tf.nn.conv2d(padded, kernel, 2, "VALID") + bias


def input_for(inputs, stored, maps):
  """What a network sees of the symbols or pixels that are stored for a `NetworkInput`: a representation of twice the height that the
  teacher's maps of the photo have is halved."""
  x = inputs(stored)
  if inputs.kind != "representation" or (x.shape[1] is not None and x.shape[1] == maps.shape[1]):
    return x
  return tf.cond(tf.shape(x)[1] == 2 * tf.shape(maps)[1], lambda: halve(x, *of_codec(inputs.codec)), lambda: x)


def windows(representation):
  """The 4x4 positions that each position of `halve` is made of: `[2h, 2w, C]` -> `[h, w, 16 * C]`."""
  padded = np.pad(representation, ((1, 1), (1, 1), (0, 0)), "symmetric")
  height, width = (size // 2 for size in representation.shape[:2])
  return np.concatenate([padded[i:i + 2 * height:2, j:j + 2 * width:2] for i in range(4) for j in range(4)], axis=-1)
