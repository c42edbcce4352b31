"""Segmentation sets as networks take them: random crops for training, whole images for evaluation (section 5, appendix A.5)."""

import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

from deepcomp_tf import caches
from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf import threads
from deepcomp_tf.data import cut
from deepcomp_tf.data import sources
from deepcomp_tf.data import store
from deepcomp_tf.data import voc
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE

_MASKS = "masks.bin"
CACHES = ("none", "decoded")
_SHUFFLE_BUFFER = 1024


def open_builder(name, data_dir=None):
  """The TFDS builder of a set with images and masks, such as "voc_segmentation" or "cityscapes", or of a folder.

  A folder's, as of `voc.FolderSegmentation`, is prepared if it is not yet, in `data_dir`, where TFDS keeps its sets. A wrong
  mask, or a set that is missing, not prepared or without masks, is a DeepcompError.
  """
  if files.isdir(name):
    builder = voc.FolderSegmentation(folder=name, data_dir=data_dir)
    builder.download_and_prepare()
  else:
    builder = sources.prepared_builder(name, data_dir)
    _image_and_mask(builder)
  return builder


def _image_and_mask(builder):
  """Names of the features that are an example's image and its mask: the set's only ones of three channels and of one."""
  names = {3: [], 1: []}
  for name, feature in builder.info.features.items():
    if isinstance(feature, tfds.features.Image) and feature.shape[-1] in names:
      names[feature.shape[-1]].append(name)
  if any(len(fitting) != 1 for fitting in names.values()):
    raise DeepcompError(f"expected a set with one image of 3 channels and one mask of 1. Received: {builder.name} with "
                        + ", ".join(f"{name} {feature.shape}" for name, feature in builder.info.features.items()))
  return names[3] + names[1]


def classes_of(builder, path=None):
  """The classes of the masks of a set of `open_builder`, a list of `MaskClass`.

  They are those of a JSON file for `mask_classes.read_classes`; without a path those of the folder's classes.json, VOC's, or the
  labels of the set's `LabeledImage`. Where a set names none, that is a DeepcompError.
  """
  if path:
    return mask_classes.read_classes(path)
  if hasattr(builder, "classes"):
    return list(builder.classes)
  mask = builder.info.features[_image_and_mask(builder)[1]]
  if not isinstance(mask, tfds.features.LabeledImage) or not mask.names:
    raise DeepcompError(f"expected a file of classes, since {builder.name} does not name those of its masks. Received: none")
  return mask_classes.numbered(mask.names)


