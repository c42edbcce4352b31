"""Crops of photos, of decoded photos and of representations for the inference networks (appendix A.4, A.5).

Every batch is a function of the seed and its place in the run, so that a run that was stopped goes on with the same
crops.
"""

import tensorflow as tf

from deepcomp_tf.data.bitstreams import crop_batches
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers import replicas
from deepcomp_tf.representation import STRIDE

CROPS = ("pixels", "representation")
_EPOCHS = 1_000_003


class Crops:
  """From the examples of a set to a network's input.

  What a set stores is cropped while it is read, on the CPU: pixels, or the symbols of compressed files. Images that
  are not compressed yet are compressed afterwards, on the device, and can be cropped there instead.

  Args:
    inputs: the network's `codec.inputs.NetworkInput`.
    bitstreams: whether the set holds compressed files.
    crop_size: edge of the crops in pixels, 8 times that of the representation's.
    crop: of images that are compressed on the way, what is cropped: their "pixels", or the "representation" of
      image_size x image_size pixels (of decoded images, the decoded pixels of these).
    image_size: see `crop`.
    resize: None, or (low, high): images are resized so that their shorter side is low for evaluation and drawn from
      low..high for training, as in TF-Slim's VGG preprocessing (256 and 512 for ImageNet). Compressed files keep
      their size.

  Attributes:
    resize: what is done: None for compressed files.

  Raises:
    DeepcompError: sizes that do not go together.
  """

  def __init__(self, inputs, bitstreams, crop_size, crop="pixels", image_size=256, resize=None):
    if crop_size < STRIDE or crop_size % STRIDE:
      raise DeepcompError(f"`crop_size` must be a positive multiple of {STRIDE}. Received: crop_size={crop_size}")
    if resize and not 1 <= resize[0] <= resize[1]:
      raise DeepcompError(f"`resize` must be (low, high), 1 <= low <= high. Received: resize={tuple(resize)}")
    self.inputs, self.crop_size, self.crop, self.image_size = inputs, crop_size, crop, image_size
    self.resize = None if bitstreams else resize
    self._compresses = not bitstreams and inputs.kind != "original"
    self._crops_on_device = self._compresses and crop == "representation"
    if self._crops_on_device and (image_size % STRIDE or image_size < crop_size):
      raise DeepcompError(f"`image_size` must be a multiple of {STRIDE} and at least crop_size={crop_size}. "
                          f"Received: image_size={image_size}")
    self._symbols = bitstreams and inputs.kind == "representation"  # is what is stored, not pixels
    self._channels = inputs.channels if self._symbols else 3
    self._size = image_size if self._crops_on_device else crop_size // STRIDE if self._symbols else crop_size

  def training_batches(self, examples, batch_size, seed, epoch=0, first_step=0):
    """The batches of an epoch: random crops, mirrored at random: (uint8 `[batch, h, w, c]`, label `[batch]`).

    Args:
      examples: `data.classification.Examples`.
      batch_size: examples; those left over at the end of the epoch are left out.
      seed: of the run.
      epoch: its number.
      first_step: batches of the epoch that are left out, to continue a stopped run.
    """
    self._check(examples)
    size, channels, resize = self._size, self._channels, self.resize
    order = seed * _EPOCHS + epoch
    if examples.smallest is not None and not resize and examples.smallest >= size:
      return (examples.indices(order).batch(batch_size, drop_remainder=True).enumerate().skip(first_step)
              .map(lambda step, indices: examples.random_crops(
                  indices, size, tf.stack([tf.constant(order, tf.int64), step])), num_parallel_calls=tf.data.AUTOTUNE)
              .prefetch(tf.data.AUTOTUNE))

    if self._symbols and examples.smallest is None:
      return (crop_batches(examples.file_batches(batch_size, order), examples.symbols_codec, size, examples.new_damage(), order)
              .rebatch(batch_size, drop_remainder=True).skip(first_step).prefetch(tf.data.AUTOTUNE))

    def example(number, data_and_label):
      data, label = data_and_label
      key = tf.stack([tf.constant(order, tf.int64), number])
      scale, place, mirror = tf.unstack(tf.random.experimental.stateless_split(key, 3))
      if resize:
        data = resize_shorter_side(data, tf.random.stateless_uniform([], scale, resize[0], resize[1] + 1, tf.int32))
      data = tf.image.stateless_random_crop(self._at_least(data), [size, size, channels], place)
      return tf.image.stateless_random_flip_left_right(data, mirror), label

    return (examples.epoch(order).enumerate().skip(first_step * batch_size)
            .map(example, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE))

  def evaluation_batches(self, examples, batch_size):
    """All examples in the stored order, their centers; the last batch may be smaller. Shapes as above."""
    self._check(examples)
    size, channels, resize = self._size, self._channels, self.resize

    if self._symbols and examples.smallest is None:
      return (crop_batches(examples.file_batches(batch_size), examples.symbols_codec, size, examples.new_damage())
              .rebatch(batch_size).prefetch(tf.data.AUTOTUNE))

    def example(data, label):
      if resize:
        data = resize_shorter_side(data, resize[0])
      data = self._at_least(data)
      corner = (tf.shape(data)[:2] - size) // 2
      return tf.slice(data, [corner[0], corner[1], 0], [size, size, channels]), label

    return (examples.epoch().map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
            .prefetch(tf.data.AUTOTUNE))

  def _check(self, examples):
    """Compressed images that are too small are an error; of those that are not in memory, as they are met."""
    if self._symbols and examples.smallest is not None and examples.smallest < self._size:
      raise DeepcompError(f"expected compressed images of at least {self.crop_size} pixels in both directions, for the "
                          f"crops of their representation. Received: one of {STRIDE * examples.smallest}")

  def _at_least(self, data):
    """Enlarges pixels whose shorter side is too short. Symbols cannot be resized: for them that is an error."""
    shortest = tf.reduce_min(tf.shape(data)[:2])
    if not self._symbols:
      return tf.cond(shortest < self._size, lambda: resize_shorter_side(data, self._size), lambda: data)
    check = tf.debugging.assert_greater_equal(
        shortest, self._size, "expected compressed images at least as large as the crop of their representation")
    with tf.control_dependencies([check]):
      return tf.identity(data)

  def on_device(self, stored, key=None):
    """A batch as it was read -> float32 network input `[batch, h, w, channels]`.

    Args:
      stored: uint8 `[batch, h, w, c]`.
      key: int pair, seed of the places of the crops that are taken here; None takes centers.
    """
    if self._compresses:
      stored = self.inputs.compress(stored)
    if self._crops_on_device:
      stored = _crop_batch(stored, self.crop_size // self.inputs.stride, key)
    return self.inputs(stored)


def resize_shorter_side(pixels, side):
  """Resizes uint8 `[h, w, c]` pixels, bilinearly, so that the shorter of h and w becomes `side`."""
  size = tf.cast(tf.shape(pixels)[:2], tf.float32)
  target = tf.cast(tf.round(size * tf.cast(side, tf.float32) / tf.reduce_min(size)), tf.int32)
  return tf.saturate_cast(tf.round(tf.image.resize(pixels, target)), tf.uint8)


def _crop_batch(stored, size, key):
  """Crops of `[batch, h, w, c]` at places of their own, or at the center."""
  shape = tf.shape(stored)
  room = shape[1:3] - size
  if key is None:
    corners = tf.tile((room // 2)[tf.newaxis], [shape[0], 1])
  else:
    places = replicas.for_global_batch(lambda count: tf.random.stateless_uniform([count, 2], key), shape[0])
    corners = tf.cast(places * tf.cast(room + 1, tf.float32), tf.int32)
  rows, columns = (corners[:, axis, tf.newaxis] + tf.range(size) for axis in (0, 1))
  return tf.gather(tf.gather(stored, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
