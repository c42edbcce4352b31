"""Crops of photos, of decoded photos and of representations for classification (appendix A.4)."""

import numpy as np
import tensorflow as tf

from deepcomp_tf.data.cut import corner_at
from deepcomp_tf.data.cut import cut
from deepcomp_tf.data.cut import cut_batch
from deepcomp_tf.data.cut import draw
from deepcomp_tf.data.cut import from_numpy
from deepcomp_tf.data.cut import resize_shorter_side
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.data.store import Store
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.threads import cores

CROPS = ("pixels", "representation")
_EPOCHS = 1_000_003


class Crops:
  """From the examples of a set to a network's input.

  What a set stores is cropped while it is read, on the CPU: pixels, or the symbols of compressed files. Images that
  are not compressed yet are compressed afterwards, on the device, and can be cropped and mirrored there instead, as compressed
  files are. Compressed files whose pixels are wanted are decoded on the device, and cropped there.

  Args:
    inputs: the network's `codec.inputs.NetworkInput`.
    bitstreams: whether the set holds compressed files.
    crop_size: edge of the crops in pixels; the representation's is an eighth.
    crop: what is cropped of images that are compressed on the way: their "pixels", or the "representation" of
      image_size x image_size pixels (of decoded images, the decoded pixels of these).
    image_size: see `crop`.
    resize: None, or (low, high): images are resized so that their shorter side is low for evaluation and drawn from
      low..high for training, as in TF-Slim's VGG preprocessing (256 and 512 for ImageNet). Compressed files keep
      their size.

  Attributes:
    resize: as given; None for compressed files.

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
    self._symbols = bitstreams  # are stored, not pixels
    self._decodes = bitstreams and inputs.kind == "decoded"
    self._size = image_size if self._crops_on_device else crop_size // STRIDE if bitstreams else crop_size

  def training_batches(self, examples, batch_size, seed, epoch=0, first_step=0, part=WHOLE):
    """The batches of an epoch: random crops, mirrored at random: (stored, label `[batch]`).

    Another example of the batch takes the place of one that cannot be decoded.

    Args:
      examples: `data.classification.Examples` or a `data.store.Store`.
      batch_size: examples; those left over at the end of the epoch are left out.
      seed: of the run.
      epoch: its number.
      first_step: batches of the epoch that are left out, undecoded, to continue a stopped run.
      part: the `data.part.Part` of every batch that is read.

    Returns:
      the data set. `stored` is for `on_device`: uint8 `[batch, h, w, c]`, or what `_decode_and_crop` takes.
    """
    self._check(examples)
    order = seed * _EPOCHS + epoch
    begin, end = part.of(batch_size)

    def in_part(step, items):
      size, place, mirrored = draw(order, step, batch_size)
      choices = size, place, mirrored & (not self._crops_on_device)
      return step, tf.nest.map_structure(lambda x: x[begin:end], (items, choices))

    batches = examples.order(order).batch(batch_size, drop_remainder=True).enumerate().skip(first_step).map(in_part)
    return self._crop(examples, batches.map(lambda step, both: (step, *both)), training=True)

  def evaluation_batches(self, examples, batch_size, part=WHOLE):
    """All examples in the stored order, their centers. Otherwise as of `training_batches`.

    The last batch may be smaller, and so may those with examples that cannot be decoded, down to none.
    """
    self._check(examples)
    begin, end = part.of(batch_size)
    batches = examples.order().batch(batch_size).enumerate().map(
        lambda step, *items: (step, tf.nest.map_structure(lambda x: x[begin:end], items), None))
    return self._crop(examples, batches, training=False)

  def _crop(self, examples, batches, training):
    """Data set of (step, items, choices) -> data set of (stored, labels)."""
    random_access = isinstance(examples, Store) and not self.resize and examples.smallest >= self._size
    if self._symbols or random_access:
      batches = self._crop_together(examples, batches, training)
    else:
      batches = self._crop_each(examples, batches, training)
    return batches.prefetch(tf.data.AUTOTUNE)

  def _crop_together(self, examples, batches, training):
    """Crops of symbols, and from a store: whole batches in numpy, several at the same time.

    `tf.numpy_function` holds Python's lock around what it calls, so it is called once for a batch, and decoding gives the
    lock up.
    """
    damage, size, channels = examples.new_damage(), self._size, examples.channels

    def read(step, places, mirrored, *items):
      if self._decodes:
        maps, labels, errors = examples.read_maps(*items)
        symbols, sizes = _pad(maps)
        room = STRIDE * sizes - self.crop_size
        corners = (places * (room + 1)).astype(np.int32) if training else room // 2
        arrays = symbols, sizes, corners, mirrored
      else:
        crops, labels, errors = examples.read_crops(*items, size, *((places, mirrored) if training else (None, None)))
        arrays = crops,
      kept = damage.keep(len(labels), errors, int(step), training)
      return [array[kept] for array in (*arrays, labels)]

    specs = [(tf.uint8, [None, None, None, channels]), (tf.int32, [None, 2]), (tf.int32, [None, 2]), (tf.bool, [None])]
    specs = (specs if self._decodes else [(tf.uint8, [None, size, size, channels])]) + [(tf.int64, [None])]

    def call(step, items, choices):
      items = tf.nest.flatten(items)
      count = tf.shape(items[0])[:1]
      _, places, mirrored = choices or (None, tf.zeros([count[0], 2]), tf.fill(count, False))
      *arrays, labels = from_numpy(read, [step, places, mirrored, *items], specs)
      return tuple(arrays) if self._decodes else arrays[0], labels

    return batches.map(call, num_parallel_calls=tf.data.AUTOTUNE)

  def _crop_each(self, examples, batches, training):
    """Crops of photos, decoded and perhaps resized one by one."""
    damage, size, channels, resize = examples.new_damage(), self._size, examples.channels, self.resize

    def crop(number, items, choices=None):
      data, label = examples.load(*items)
      if resize:
        room = resize[1] + 1 - resize[0]
        data = resize_shorter_side(data, resize[0] + (0 if choices is None else tf.cast(choices[0] * room, tf.int32)))
      shortest = tf.reduce_min(tf.shape(data)[:2])
      data = tf.cond(shortest < size, lambda: resize_shorter_side(data, size), lambda: data)
      _, place, mirrored = choices or (None, None, False)
      data = cut(data, corner_at(place, tf.shape(data)[:2] - size), size, mirrored=mirrored)
      return number, tf.ensure_shape(data, [size, size, channels]), label

    def one_batch(step, items, choices):
      items = tf.nest.flatten(items)
      count = tf.shape(items[0])[0]
      items = items if isinstance(examples, Store) else examples.look_into(*items)
      parts = (tf.range(count), tuple(items)) if choices is None else (tf.range(count), tuple(items), choices)
      # One more at the end, so that a batch comes even if nothing of it can be decoded.
      end = tf.data.Dataset.from_tensors((count, tf.zeros([size, size, channels], tf.uint8), tf.constant(0, tf.int64)))
      return (tf.data.Dataset.from_tensor_slices(parts).map(crop, num_parallel_calls=cores()).ignore_errors()
              .concatenate(end).batch(tf.cast(count, tf.int64) + 1)
              .map(lambda numbers, crops, labels: kept(step, count, items, numbers[:-1], crops, labels)))

    def kept(step, count, items, numbers, crops, labels):
      def places(step, count, numbers, *items):
        # TensorFlow does not say why it left one out. Only what is damaged may be.
        errors = {number: _why_not(examples, [item[number] for item in items])
                  for number in set(range(count)) - set(numbers.tolist())}
        return np.searchsorted(numbers, damage.keep(int(count), errors, int(step), training)).astype(np.int32)

      chosen = tf.cond(tf.equal(tf.size(numbers), count), lambda: tf.range(count),
                       lambda: tf.numpy_function(places, [step, count, numbers, *items], tf.int32))
      chosen = tf.ensure_shape(chosen, [None])
      return tf.gather(crops, chosen), tf.gather(labels, chosen)

    return batches.interleave(one_batch, cycle_length=2, block_length=1, num_parallel_calls=2, deterministic=True)

  def _check(self, examples):
    """Compressed images that are too small are an error; of those that are not in a store, as they are met."""
    smallest = examples.smallest if isinstance(examples, Store) else None
    if self._symbols and smallest is not None and smallest < self._size:
      raise DeepcompError(f"expected compressed images of at least {self.crop_size} pixels in both directions, for the "
                          f"crops of their representation. Received: one of {STRIDE * smallest}")

  def on_device(self, stored, key=None):
    """A batch as it was read -> float32 network input `[batch, h, w, channels]`.

    Args:
      stored: of the batches.
      key: as of `cut`, for the crops that are taken here of images compressed on the way.
    """
    if self._decodes:
      stored = self._decode_and_crop(*stored)
    elif self._compresses:
      stored = self.inputs.encode(stored)
    if self._crops_on_device:
      stored = self.cut(stored, key)
    return self.inputs(stored)

  def cut(self, fields, key=None):
    """Crops of what images compressed on the way have become, tensors `[batch, h, w, c]` of the input's stride.

    Args:
      fields: the tensors.
      key: int pair, seed of their places and of which are mirrored; None takes centers.
    """
    return cut_batch(fields, self.crop_size // self.inputs.stride, key)

  def _decode_and_crop(self, symbols, sizes, corners, mirrored):
    """Crops of the pictures of whole maps of symbols.

    Args:
      symbols: uint8 `[n, h, w, C]`, maps of different sizes filled up to the largest.
      sizes: int32 `[n, 2]`, of the maps before they were filled up.
      corners: int32 `[n, 2]`, the first row and column of each crop, in pixels.
      mirrored: bool `[n]`.

    Returns:
      uint8 `[n, crop_size, crop_size, 3]`.
    """
    size = self.crop_size

    def one(symbols, size_of_map, corner, mirror):
      picture = self.inputs.picture(symbols[tf.newaxis, :size_of_map[0], :size_of_map[1]])[0]
      return tf.ensure_shape(cut(picture, corner, size, mirrored=mirror), [size, size, 3])

    return tf.map_fn(lambda args: one(*args), (symbols, sizes, corners, mirrored),
                     fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8))


def _why_not(examples, example):
  """The `BitstreamError` of an example that TensorFlow left out, since it is damaged.

  Args:
    examples: `data.classification.Examples` or a `data.store.Store`.
    example: list of what their `load` takes.

  Raises:
    DeepcompError, or of TensorFlow's: the example is not damaged; something else went wrong.
  """
  try:
    examples.load(*map(tf.constant, example))
  except (DeepcompError, tf.errors.InvalidArgumentError) as error:
    return BitstreamError(f"an example of {examples.source.name}: {one_line(error).split('Error: ')[-1]}")
  raise DeepcompError(f"expected to read every example of {examples.source.name}. Received: one that was lost, and is not "
                      "damaged")


def _pad(maps):
  """Maps, None for one that is lost, in one array filled up with 0: uint8 `[n, h, w, C]`, and their sizes int32 `[n, 2]`."""
  sizes = np.array([(0, 0) if one is None else one.shape[:2] for one in maps], np.int32)
  channels = next((one.shape[2] for one in maps if one is not None), 1)
  padded = np.zeros([len(maps), *sizes.max(axis=0), channels], np.uint8)
  for row, one in zip(padded, maps):
    if one is not None:
      row[:one.shape[0], :one.shape[1]] = one
  return padded, sizes