class SegmentationExamples:
  """Images with their labels, one id a pixel, from a split of a segmentation set.

  Args:
    builder: of `open_builder`.
    split: of the set, such as "train" or "train[90%:]".
    inputs: the network's `codec.inputs.NetworkInput`. Whole images are compressed.
    class_ids: the mask ids of classes 0, 1, ... of the network, None for one that the set does not have; other ids
      become void, 255.
    cache: "decoded" writes what the network sees and the masks to local disk once, one byte each, for this run and all later
      ones; "none" reads, and compresses, in every epoch.
    cache_dir: folder for that; empty: `caches.CACHE_DIR`.
    random_scale: None, or (low, high): training images are resized by a random factor before they are compressed.
      DrSleep's DeepLab has 0.5 to 1.5; the paper names no scaling.
  """

  def __init__(self, builder, split, inputs, class_ids, cache="none", cache_dir=None, random_scale=None):
    if cache not in CACHES:
      raise DeepcompError(f"`cache` must be one of {', '.join(CACHES)}. Received: cache={cache!r}")
    if random_scale and not 0 < random_scale[0] <= random_scale[1]:
      raise DeepcompError(f"`random_scale` must be (low, high), 0 < low <= high. Received: {tuple(random_scale)}")
    self.inputs, self._scale = inputs, random_scale
    self._builder, self._split, self._count = builder, split, sources.slice_of(builder.info.splits, split)[2]
    self._image, self._mask = _image_and_mask(builder)
    self._classes = np.full(256, mask_classes.VOID, np.uint8)
    for place, class_id in enumerate(class_ids):
      if class_id is not None:
        self._classes[class_id] = place
    self._keeps_photos = inputs.kind == "original" or bool(random_scale)
    self._kept = self._masks = None
    if cache == "decoded":
      self._open(cache_dir)

  def __len__(self):
    return self._count

  @property
  def shorter_side(self):
    """The median of the images' shorter sides in pixels; None where they are not on disk."""
    return None if self._masks is None else float(np.median(self._masks.sizes.min(axis=1)))

  def _read(self, seed=None):
    """The data set of (image uint8 `[h, w, 3]`, mask uint8 `[h, w]` of the set's ids)."""
    dataset = self._builder.as_dataset(split=self._split, shuffle_files=seed is not None,
                                       decoders={self._image: tfds.decode.SkipDecoding()},
                                       read_config=tfds.ReadConfig(shuffle_seed=seed))

    def decode(example):
      image, mask = sources.decode_image(example[self._image]), tf.cast(example[self._mask][..., 0], tf.uint8)
      tf.debugging.assert_equal(tf.shape(image)[:2], tf.shape(mask),
                                f"expected masks of their images' sizes in {self._builder.name}")
      return image, mask

    return dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)

  def _open(self, cache_dir):
    """Opens, and fills where there is none, the folder of the set's pixels or symbols, and its masks."""
    info, inputs = self._builder.info, self.inputs
    split = sources.slice_of(info.splits, self._split)
    shards = info.splits[split[0]]
    made_of = {"source": info.full_name, "split": split, "shards": shards.shard_lengths, "bytes": shards.num_bytes,
               "maps": "pixels" if self._keeps_photos else f"decoded {inputs.codec.identity}" if inputs.kind == "decoded" else
                       f"symbols {inputs.codec.encoder_identity}"}
    folder = caches.cached_folder(cache_dir, self._builder.name, made_of, self._fill)
    map_sizes, mask_sizes = store.read_index(folder, "map_sizes", "mask_sizes")
    self._kept = store.Maps.open(folder, store.MAPS, map_sizes, 3 if self._keeps_photos else inputs.channels)
    self._masks = store.Maps.open(folder, _MASKS, mask_sizes, 1)

  def _fill(self, folder):
    encode = (lambda image: image) if self._keeps_photos else self._store
    examples = threads.ordered_map(lambda example: (encode(example[0]), example[1]), self._read().as_numpy_iterator(),
                                   threads.cores())
    map_sizes, mask_sizes = store.write_maps(folder, [store.MAPS, _MASKS], tqdm.tqdm(
        examples, total=len(self), unit="image", mininterval=10,
        desc=f"reading {self._builder.name}, {self._split}, for the cache"))
    np.savez(os.path.join(folder, store.INDEX), map_sizes=map_sizes, mask_sizes=mask_sizes)
    return {}

  def _load(self, index):
    """(what is cropped, or the image where it is scaled first; label) of an example on disk."""
    return self._kept[index], self._classes[self._masks[index][..., 0]]

  def _store(self, image):
    """What a file would hold of a photo: uint8 pixels or symbols."""
    if self.inputs.kind == "original":
      return image
    symbols = self.inputs.codec.encode(image)
    return symbols if self.inputs.kind == "representation" else self.inputs.codec.decode(symbols, *image.shape[:2])

  def whole(self, numbers=None):
    """Iterates over (stored uint8 `[h', w', c]`, label uint8 `[h, w]`) of all examples, or of these, in order and unscaled."""
    if self._kept is None:
      for number, (image, mask) in enumerate(self._read().as_numpy_iterator()):
        if numbers is None or number in numbers:
          yield self._store(image), self._classes[mask]
      return
    for number in range(len(self)) if numbers is None else numbers:
      data, label = self._load(number)
      yield self._store(data) if self._scale else data, label

  def training_batches(self, crop_size, batch_size, seed, first_step=0, part=WHOLE):
    """Endless random crops, mirrored at random, whose edge in pixels is a multiple of 8.

    Images that are smaller than the crop are padded, below and on the right, by the mean that the network's input was
    centered with, their labels by 255. `batch_size`, `seed`, `first_step` and `part` are as of `data.photos.Photos.batches`.

    Returns:
      data set of (network input float32 `[batch, crop/stride, crop/stride, channels]`, labels int32
      `[batch, crop/8, crop/8]`, of the pixel in the middle of each 8x8 block).
    """
    if crop_size < STRIDE or crop_size % STRIDE:
      raise DeepcompError(f"`crop_size` must be a positive multiple of {STRIDE}. Received: crop_size={crop_size}")
    channels, size = self.inputs.channels, crop_size // self.inputs.stride

    def example(number, stored, label):
      factor, place, mirrored = cut.draw_scaled(seed, number, self._scale or (1.0, 1.0))
      if self._scale:
        size_now = tf.maximum(1, tf.cast(tf.round(tf.cast(tf.shape(stored)[:2], tf.float32) * factor), tf.int32))
        label = tf.image.resize(label[..., tf.newaxis], size_now, "nearest")[..., 0]
        stored = tf.numpy_function(self._store, [cut.resize(tf.ensure_shape(stored, [None, None, 3]), size_now)], tf.uint8)
      x, label, room = _pad(self.inputs(tf.ensure_shape(stored, [None, None, channels])[tf.newaxis])[0], label, size,
                            self.inputs.stride)
      corner = self.inputs.stride * cut.corner_at(place, room)
      x = cut.cut(x, corner, crop_size, self.inputs.stride, mirrored)
      label = tf.ensure_shape(cut.cut(label, corner, crop_size, mirrored=mirrored), [crop_size, crop_size])
      return tf.ensure_shape(x, [size, size, channels]), tf.cast(label[STRIDE // 2::STRIDE, STRIDE // 2::STRIDE], tf.int32)

    begin, end = part.of(batch_size)
    examples = self._shuffled(seed, first_step * batch_size, lambda number: part.has(number, batch_size))
    return examples.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(end - begin).prefetch(tf.data.AUTOTUNE)

  def _shuffled(self, seed, first, wanted):
    """Endless (number, stored or image, label) of the `wanted` numbers from `first` on, in another order in each epoch."""
    if self._kept is None:
      classes = tf.constant(self._classes)

      def convert(number, example):
        image, mask = example
        stored = image if self._scale else tf.numpy_function(self._store, [image], tf.uint8)
        return number, stored, tf.gather(classes, tf.cast(mask, tf.int32))

      dataset = self._read(seed).shuffle(_SHUFFLE_BUFFER, seed=seed).repeat().enumerate().skip(first)
      return dataset.filter(lambda number, example: wanted(number)).map(convert, num_parallel_calls=tf.data.AUTOTUNE)
    count = len(self)

    def load(number):
      place = tf.random.experimental.index_shuffle(
          number % count, tf.stack([tf.constant(seed, tf.int64), number // count]), count - 1)
      return number, *cut.from_numpy(self._load, [place], [(tf.uint8, [None, None, None]), (tf.uint8, [None, None])])

    return tf.data.Dataset.counter(first, dtype=tf.int64).filter(wanted).map(load, num_parallel_calls=tf.data.AUTOTUNE)


def _pad(x, label, size, stride):
  """A network input `[h, w, c]` and its label `[H, W]`, at most stride times as large, padded to at least `size` positions and to
  stride times as many pixels; and the room that a crop has, int32 `[2]`."""
  height, width = tf.unstack(tf.maximum(tf.shape(x)[:2], size))
  x = tf.pad(x, [[0, height - tf.shape(x)[0]], [0, width - tf.shape(x)[1]], [0, 0]])
  label = tf.pad(label, [[0, height * stride - tf.shape(label)[0]], [0, width * stride - tf.shape(label)[1]]],
                 constant_values=tf.constant(mask_classes.VOID, tf.uint8))
  return x, label, tf.stack([height, width]) - size
