"""Decoded examples in files on local disk, which all processes of a machine share.

They lie in a `caches.cached_folder`. `Maps` is one field of them (pixels, symbols, masks, a teacher's maps), `Store` a set with
labels.
"""

import contextlib
import itertools
import os
import zipfile

import numpy as np
import tensorflow as tf
import tqdm

from deepcomp_tf import caches
from deepcomp_tf import files
from deepcomp_tf import threads
from deepcomp_tf.data.cut import from_numpy
from deepcomp_tf.data.damage import Damage
from deepcomp_tf.errors import DeepcompError

# Files that are decoded together when a store is filled.
FILES_AT_A_TIME = 256

MAPS, INDEX = "maps.bin", "index.npz"


class Maps:
  """One field of all examples: arrays `[h, w, c]` of different sizes, one after the other.

  Args:
    data: array of them all, `[positions, c]`.
    sizes: int `[n, 2]`, their heights and widths.
    stride: each position stands for stride x stride pixels of the example.
  """

  def __init__(self, data, sizes, stride=1):
    self.sizes, self.channels, self.stride, self._data = sizes, data.shape[1], stride, data
    self._starts = np.concatenate([[0], np.cumsum(sizes[:, 0].astype(np.int64) * sizes[:, 1])[:-1]])

  @classmethod
  def open(cls, folder, name, sizes, channels, stride=1):
    """Those of uint8 in a file of a `caches.cached_folder`, which is mapped into memory."""
    path, expected = os.path.join(folder, name), int(sizes.astype(np.int64).prod(axis=1).sum()) * channels
    with damaged_if(path, OSError, ValueError):
      data = np.memmap(path, np.uint8, "r").view(np.ndarray)
      if expected != data.size:
        raise ValueError(f"expected {expected} bytes of maps, found {data.size}")
    return cls(data.reshape(-1, channels), sizes, stride)

  @classmethod
  def of_array(cls, array, stride=1):
    """Those of an array `[n, h, w, c]`."""
    sizes = np.tile(np.array(array.shape[1:3], np.int32), [len(array), 1])
    return cls(np.asarray(array).reshape(-1, array.shape[-1]), sizes, stride)

  def __len__(self):
    return len(self.sizes)

  def __getitem__(self, index):
    """A view into the file."""
    height, width = self.sizes[index]
    begin = self._starts[index]
    return self._data[begin:begin + int(height) * width].reshape(height, width, self.channels)

  def crops(self, indices, corners, size, mirrored=None):
    """Crops of maps that are no smaller, `[n, size / stride, size / stride, c]`, as of `cut.cut`.

    Args:
      indices: int `[n]`, of the maps.
      corners: int `[n, 2]`, where each crop begins, in pixels.
      size: edge of the crops in pixels.
      mirrored: bool `[n]`; None for none.
    """
    # All at once: the places of all positions in the file, which is faster than a call for each crop.
    corners, steps = corners // self.stride, np.arange(size // self.stride)
    widths = self.sizes[indices, 1].astype(np.int64)[:, np.newaxis]
    columns = corners[:, 1:] + (steps if mirrored is None else np.where(mirrored[:, np.newaxis], steps[::-1], steps))
    rows = self._starts[indices][:, np.newaxis] + (corners[:, :1] + steps) * widths
    return np.take(self._data, rows[:, :, np.newaxis] + columns[:, np.newaxis], axis=0)

  @property
  def nbytes(self):
    """Of all maps."""
    return self._data.nbytes


def write_maps(folder, names, examples):
  """Writes what `Maps.open` opens: a file for each name, of iterables of as many uint8 `[h, w, ...]`, the fields of an example.

  Returns:
    list of the fields' sizes, int32 `[n, 2]`.
  """
  sizes = [[] for _ in names]
  with contextlib.ExitStack() as stack:
    opened = [stack.enter_context(open(os.path.join(folder, name), "wb")) for name in names]
    for example in examples:
      for file, of_field, array in zip(opened, sizes, example):
        file.write(np.ascontiguousarray(array))
        of_field.append(array.shape[:2])
  return [np.array(of_field, np.int32).reshape(-1, 2) for of_field in sizes]


@contextlib.contextmanager
def damaged_if(path, *kinds):
  """Context in which errors of these kinds say that a file of a `caches.cached_folder` is damaged."""
  try:
    yield
  except kinds as error:
    raise DeepcompError(f"the cache in {os.path.dirname(path)} is damaged; remove it ({error})") from None


def read_index(folder, *names):
  """The arrays of a folder's index that have these names."""
  path = os.path.join(folder, INDEX)
  with damaged_if(path, OSError, KeyError, ValueError, zipfile.BadZipFile), np.load(path) as index:
    return [index[name] for name in names]


