"""Crops: a place in a photo is drawn, and every field of the photo (pixels, symbols, masks, a network's maps) is cut there.

Each reader draws its places from the seed and the number of a step or of an example alone, so that a run that was stopped goes
on with the same crops, and several workers read the parts of the batches that one would read.
"""

import numpy as np
import tensorflow as tf

from deepcomp_tf.layers import replicas

# Batches of crops that are cut at the same time, and that wait.
_AHEAD = 2


def cut(field, corner, size, stride=1, mirrored=False):
  """The crop of a field of one photo; `store.Maps.crops` cuts those of many in a file.

  Args:
    field: array or tensor `[h, w, ...]`; each position stands for stride x stride pixels.
    corner: two ints, the first row and column in pixels, multiples of the stride.
    size: edge of the crop in pixels, a multiple of the stride.
    stride: of the field.
    mirrored: bool, or a tensor of one: whether left and right are exchanged.
  """
  top, left = corner[0] // stride, corner[1] // stride
  step = 1 - 2 * (int(mirrored) if isinstance(mirrored, (bool, np.bool_)) else tf.cast(mirrored, tf.int32))
  return field[top:top + size // stride, left:left + size // stride][:, ::step]


def cut_batch(batch, size, key=None):
  """Crops of tensors `[n, h, w, c]` on the device: `[n, size, size, c]`.

  Args:
    batch: the tensors.
    size: edge of the crops in positions.
    key: int pair, the seed of a place for each, and of which are mirrored; None takes centers.
  """
  shape = tf.shape(batch)
  room = shape[1:3] - size
  if key is None:
    corners, mirrored = tf.tile((room // 2)[tf.newaxis], [shape[0], 1]), False
  else:
    random = replicas.for_global_batch(lambda count: tf.random.stateless_uniform([count, 3], key), shape[0])
    corners, mirrored = corner_at(random[:, :2], room), random[:, 2:] < 0.5
  rows, columns = (corners[:, axis, tf.newaxis] + tf.range(size) for axis in (0, 1))
  columns = tf.where(mirrored, columns[:, ::-1], columns)
  return tf.gather(tf.gather(batch, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def corner_at(place, room):
  """Places float32 `[..., 2]` in [0, 1) -> corners int32 `[..., 2]` in 0..room; None for the one in the middle."""
  return room // 2 if place is None else tf.cast(place * tf.cast(room + 1, tf.float32), tf.int32)


def draw(seed, number, count):
  """What is random in batch `number` of an epoch: a function of its place alone.

  Args:
    seed: of the epoch.
    number: int64.
    count: examples.

  Returns:
    float32 `[count]` in [0, 1), for each image's size or the choice of it; float32 `[count, 2]` in [0, 1), where its crop
    lies between top and bottom, and left and right; bool `[count]`, whether it is mirrored.
  """
  choice, place, mirror = keys(seed, number)
  return (tf.random.stateless_uniform([count], choice), tf.random.stateless_uniform([count, 2], place),
          tf.random.stateless_uniform([count], mirror) < 0.5)


def keys(seed, number):
  """Three keys of TensorFlow's stateless random numbers, from a seed and an int64."""
  return tf.unstack(tf.random.experimental.stateless_split(tf.stack([tf.constant(seed, tf.int64), number]), 3))


def resize_shorter_side(pixels, side):
  """Resizes uint8 `[h, w, c]` pixels, bilinearly, so that the shorter of h and w becomes `side`."""
  size = tf.cast(tf.shape(pixels)[:2], tf.float32)
  target = tf.cast(tf.round(size * tf.cast(side, tf.float32) / tf.reduce_min(size)), tf.int32)
  return resize(pixels, target)


def resize(pixels, size):
  """Resizes uint8 `[h, w, c]` pixels, bilinearly, to (height, width)."""
  return tf.saturate_cast(tf.round(tf.image.resize(pixels, size)), tf.uint8)


def from_numpy(function, arguments, specs):
  """What a function of numpy arrays returns, in a data set: a tensor, or a tuple of several.

  Args:
    function: of the arguments, returns as many arrays as there are specs. Python's lock is held unless it lets go of it.
    arguments: list of tensors.
    specs: list of (type, shape).
  """
  tensors = tf.numpy_function(function, arguments, [dtype for dtype, _ in specs])
  tensors = tuple(tf.ensure_shape(tensor, shape) for tensor, (_, shape) in zip(tensors, specs))
  return tensors if len(specs) > 1 else tensors[0]


def batches(read, specs, first_step=0, end=np.iinfo(np.int64).max):
  """The data set of the batches first_step..end, each of which a function of its number makes from numpy arrays.

  Args:
    read: the function, as of `from_numpy`, with its specs.
  """
  return (tf.data.Dataset.range(first_step, end)
          .map(lambda step: from_numpy(read, [step], specs), num_parallel_calls=_AHEAD, deterministic=True).prefetch(_AHEAD))
