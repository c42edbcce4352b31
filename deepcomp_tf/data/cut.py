"""Crops: a place in a photo is drawn, and every field of the photo (pixels, symbols, masks, a network's maps) is cut there.

All readers draw their places here, each in its way, since a recorded run must see the same crops when it is trained again. What
is drawn follows from the seed and the number of a step or of an example alone, so that a run that was stopped goes on with the
same crops, and several workers read the parts of the batches that a single worker would read.
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
    mirrored: bool, or a scalar tensor: whether left and right are exchanged.
  """
  top, left = corner[0] // stride, corner[1] // stride
  step = 1 - 2 * (int(mirrored) if isinstance(mirrored, (bool, np.bool_)) else tf.cast(mirrored, tf.int32))
  return field[top:top + size // stride, left:left + size // stride][:, ::step]


def cut_each(batch, corners, size, mirrored=False):
  """Crops of tensors `[n, h, w, c]` that begin at int32 `[n, 2]` positions,
  mirrored where bool `[n, 1]`: `[n, size, size, c]`."""
  rows, columns = (corners[:, axis, tf.newaxis] + tf.range(size) for axis in (0, 1))
  columns = tf.where(mirrored, columns[:, ::-1], columns)
  return tf.gather(tf.gather(batch, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def cut_on_device(batch, size, key=None):
  """Crops of tensors `[n, h, w, c]`: `[n, size, size, c]`, at places and mirrored as a pair of ints, the seed, decides;
  without it from the middle."""
  count, room = tf.shape(batch)[0], tf.shape(batch)[1:3] - size
  if key is None:
    return cut_each(batch, tf.tile((room // 2)[tf.newaxis], [count, 1]), size)
  random = replicas.for_global_batch(lambda count: tf.random.stateless_uniform([count, 3], key), count)
  return cut_each(batch, corner_at(random[:, :2], room), size, random[:, 2:] < 0.5)


def corner_at(place, room):
  """Places float32 `[..., 2]` in [0, 1) -> corners int32 `[..., 2]` in 0..room; None for the middle."""
  return room // 2 if place is None else tf.cast(place * tf.cast(room + 1, tf.float32), tf.int32)


def _keys(seed, number):
  """Three keys of TensorFlow's stateless random numbers, from a seed and an int64."""
  return tf.unstack(tf.random.experimental.stateless_split(tf.stack([tf.constant(seed, tf.int64), number]), 3))


def draw(seed, number, count):
  """What is random in batch `number`, an int64, of an epoch of classification.

  float32 `[count]` in [0, 1), for each image's size or the choice of it; float32 `[count, 2]` in [0, 1), where its crop lies
  between top and bottom, and left and right; bool `[count]`, whether it is mirrored.
  """
  choice, place, mirror = _keys(seed, number)
  return (tf.random.stateless_uniform([count], choice), tf.random.stateless_uniform([count, 2], place),
          tf.random.stateless_uniform([count], mirror) < 0.5)


def draw_scaled(seed, number, scale):
  """What is random in example `number`, an int64, of segmentation: a factor in `scale` (low, high), a place `[2]` in [0, 1), and
  whether it is mirrored."""
  factor, place, mirror = _keys(seed, number)
  return (tf.random.stateless_uniform([], factor, *scale), tf.random.stateless_uniform([2], place),
          tf.random.stateless_uniform([], mirror) < 0.5)


def generator(seed, number):
  """Numpy's random numbers of example `number` of a run on photos: the photo is chosen with them, and then its crop."""
  return np.random.Generator(np.random.Philox(key=[seed, number]))


def cut_at_random(photo, size, random):
  """The crop of a photo, an array, at a place that a `generator` draws; mirrored with probability 1/2."""
  corner = [int(random.integers(side - size + 1)) for side in photo.shape[:2]]
  return cut(photo, corner, size, mirrored=random.random() < 0.5)


def draw_corners(seed, epoch, step, count, room):
  """Corners in 0..room - 1 of a batch of crops, for photos that are all of one size: int64 `[count, 2]`."""
  return np.random.default_rng([seed, epoch, step]).integers(room, size=[count, 2])


def draw_windows(seed, step, count, sizes, size, margin):
  """A batch of photos, windows in them, and the crops around the windows, all in positions.

  Every position is within a window at least as often as those in the middle of the photo are: places are drawn beyond its edges,
  too, and moved to them, since the outermost positions are in no other window. The crop lies around the window, as far as the
  photo goes; a window is `margin` inside of its crop of `size`. `sizes`, int `[n, 2]`, are those of all photos.

  Returns:
    indices of the photos `[count]`, and where windows and crops begin, `[count, 2]` each.
  """
  random, window = np.random.default_rng([seed, step]), size - 2 * margin
  indices = random.integers(len(sizes), size=count)
  sizes = sizes[indices]
  windows = np.clip(random.integers(1 - window, sizes), 0, sizes - window)
  return indices, windows, np.clip(windows - margin, 0, sizes - size)


def resize_shorter_side(pixels, side):
  """Resizes uint8 `[h, w, c]` pixels, bilinearly, so that the shorter of h and w becomes `side`."""
  size = tf.cast(tf.shape(pixels)[:2], tf.float32)
  return resize(pixels, tf.cast(tf.round(size * tf.cast(side, tf.float32) / tf.reduce_min(size)), tf.int32))


def resize(pixels, size):
  """Resizes uint8 `[h, w, c]` pixels, bilinearly, to (height, width)."""
  return tf.saturate_cast(tf.round(tf.image.resize(pixels, size)), tf.uint8)


def from_numpy(function, arguments, specs):
  """What a function of numpy arrays returns, in a data set: a tensor, or a tuple of several.

  It returns as many arrays as there are specs, (type, shape) each. Python's lock is held unless it lets go of it.
  """
  tensors = tf.numpy_function(function, arguments, [dtype for dtype, _ in specs])
  tensors = tuple(tf.ensure_shape(tensor, shape) for tensor, (_, shape) in zip(tensors, specs))
  return tensors if len(specs) > 1 else tensors[0]


def batches(read, specs, first_step=0, end=np.iinfo(np.int64).max):
  """The data set of the batches first_step..end, which `read`, a function of their numbers, makes as of `from_numpy`."""
  return (tf.data.Dataset.range(first_step, end)
          .map(lambda step: from_numpy(read, [step], specs), num_parallel_calls=_AHEAD, deterministic=True).prefetch(_AHEAD))