class Store:
  """The examples of a set as pixels or symbols, uint8 `[h, w, c]`, with their labels, read by index.

  They lie in a folder that is written once, and that all processes of the machine map into memory, so that they share one
  copy, and the system keeps in memory what is used:

    maps.bin     one map after the other
    index.npz    their sizes and labels
    store.json   what they were made of, and what could not be decoded

  Args:
    folder: of the store.
    source: the `sources.Source` that it was filled from.
    symbols_codec: the `Codec` that the maps are symbols of; None for pixels.
    pixels_codec: the `Codec` that compressed files' pixels were decoded with; None for symbols and photos.

  Attributes:
    folder, source, symbols_codec, pixels_codec: as given.
    channels: c.
    smallest: the shortest side of all maps.
    skipped: messages, one for each example that could not be decoded and is left out.
    stored_bytes, memory_bytes: of the files that it was made of, and of the maps.
  """

  def __init__(self, folder, source, symbols_codec=None, pixels_codec=None):
    self.folder, self.source, self.symbols_codec, self.pixels_codec = folder, source, symbols_codec, pixels_codec
    self.channels = symbols_codec.channels if symbols_codec else 3
    self.sizes, self.labels = read_index(folder, "sizes", "labels")
    self._maps = Maps.open(folder, MAPS, self.sizes, self.channels)
    path = os.path.join(folder, caches.INFO)
    with damaged_if(path, OSError, KeyError, ValueError):
      info = files.read_json(path)
      self.skipped, self.stored_bytes, self.memory_bytes = info["skipped"], info["stored_bytes"], self._maps.nbytes
    self.smallest = int(self.sizes.min())

  @classmethod
  def open(cls, cache_dir, examples):
    """The store of `classification.Examples`, filled now where no process has done so before; `cache_dir` as of
    `caches.cached_folder`.

    Raises:
      DeepcompError: the folder is remote, or none of the examples, or too few (`damage.ALLOWED_SHARE`), can be decoded.
    """
    source, symbols, pixels = examples.source, examples.symbols_codec, examples.pixels_codec
    made_of = {"source": source.name, "identity": source.identity, "examples": source.num_examples,
               "maps": (f"symbols {symbols.fingerprint.hex()}" if symbols else
                        f"decoded {pixels.identity}" if pixels else "pixels")}
    folder = caches.cached_folder(cache_dir, os.path.basename(source.name.split(":")[0]), made_of,
                           lambda new: _fill(new, examples))
    return cls(folder, source, symbols, pixels)

  def __len__(self):
    return len(self.labels)

  def order(self, seed=None):
    """The data set of the indices of one epoch, in an order that the seed decides; None for the stored order."""
    if seed is None:
      return tf.data.Dataset.range(len(self))
    return tf.data.Dataset.from_tensor_slices(np.random.default_rng(seed).permutation(len(self)))

  def look_into(self, indices):
    """What `load` takes of each, as of `classification.Examples`."""
    return indices,

  def map(self, index):
    """The map of an example, uint8 `[h, w, c]`: a view into the file."""
    return self._maps[index]

  def load(self, index):
    """(uint8 `[h, w, c]`, label) of an index, in a data set."""
    return from_numpy(lambda index: (self.map(index), self.labels[index]), [index],
                      [(tf.uint8, [None, None, self.channels]), (tf.int64, [])])

  def epoch(self, seed=None):
    """The data set of (uint8 `[h, w, c]`, label) of one epoch; see `order`."""
    return self.order(seed).map(self.load, num_parallel_calls=tf.data.AUTOTUNE)

  def read_crops(self, indices, size, places=None, mirrored=None):
    """Crops of the examples at `indices`, int `[n]`, whose sides are no shorter than `size`.

    `places`, float `[n, 2]` in [0, 1), say where each crop lies between the map's top and bottom, and left and right; None is the
    center. `mirrored` is bool `[n]` or None. Returns uint8 `[n, size, size, c]`, labels int64 `[n]`, and `[None] * n`, as nothing
    in a store is damaged.
    """
    room = self.sizes[indices] - size
    corners = room // 2 if places is None else (places * (room + 1)).astype(np.int64)
    return self._maps.crops(indices, corners, size, mirrored), self.labels[indices], [None] * len(indices)

  def read_maps(self, indices):
    """Whole maps: list of uint8 `[h, w, c]`; and labels int64 `[n]`."""
    return [self.map(index) for index in indices], self.labels[indices]

  def new_damage(self):
    """A count of the damaged examples of one pass: there are none."""
    return Damage(self.source.name, len(self))


def _fill(folder, examples):
  source, labels, stored = examples.source, [], 0
  damage = examples.new_damage()
  batches = source.read(0, source.num_examples).batch(FILES_AT_A_TIME).prefetch(2).as_numpy_iterator()
  # Beside the kernels, which decode on all cores, the next batch is opened and the one before is written.
  results = itertools.chain.from_iterable(threads.ordered_map(
      lambda batch: zip(*batch, examples.decode_each(batch[0].tolist())), batches, threads.cores(), ahead=threads.cores()))

  def decoded():
    nonlocal stored
    for number, (data, label, pixels) in enumerate(tqdm.tqdm(
        results, desc=f"decoding {source.name} for the cache", total=source.num_examples, unit="example", mininterval=10)):
      stored += len(data)
      if isinstance(pixels, DeepcompError):
        damage.add(number, pixels, source.name_of(number))
      else:
        labels.append(label)
        yield [pixels]

  sizes, = write_maps(folder, [MAPS], decoded())
  if not labels:
    raise DeepcompError(f"expected examples that can be decoded. Received: {source.name}: "
                        f"{damage.messages[0] if damage.messages else 'none'}")
  np.savez(os.path.join(folder, INDEX), sizes=sizes, labels=np.array(labels, np.int64))
  return {"stored_bytes": stored, "skipped": damage.messages}
