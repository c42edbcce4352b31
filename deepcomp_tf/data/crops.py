"""Crops of photos, of decoded photos and of representations for classification (appendix A.4)."""

import numpy as np
import tensorflow as tf

from deepcomp_tf import threads
from deepcomp_tf.data import cut
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.representation import STRIDE

CROPS = ("pixels", "representation")
_EPOCHS = 1_000_003


class Crops:
  """From the examples of a set to a network's input.

  What a set stores is cropped while it is read, on the CPU: pixels, or the symbols of compressed files. Images that
  are not compressed yet are compressed afterwards, on the device, and can be cropped and mirrored there instead, as compressed
  files are. Compressed files whose pixels are wanted are decoded on the device, and cropped there,
  unless a store holds these pixels.

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
    decoded: whether what a set of compressed files gives are decoded pixels (`Store.pixels_codec`), not symbols.

  Attributes:
    resize: as given; None for compressed files.

  Raises:
    DeepcompError: sizes that do not go together.
  """

  def __init__(self, inputs, bitstreams, crop_size, crop="pixels", image_size=256, resize=None, decoded=False):
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
    self._symbols = bitstreams and not decoded  # are stored, not pixels
    self._decodes = self._symbols and inputs.kind == "decoded"
    self._decoded = bitstreams and decoded
    self._size = image_size if self._crops_on_device else crop_size // STRIDE if self._symbols else crop_size

  def training_batches(self, examples, batch_size, seed, epoch=0, first_step=0, part=WHOLE):
    """The batches of an epoch: random crops, mirrored at random, as a data set of (stored, label `[batch]`).

    `stored` is for `on_device`: uint8 `[batch, h, w, c]`, or what `_decode_and_crop` takes. Another example of the batch takes
    the place of one that cannot be decoded; examples left over at the end of the epoch are left out.

    Args:
      examples: `data.classification.Examples` or a `data.store.Store`.
      batch_size, seed, epoch: of the run.
      first_step: batches of the epoch that are left out, undecoded, to continue a stopped run.
      part: the `data.part.Part` of every batch that is read.
    """
    order = seed * _EPOCHS + epoch
    def choose(step, items):
      size, place, mirrored = cut.draw(order, step, batch_size)
      return step, items, (size, place, mirrored & (not self._crops_on_device))

    batches = examples.order(order).batch(batch_size, drop_remainder=True).enumerate().skip(first_step)
    return self._crop(examples, batches.map(choose), part.of(batch_size), training=True)

  def evaluation_batches(self, examples, batch_size, part=WHOLE):
    """All examples in the stored order, their centers. Otherwise as of `training_batches`.

    The last batch may be smaller, and so may those with examples that cannot be decoded, down to none.
    """
    batches = examples.order().batch(batch_size).enumerate().map(lambda step, *items: (step, items, None))
    return self._crop(examples, batches, part.of(batch_size), training=False)

  def _crop(self, examples, batches, part, training):
    """Data set of (step, items, choices) of whole batches -> data set of (stored, labels) of a part of each."""
    smallest = examples.smallest
    if (self._symbols or self._decoded) and smallest is not None and (
        smallest < self._size):  # of others it is said as they are met
      raise DeepcompError(f"expected compressed images of at least {self.crop_size} pixels in both directions, for the crops. "
                          f"Received: one of {smallest if self._decoded else STRIDE * smallest}")
    of_part = lambda values: tf.nest.map_structure(lambda x: x[slice(*part)], values)
    batches = batches.map(
        lambda step, items, choices: (step, of_part(tuple(tf.nest.flatten(items))), choices and of_part(choices)))
    random_access = smallest is not None and smallest >= self._size and not self.resize
    crop = self._crop_together if self._symbols or random_access else self._crop_each
    return crop(examples, batches, training).prefetch(tf.data.AUTOTUNE)

  def _crop_together(self, examples, batches, training):
    """Crops of symbols, and from a store: whole batches in numpy, several at the same time.

    `tf.numpy_function` holds Python's lock around what it calls, so it is called once for a batch, and decoding gives the
    lock up.
    """
    damage, size, channels = examples.new_damage(), self._size, examples.channels

    def read(step, places, mirrored, *items):
      if self._decodes:
        results, labels = examples.read_maps(*items)
        symbols, sizes = _pad(results)
        room = STRIDE * sizes - self.crop_size
        arrays = symbols, sizes, (places * (room + 1)).astype(np.int32) if training else room // 2, mirrored
      else:
        crops, labels, results = examples.read_crops(*items, size, *((places, mirrored) if training else ()))
        arrays = crops,
      kept = damage.keep(results, int(step), training)
      return [array[kept] for array in (*arrays, labels)]

    specs = [(tf.uint8, [None, None, None, channels]), (tf.int32, [None, 2]), (tf.int32, [None, 2]), (tf.bool, [None])]
    specs = (specs if self._decodes else [(tf.uint8, [None, size, size, channels])]) + [(tf.int64, [None])]

    def call(step, items, choices):
      count = tf.shape(items[0])[:1]
      _, places, mirrored = choices or (None, tf.zeros([count[0], 2]), tf.fill(count, False))
      *arrays, labels = cut.from_numpy(read, [step, places, mirrored, *items], specs)
      return tuple(arrays) if self._decodes else arrays[0], labels

    return batches.map(call, num_parallel_calls=tf.data.AUTOTUNE)

  def _crop_each(self, examples, batches, training):
    """Crops of photos, decoded and perhaps resized one by one."""
    damage, size, channels, resize = examples.new_damage(), self._size, examples.channels, self.resize

    def crop(number, items, choices=None):
      data, label = examples.load(*items)
      choice, place, mirrored = choices or (None, None, False)
      if resize:
        room = resize[1] + 1 - resize[0]
        data = cut.resize_shorter_side(data, resize[0] + (tf.cast(choice * room, tf.int32) if training else 0))
      shortest = tf.reduce_min(tf.shape(data)[:2])
      data = tf.cond(shortest < size, lambda: cut.resize_shorter_side(data, size), lambda: data)
      data = cut.cut(data, cut.corner_at(place, tf.shape(data)[:2] - size), size, mirrored=mirrored)
      return number, tf.ensure_shape(data, [size, size, channels]), label

    def crop_batch(step, items, choices):
      count, items = tf.shape(items[0])[0], tuple(examples.look_into(*items))
      # A crop more at the end, so that a batch comes even if nothing of it can be decoded.
      end = tf.data.Dataset.from_tensors((count, tf.zeros([size, size, channels], tf.uint8), tf.constant(0, tf.int64)))
      return (tf.data.Dataset.from_tensor_slices((tf.range(count), items, *([choices] if training else [])))
              .map(crop, num_parallel_calls=threads.cores()).ignore_errors()
              .concatenate(end).batch(tf.cast(count, tf.int64) + 1)
              .map(lambda numbers, crops, labels: kept(step, count, items, numbers[:-1], crops, labels)))

    def kept(step, count, items, numbers, crops, labels):
      def places(step, count, numbers, *items):
        # TensorFlow does not say why it left an example out. Only damage is a reason.
        read = set(numbers.tolist())
        results = [None if number in read else _why_not(examples, [item[number] for item in items]) for number in range(count)]
        return np.searchsorted(numbers, damage.keep(results, int(step), training)).astype(np.int32)

      chosen = tf.cond(tf.equal(tf.size(numbers), count), lambda: tf.range(count),
                       lambda: tf.numpy_function(places, [step, count, numbers, *items], tf.int32))
      chosen = tf.ensure_shape(chosen, [None])
      return tf.gather(crops, chosen), tf.gather(labels, chosen)

    return batches.interleave(crop_batch, cycle_length=2, block_length=1, num_parallel_calls=2, deterministic=True)

  def on_device(self, stored, key=None):
    """A batch as it was read -> float32 network input `[batch, h, w, channels]`.

    Of images compressed on the way, crops are taken here, as of `cut`.
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
    return cut.cut_on_device(fields, self.crop_size // self.inputs.stride, key)

  def _decode_and_crop(self, symbols, sizes, corners, mirrored):
    """Crops of the pictures of whole maps of symbols, uint8 `[n, crop_size, crop_size, 3]`.

    Args:
      symbols: uint8 `[n, h, w, C]`, maps of different sizes filled up to the largest.
      sizes, corners: int32 `[n, 2]`, of the maps before they were filled up; the first row and column of each crop, in pixels.
      mirrored: bool `[n]`.
    """
    size = self.crop_size

    def decode(values):
      symbols, (height, width), corner, mirror = values[0], tf.unstack(values[1]), *values[2:]
      picture = self.inputs.picture(symbols[tf.newaxis, :height, :width])[0]
      return tf.ensure_shape(cut.cut(picture, corner, size, mirrored=mirror), [size, size, 3])

    return tf.map_fn(decode, (symbols, sizes, corners, mirrored), fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8))


def _why_not(examples, example):
  """The `BitstreamError` of an example that TensorFlow left out, of which what `load` takes is given; another error is raised."""
  try:
    examples.load(*map(tf.constant, example))
  except (DeepcompError, tf.errors.InvalidArgumentError) as error:
    return BitstreamError(f"an example of {examples.source.name}: {one_line(error).split('Error: ')[-1]}")
  raise DeepcompError(f"expected to read every example of {examples.source.name}. Received: one that was lost, and is not "
                      "damaged")


def _pad(maps):
  """Maps, or errors in their places, in one array filled up with 0: uint8 `[n, h, w, C]`, and their sizes int32 `[n, 2]`."""
  whole = {number: symbols for number, symbols in enumerate(maps) if not isinstance(symbols, DeepcompError)}
  sizes = np.array([whole[number].shape[:2] if number in whole else (0, 0) for number in range(len(maps))], np.int32)
  padded = np.zeros([len(maps), *sizes.max(axis=0), next(iter(whole.values())).shape[2] if whole else 1], np.uint8)
  for number, symbols in whole.items():
    padded[number, :symbols.shape[0], :symbols.shape[1]] = symbols
  return padded, sizes
