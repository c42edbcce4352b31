"""Classification sets as networks take them: photos or compressed files with labels.

A set gives encoded bytes (JPEG files, or our bitstreams), and `Examples` decides whether they are decoded anew in
every epoch, kept in memory as they are, or decoded once and kept as pixels or symbols, one byte each.
"""

import itertools

import numpy as np
import tensorflow as tf
import tqdm

from deepcomp_tf.data.damage import Damage
from deepcomp_tf.data.sources import decode_image
from deepcomp_tf.data.sources import one_line
from deepcomp_tf.data.sources import open_source
from deepcomp_tf.errors import DeepcompError

CACHES = ("none", "encoded", "decoded")

# Files that are decoded together to fill a cache.
FILES_AT_A_TIME = 256


class Examples:
  """The examples of a source, ready to be cropped: pixels or symbols, uint8 `[h, w, c]`, with labels.

  Args:
    source: a `Source`.
    codec: the `Codec` that a source of bitstreams is read with; None for images.
    pixels: whether bitstreams are decoded to pixels, by the network, rather than to symbols.
    cache: "none" reads and decodes anew in every epoch, "encoded" keeps the files in memory, "decoded" what is in
      them. Only "decoded" names and counts the examples that cannot be decoded before training begins; the others
      do so as they come to them.

  Attributes:
    stored_bytes, memory_bytes: of the examples as they are stored and as they are kept in memory; None if not cached.
    symbols_codec: the `Codec` that they are read with, where they are symbols of bitstreams; else None.
    smallest: the shortest side of the examples; "decoded" only.
    skipped: messages, one for each example that could not be decoded; "decoded" only.

  Raises:
    DeepcompError: a source of bitstreams without the codec that they were written with, or many of the examples cannot be
      decoded (`damage.ALLOWED_SHARE`).
  """

  def __init__(self, source, codec=None, pixels=False, cache="none"):
    if cache not in CACHES:
      raise DeepcompError(f"`cache` must be one of {', '.join(CACHES)}. Received: cache={cache!r}")
    if source.bitstreams and codec is None:
      raise DeepcompError(f"{source.name} holds bitstreams; reading them takes the codec they were written with")
    if source.bitstreams and source.fingerprint not in (None, codec.fingerprint.hex()):
      raise DeepcompError(f"expected a set of the operating point {codec.fingerprint.hex()} ({codec.operating_point}). "
                          f"Received: {source.name}, which was compressed at {source.fingerprint}")
    self.source, self._cache = source, cache
    self.skipped, self.stored_bytes, self.memory_bytes, self.smallest = [], None, None, None
    self.symbols_codec = codec if source.bitstreams and not pixels else None
    if not source.bitstreams:
      self._decode, self.channels = decode_image, 3
    else:
      self._decode = codec.decompress if pixels else codec.symbols
      self.channels = 3 if pixels else codec.channels
    if cache != "none":
      self._fill()

  def __len__(self):
    """How many there are; in a source that is not cached, with those that cannot be decoded."""
    return self.source.num_examples if self._cache == "none" else len(self._labels)

  def _fill(self):
    kept, labels, stored, damage = [], [], 0, self.new_damage()
    progress = tqdm.tqdm(self.source.read(0, self.source.num_examples).as_numpy_iterator(), desc=f"reading {self.source.name}",
                         total=self.source.num_examples, unit="example", mininterval=10)
    chunks = iter(lambda: list(itertools.islice(progress, FILES_AT_A_TIME)), [])
    for number, ((data, label), decoded) in enumerate(
        (example, decoded) for chunk in chunks for example, decoded in zip(chunk, self._decode_each(chunk))):
      stored += len(data)
      if isinstance(decoded, Exception):
        damage.add(number, f"example {number} ({self.source.class_names[label]}): {one_line(decoded)}")
        continue
      kept.append(decoded)
      labels.append(label)
    self.skipped = damage.messages
    if not kept:
      raise DeepcompError(f"expected examples that can be decoded. Received: {self.source.name}: {self.skipped[0]}")
    self._labels = tf.constant(labels, tf.int64)
    self.stored_bytes = stored
    if self._cache == "encoded":
      self._kept, self.memory_bytes = tf.constant(kept), stored
      return
    self._sizes = tf.constant([data.shape[:2] for data in kept], tf.int64)
    ends = np.cumsum([data.shape[0] * data.shape[1] for data in kept])
    self._starts = tf.constant(np.concatenate([[0], ends[:-1]]), tf.int64)
    self._kept = tf.constant(np.concatenate([data.reshape(-1, self.channels) for data in kept]))
    self.memory_bytes = int(ends[-1]) * self.channels
    self.smallest = min(min(data.shape[:2]) for data in kept)

  def _decode_each(self, examples):
    """What is kept of each of some examples, or the error of one that cannot be decoded."""
    files = [data for data, _ in examples]
    if self._cache == "encoded":
      return files
    if self.symbols_codec:
      symbols, errors = self.symbols_codec.symbols_of(files)
      return [errors.get(number, one) for number, one in enumerate(symbols)]
    decoded = []
    for data in files:
      try:
        decoded.append(np.asarray(self._decode(data)))
      except (DeepcompError, tf.errors.InvalidArgumentError) as error:
        decoded.append(error)
    return decoded

  def _load(self, index):
    size, start = self._sizes[index], self._starts[index]
    data = tf.reshape(self._kept[start:start + tf.reduce_prod(size)], [size[0], size[1], self.channels])
    return data, self._labels[index]

  def random_crops(self, indices, size, key):
    """Crops of decoded examples in memory, at random places and mirrored at random, a whole batch at once.

    Args:
      indices: int64 `[batch]`.
      size: edge of the crops, at most `smallest`.
      key: int64 pair, seed of the choice.

    Returns:
      uint8 `[batch, size, size, channels]`, labels int64 `[batch]`.
    """
    place, mirror = tf.unstack(tf.random.experimental.stateless_split(key, 2))
    sizes = tf.gather(self._sizes, indices)
    room = tf.cast(sizes - size + 1, tf.float32)
    corners = tf.cast(tf.random.stateless_uniform(tf.shape(room), place) * room, tf.int64)
    rows, columns = (corners[:, axis, tf.newaxis] + tf.range(size, dtype=tf.int64) for axis in (0, 1))
    mirrored = tf.random.stateless_uniform(tf.shape(indices), mirror) < 0.5
    columns = tf.where(mirrored[:, tf.newaxis], columns[:, ::-1], columns)
    positions = (tf.gather(self._starts, indices)[:, tf.newaxis, tf.newaxis]
                 + rows[:, :, tf.newaxis] * sizes[:, 1, tf.newaxis, tf.newaxis] + columns[:, tf.newaxis])
    return tf.gather(self._kept, positions), tf.gather(self._labels, indices)

  def new_damage(self):
    """A count of the damaged examples of one pass."""
    return Damage(self.source.name, self.source.num_examples)

  def indices(self, seed=None):
    """The data set of the indices of one epoch of a cached source, in an order that the seed decides."""
    dataset = tf.data.Dataset.range(len(self))
    return dataset if seed is None else dataset.shuffle(len(self), seed=seed)

  def _stored(self, seed):
    return self.source.read(0, self.source.num_examples) if seed is None else self.source.shuffle(seed)

  def file_batches(self, batch_size, seed=None):
    """The files of one epoch as they are stored, not decoded: a data set of (strings `[batch]`, labels `[batch]`)."""
    if self._cache == "none":
      return self._stored(seed).batch(batch_size)
    return self.indices(seed).batch(batch_size).map(
        lambda indices: (tf.gather(self._kept, indices), tf.gather(self._labels, indices)))

  def _decode_in_graph(self, data, label):
    decoded = (decode_image(data) if not self.source.bitstreams else
               tf.numpy_function(self._decode, [data], tf.uint8))
    return tf.ensure_shape(decoded, [None, None, self.channels]), label

  def epoch(self, seed=None):
    """The data set of (uint8 `[h, w, c]`, label) of one epoch, in an order that the seed decides.

    Args:
      seed: an integer; None for the stored order.
    """
    if self._cache == "decoded":
      return self.indices(seed).map(self._load, num_parallel_calls=tf.data.AUTOTUNE)
    if self._cache == "encoded":
      dataset = self.indices(seed).map(lambda index: (self._kept[index], self._labels[index]))
    else:
      dataset = self._stored(seed)
    return self._decoded(dataset)

  def _decoded(self, dataset):
    """Decodes (bytes, label), leaving out what is damaged."""
    damage = self.new_damage()

    def take_note(first, after):
      for number in range(first, after):
        damage.add(number, f"example {number} of the epoch; a line above says why")
      return np.int64(after)

    def count(last, example):
      number, data, label = example
      # Those that `ignore_errors` left out leave a gap in the numbers.
      number = tf.cond(number > last + 1, lambda: tf.numpy_function(take_note, [last + 1, number], tf.int64), lambda: number)
      return tf.ensure_shape(number, []), (data, label)

    return (dataset.enumerate()
            .map(lambda number, example: (number, *self._decode_in_graph(*example)), num_parallel_calls=tf.data.AUTOTUNE)
            .ignore_errors(log_warning=True).scan(tf.constant(-1, tf.int64), count))


def open_examples(name, split, inputs, data_dir=None, cache="none"):
  """The examples of a split, as a network's input needs them.

  Args:
    name, split, data_dir: as of `open_source`.
    inputs: the network's `codec.inputs.NetworkInput`.
    cache: as of `Examples`.

  Raises:
    DeepcompError: the set is of compressed files and the network wants original pixels, or as of `open_source`.
  """
  source = open_source(name, split, data_dir)
  if source.bitstreams and inputs.kind == "original":
    raise DeepcompError(f"expected a set of images for original pixels. Received: {name}, which holds compressed files")
  return Examples(source, inputs.codec if source.bitstreams else None, inputs.kind == "decoded", cache)
