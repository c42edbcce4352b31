"""Crops of photos to train compression on, from a folder or a TFDS data set.

Every example is a function of the seed and of its index alone: example i of a run is the same crop however
often the run was stopped and resumed.
"""

import itertools

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from deepcomp_tf.codec.images import read_image
from deepcomp_tf.errors import DeepcompError

# Decoded photos of a folder are kept in memory up to this many bytes; beyond, they are read again and again.
CACHE_BYTES = 4 << 30


def folder_crops(paths, crop_size, batch_size, seed, first_step=0):
  """Infinite data set of `[batch, crop, crop, 3]` uint8 crops at random places of random photos, mirrored at random.

  A photo is chosen with equal probability whatever its size. Photos smaller than the crop are enlarged to it.

  Args:
    paths: image files.
    crop_size: edge of the square crops in pixels.
    batch_size: crops per batch.
    seed: an integer; the same seed gives the same batches.
    first_step: index of the first batch, to continue a stopped run.
  """
  read = lambda path: read_image(path if isinstance(path, str) else path.numpy().decode())
  sizes = 0
  photos = []
  for path in paths:
    photos.append(read(path))
    sizes += photos[-1].nbytes
    if sizes > CACHE_BYTES:
      photos = None
      break
  if photos is not None:
    shapes = tf.constant([photo.shape for photo in photos], tf.int64)
    ends = np.cumsum([photo.size for photo in photos])
    starts = tf.constant(np.concatenate([[0], ends[:-1]]), tf.int64)
    pixels = tf.constant(np.concatenate([photo.ravel() for photo in photos]))
    photos.clear()

    def load(index):
      shape = shapes[index]
      return tf.reshape(pixels[starts[index]:starts[index] + tf.reduce_prod(shape)], shape)
  else:
    names = tf.constant(paths)

    def load(index):
      photo = tf.py_function(read, [names[index]], tf.uint8)
      return tf.ensure_shape(photo, [None, None, 3])

  def example(index):
    key = tf.stack([tf.cast(seed, tf.int64), index])
    choice, place = tf.unstack(tf.random.experimental.stateless_split(key, 2))
    which = tf.random.stateless_uniform([], choice, 0, len(paths), tf.int32)
    return random_crop(load(which), crop_size, place)

  examples = tf.data.Dataset.range(first_step * batch_size, np.iinfo(np.int64).max)
  return (examples.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
          .batch(batch_size, drop_remainder=True).prefetch(4))


def tfds_crops(name, split, data_dir, crop_size, batch_size, seed, first_step=0, builder=None):
  """`folder_crops` over the images of a TFDS data set, for example `imagenet2012`.

  The set is read shard by shard in an order shuffled anew each epoch, through a shuffle buffer. Continuing a
  stopped run reads over the epoch's examples before the first one, without decoding them.

  Args:
    name, split, data_dir: as in `tfds.load`; the examples must have an `image`.
    builder: a TFDS builder to use in place of the one that `name` finds.
    The others are those of `folder_crops`.
  """
  builder = builder or tfds.builder(name, data_dir=data_dir)
  if "image" not in builder.info.features:
    raise DeepcompError(f"expected a data set whose examples have an `image`. Received: {name}")
  count = builder.info.splits[split].num_examples
  decoder = builder.info.features["image"]

  def epoch(index):
    dataset = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=True,
        read_config=tfds.ReadConfig(shuffle_seed=seed + index, add_tfds_id=False, interleave_cycle_length=8))
    dataset = dataset.map(lambda example: example["image"])
    return dataset.shuffle(min(count, 10_000), seed=seed + index).enumerate(index * count)

  def example(index, encoded):
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(index, tf.int64)])
    return random_crop(decoder.decode_example(encoded), crop_size, key)

  first = first_step * batch_size
  # An epoch's file order is fixed when its data set is made, so they are made one by one as they are needed.
  def examples():
    for index in itertools.count(first // count):
      yield from epoch(index).skip(first % count if index == first // count else 0)

  examples = tf.data.Dataset.from_generator(
      examples, output_signature=(tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)))
  return (examples.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
          .batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE))


def random_crop(photo, crop_size, key):
  """A `[crop, crop, 3]` uint8 crop of a photo at a random place, mirrored with probability 1/2.

  Args:
    photo: `[h, w, 3]` or `[h, w, 1]` uint8; enlarged to the crop's size where it is smaller.
    crop_size: pixels.
    key: int64 pair, seed of the choice.
  """
  if photo.shape[-1] == 1:
    photo = tf.image.grayscale_to_rgb(photo)
  size = tf.shape(photo)[:2]
  shortest = tf.reduce_min(size)

  def enlarged():
    scale = crop_size / shortest
    target = tf.maximum(crop_size, tf.cast(tf.math.ceil(tf.cast(size, tf.float64) * scale), tf.int32))
    return tf.cast(tf.clip_by_value(tf.round(tf.image.resize(photo, target, "bicubic")), 0, 255), tf.uint8)

  photo = tf.cond(shortest < crop_size, enlarged, lambda: photo)
  place, mirror = tf.unstack(tf.random.experimental.stateless_split(key, 2))
  crop = tf.image.stateless_random_crop(photo, [crop_size, crop_size, 3], place)
  return tf.image.stateless_random_flip_left_right(crop, mirror)


def tfds_images(name, split, data_dir, builder=None):
  """The images of a TFDS split as a list of uint8 `[h, w, 3]`, in the set's order; for a split of modest size."""
  builder = builder or tfds.builder(name, data_dir=data_dir)
  images = (example["image"] for example in tfds.as_numpy(builder.as_dataset(split=split)))
  return [np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image for image in images]
