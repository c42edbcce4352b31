"""Crops of photos to train compression on, from a folder or a TFDS set. Example i of a run follows from the seed and i alone."""

import collections
import itertools
import threading

import numpy as np
from PIL import Image
import tensorflow as tf
import tensorflow_datasets as tfds

from deepcomp_tf import threads
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import cut
from deepcomp_tf.data import sources
from deepcomp_tf.data.damage import Damage
from deepcomp_tf.data.damage import or_error
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.errors import DeepcompError

# Decoded photos are kept in memory up to this many bytes; beyond, those that were not used for the longest time are dropped.
CACHE_BYTES = 4 << 30


def read_photos(paths, name="the photos"):
  """Yields the photos in image files, called `name` together, uint8 `[h, w, 3]`. Damaged ones are left out, see `data.damage`."""
  read = 0
  for photo in Damage(name, len(paths)).without_damaged(or_error(read_image, path) for path in paths):
    read += 1
    yield photo
  if not read:
    raise DeepcompError(f"expected photos that can be read. Received: {name}, with none")


class Photos:
  """Photos of a folder that random crops are taken from; each is read when it is first needed.

  Another photo takes the place of a damaged one, see `data.damage.Damage`.

  Args:
    paths: image files.
    shrunk: others, of which the half is taken only, since they were JPEG files of low quality.
  """

  def __init__(self, paths, shrunk=()):
    self._listed, self._lock = [(path, 1) for path in paths] + [(path, 2) for path in shrunk], threading.Lock()
    self._kept, self._bytes, self._damage = collections.OrderedDict(), 0, Damage("the photos", len(self._listed))

  def batches(self, crop_size, batch_size, seed, first_step=0, part=WHOLE):
    """Infinite data set of `[batch, crop, crop, 3]` uint8 crops at random places of random photos, mirrored at random.

    A photo is chosen with equal probability whatever its size. Photos smaller than the crop are enlarged to it. The same seed
    gives the same batches; a stopped run goes on at `first_step`, and `part` is the `data.part.Part` of every batch that is read.
    """
    begin, end = part.of(batch_size)

    def crops(step):
      random = [cut.generator(seed, int(step) * batch_size + number) for number in range(begin, end)]
      photos = threads.pool(threads.cores()).map(self._draw, random)
      return np.stack([_crop(photo, crop_size, rng) for photo, rng in zip(photos, random)])

    return cut.batches(crops, [(tf.uint8, [end - begin, crop_size, crop_size, 3])], first_step)

  def _draw(self, random):
    """A photo, drawn again where it is damaged."""
    while True:
      number = int(random.integers(len(self._listed)))
      try:
        return self._read(number)
      except DeepcompError as error:
        self._damage.add(number, error)  # raises when these are too many
        if len(self._damage.messages) == len(self._listed):
          raise

  def _read(self, number):
    with self._lock:
      if number in self._kept:
        self._kept.move_to_end(number)
        return self._kept[number]
    path, factor = self._listed[number]
    photo = read_image(path)
    if factor > 1:
      photo = np.asarray(Image.fromarray(photo).reduce(factor))
    with self._lock:
      if number not in self._kept:
        self._kept[number] = photo
        self._bytes += photo.nbytes
      while self._bytes > CACHE_BYTES and len(self._kept) > 1:
        self._bytes -= self._kept.popitem(last=False)[1].nbytes
    return photo


def _crop(photo, size, random):
  """A uint8 `[size, size, 3]` crop at a random place of a photo; a smaller photo is enlarged before."""
  shorter = min(photo.shape[:2])
  if shorter < size:
    target = [max(size, round(size / shorter * side)) for side in photo.shape[1::-1]]
    photo = np.asarray(Image.fromarray(photo).resize(target, Image.Resampling.BICUBIC))
  return cut.cut_at_random(photo, size, random)


def _opened(name, split, data_dir, builder):
  """The builder of a TFDS set, how its images are read undecoded, and a count of the damaged ones of its split."""
  builder = builder or sources.prepared_builder(name, data_dir)
  if "image" not in builder.info.features:
    raise DeepcompError(f"expected a data set whose examples have an `image`. Received: {name}")
  return builder, {"image": tfds.decode.SkipDecoding()}, Damage(name, builder.info.splits[split].num_examples)


def tfds_crops(name, split, data_dir, crop_size, batch_size, seed, first_step=0, part=WHOLE, builder=None):
  """Batches as of `Photos.batches` from the images of a TFDS data set with an `image`, for example `imagenet2012`.

  The set, of `tfds.load`'s arguments or of a `builder`, is read shard by shard in an order shuffled anew each epoch, through a
  shuffle buffer. Continuing a stopped run reads over the epoch's examples before the first one, without decoding them.
  """
  builder, decoders, damage = _opened(name, split, data_dir, builder)
  count = builder.info.splits[split].num_examples

  def epoch(index):
    dataset = builder.as_dataset(
        split=split, decoders=decoders, shuffle_files=True,
        read_config=tfds.ReadConfig(shuffle_seed=seed + index, add_tfds_id=False, interleave_cycle_length=8))
    dataset = dataset.map(lambda example: example["image"])
    return dataset.shuffle(min(count, 10_000), seed=seed + index).enumerate(index * count)

  def crops(indices, stored):
    photos = list(threads.pool(threads.cores()).map(sources.decode_or_error, stored))
    whole = []
    for index, photo in zip(indices, photos):
      if isinstance(photo, DeepcompError):
        damage.add(int(index), photo, f"example {index} of the run")
      else:
        whole.append(photo)
    if not whole:
      raise DeepcompError(f"expected a batch with an image that can be read. Received: none of {len(photos)} of {name}")
    # Another photo of the batch takes the place of a damaged one.
    chosen = (whole[number % len(whole)] if isinstance(photo, DeepcompError) else photo for number, photo in enumerate(photos))
    return np.stack([_crop(photo, crop_size, cut.generator(seed, int(index))) for photo, index in zip(chosen, indices)])

  first = first_step * batch_size
  # An epoch's file order is fixed when its data set is made, so they are made one by one as they are needed.
  def examples():
    for index in itertools.count(first // count):
      yield from epoch(index).skip(first % count if index == first // count else 0)

  examples = tf.data.Dataset.from_generator(
      examples, output_signature=(tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)))
  begin, end = part.of(batch_size)
  return (examples.filter(lambda index, _: part.has(index, batch_size)).batch(end - begin, drop_remainder=True)
          .map(lambda *batch: cut.from_numpy(crops, batch, [(tf.uint8, [end - begin, crop_size, crop_size, 3])]),
               num_parallel_calls=2, deterministic=True).prefetch(tf.data.AUTOTUNE))


def tfds_images(name, split, data_dir, builder=None, most=-1):
  """The images of a TFDS split, or the first `most` of them, as a list of uint8 `[h, w, 3]`, in the set's order.

  Damaged ones are left out, see `data.damage.Damage`.
  """
  builder, decoders, damage = _opened(name, split, data_dir, builder)
  stored = builder.as_dataset(split=split, decoders=decoders).take(most)
  images = (sources.decode_or_error(example["image"]) for example in stored.as_numpy_iterator())
  return list(damage.without_damaged(images, lambda number: f"example {number} of {split}"))
