"""Classification sets as networks take them: `Examples`, which are decoded as they are read, or a `Store` of decoded ones."""

import numpy as np
import tensorflow as tf

from deepcomp_tf import threads
from deepcomp_tf.data import cut
from deepcomp_tf.data import sources
from deepcomp_tf.data.damage import Damage
from deepcomp_tf.data.store import Store
from deepcomp_tf.errors import DeepcompError

CACHES = ("none", "encoded", "decoded")


class Examples:
  """The examples of a source, decoded anew whenever they are read: pixels of photos, or symbols of compressed files.

  Args:
    source: a `sources.Source`.
    codec: the `Codec` that a source of bitstreams was written with; None for images.
    to_pixels: whether compressed files are decoded to pixels. That is for a `Store`; without one, `Crops` decodes on the device.

  Attributes:
    symbols_codec: the `Codec` that they are read with, where they are symbols of bitstreams; else None.
    pixels_codec: the `Codec` that they are decoded with, where they are pixels of bitstreams; else None.
    channels: of the pixels or symbols, uint8 `[h, w, c]`.
    smallest: None, since their sizes are not known before they are read.
  """

  smallest = None

  def __init__(self, source, codec=None, to_pixels=False):
    if source.bitstreams and codec is None:
      raise DeepcompError(f"{source.name} holds bitstreams; reading them takes the codec they were written with")
    if source.bitstreams and source.fingerprint not in (None, codec.fingerprint.hex()):
      raise DeepcompError(f"expected a set of the operating point {codec.fingerprint.hex()} ({codec.operating_point}). "
                          f"Received: {source.name}, which was compressed at {source.fingerprint}")
    self.source = source
    self.symbols_codec = codec if source.bitstreams and not to_pixels else None
    self.pixels_codec = codec if source.bitstreams and to_pixels else None
    self.channels = codec.channels if self.symbols_codec else 3

  def __len__(self):
    """How many there are, with those that cannot be decoded."""
    return self.source.num_examples

  def order(self, seed=None):
    """The data set of (bytes, label) of one epoch, in an order that the seed decides; None for the stored order."""
    return self.source.read(0, len(self)) if seed is None else self.source.shuffle(seed)

  def look_into(self, data, label):
    """What `load` takes, of a batch of examples: it is cheaper to look into all of them at once."""
    return (data, label) if self.symbols_codec else (data, label, sources.are_plain(data))

  def load(self, data, label, plain=None):
    """(bytes, label) -> (uint8 `[h, w, c]`, label), in a data set. Raises where it cannot be decoded."""
    decoded = (tf.numpy_function(self.symbols_codec.symbols, [data], tf.uint8) if self.symbols_codec else
               sources.decode_image(data, plain))
    return tf.ensure_shape(decoded, [None, None, self.channels]), label

  def decode_each(self, files):
    """Decodes a list of files on all cores: list of uint8 `[h, w, c]`, or of the error of a file that cannot be decoded."""
    if self.symbols_codec:
      return self.symbols_codec.symbols(files, "return")
    if self.pixels_codec:
      return self.pixels_codec.decompress(files, "return")
    return list(threads.pool(threads.cores()).map(sources.decode_or_error, files))

  def read_crops(self, files, labels, size, places=None, mirrored=None):
    """Crops of a batch of compressed files, on this thread: several batches are read at the same time.

    `size` is their edge in positions, `places` are as of `Codec.crops_of`, `mirrored` is bool `[n]` or None. Returns uint8
    `[n, size, size, C]`, labels, and a list of the errors, None for a file that has none.
    """
    symbols, errors = self.symbols_codec.crops_of(files.tolist(), size, places, threads=1)
    if mirrored is not None:
      symbols[mirrored] = symbols[mirrored, :, ::-1]
    return symbols, labels, errors

  def read_maps(self, files, labels):
    """The symbols of a batch of compressed files: list of uint8 `[h, w, C]`, or of errors; and labels. See `read_crops`."""
    return self.symbols_codec.symbols(files.tolist(), "return", threads=1), labels

  def epoch(self, seed=None):
    """The data set of (uint8 `[h, w, c]`, label) of one epoch; see `order`. Those that cannot be decoded are left out."""
    damage = self.new_damage()

    def read(number, data):
      decoded, = self.decode_each([data])
      if isinstance(decoded, DeepcompError):
        damage.add(int(number), decoded, f"example {number} of the epoch")
        return np.zeros([0, 0, self.channels], np.uint8)
      return decoded

    return (self.order(seed).enumerate()
            .map(lambda number, example: (cut.from_numpy(read, [number, example[0]], [(tf.uint8, [None, None, self.channels])]),
                                          example[1]), num_parallel_calls=tf.data.AUTOTUNE)
            .filter(lambda data, _: tf.size(data) > 0))

  def new_damage(self):
    """A count of the damaged examples of one pass."""
    return Damage(self.source.name, len(self))


def open_examples(name, split, inputs, data_dir=None, cache="none", cache_dir=None, of_each_class=0):
  """The examples of a split, of `sources.open_source`, as a network's `inputs` need them: `Examples` or a `Store`.

  `cache` "none" reads and decodes anew in every epoch; "encoded" keeps the files in memory; "decoded" writes what the
  network sees of them, pixels or symbols, to local disk once, to the folder `cache_dir` (empty: `caches.CACHE_DIR`), for this run
  and all later ones. Above 0, `of_each_class` takes as many examples of each class, the first.

  Raises:
    DeepcompError: the set is of compressed files and the network wants original pixels, or as of `sources.open_source`.
  """
  if cache not in CACHES:
    raise DeepcompError(f"`cache` must be one of {', '.join(CACHES)}. Received: cache={cache!r}")
  source = sources.open_source(name, split, data_dir)
  if of_each_class:
    source = sources.first_of_each_class(source, of_each_class)
  if source.bitstreams and inputs.kind == "original":
    raise DeepcompError(f"expected a set of images for original pixels. Received: {name}, which holds compressed files")
  examples = Examples(sources.in_memory(source) if cache == "encoded" else source, inputs.codec if source.bitstreams else None,
                      to_pixels=cache == "decoded" and inputs.kind == "decoded")
  return Store.open(cache_dir, examples) if cache == "decoded" else examples
