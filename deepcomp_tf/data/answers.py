"""Photos without labels for grafts: their symbols and a teacher's answers, computed once and kept on local disk."""

import itertools
import os

import numpy as np
from PIL import Image
from PIL import ImageEnhance
from PIL import ImageOps
import tensorflow as tf
import tqdm

from deepcomp_tf import caches
from deepcomp_tf import files
from deepcomp_tf import threads
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import cut
from deepcomp_tf.data import photo_files
from deepcomp_tf.data import sources
from deepcomp_tf.data import store
from deepcomp_tf.data.damage import Damage
from deepcomp_tf.data.damage import or_error
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE

# Photos that go through a network together.
BATCH = 32


class Squares:
  """The middles of photos, at one size: their shorter side is resized, and what the longer one has more is cut off. Or other
  views of them, by `drawn_view`.

  Args:
    names: list of folders, which are gone through with the folders in them, of text files that list paths, and of TFDS sets
      with their splits, such as imagenet2012:train; where there are no photos, that is an error.
    size: edge in pixels, a multiple of 8.
    data_dir: where TFDS keeps its sets.
    view: 0 for the middles, other numbers for other views, which are drawn by this number and the photo's place.

  Attributes:
    identity: text that differs for other photos, other sizes and other views.
  """

  def __init__(self, names, size, data_dir=None, view=0):
    self._names, self._data_dir, self._view = names, data_dir, view
    if size < STRIDE or size % STRIDE:
      raise DeepcompError(f"the photos' size must be a positive multiple of {STRIDE}. Received: {size}")
    self.size, self._parts, identities = size, [], [f"{size} view {view}" if view else str(size)]
    for name in names:
      if files.exists(name):
        paths = photo_files.find_photos(name)
        self._parts.append((len(paths), paths))
        identities.append(f"{name} {files.digest_of(*(os.fsencode(f'{path} {files.size(path)}') for path in paths))}")
        continue
      set_name, _, split = name.rpartition(":")
      if not set_name:
        raise DeepcompError(f"expected a folder of photos, or a TFDS set and its split, such as imagenet2012:train. "
                            f"Received: {name}")
      source = sources.open_source(set_name, split, data_dir)
      if source.bitstreams:
        raise DeepcompError(f"expected photos, on which a teacher can answer. Received: {name}, which holds compressed files")
      self._parts.append((source.num_examples, source))
      identities.append(source.identity)
    self.identity, self.name = " ".join(identities), ",".join(os.path.basename(os.path.normpath(name)) for name in names)

  def __len__(self):
    return sum(count for count, _ in self._parts)

  def at(self, size):
    """The same photos at another size."""
    return self if size == self.size else Squares(self._names, size, self._data_dir, self._view)

  def __iter__(self):
    """Yields uint8 `[size, size, 3]`, or the `DeepcompError` of a photo that cannot be read, always in the same order."""
    def read(stored):
      place, photo = stored[0], read_image(*stored[1:])
      return drawn_view(photo, self.size, np.random.default_rng([self._view, place])) if self._view else square(photo, self.size)

    numbered = ((place, *stored) for place, stored in enumerate(self._stored()))
    return threads.ordered_map(lambda stored: or_error(read, stored), numbered, threads.cores(), ahead=4 * BATCH)

  def _stored(self):
    """What `read_image` takes of each."""
    for _, part in self._parts:
      yield from (((path,) for path in part) if isinstance(part, list) else
                  (("", data) for data, _ in part.read(0, part.num_examples).as_numpy_iterator()))


def square(photo, size):
  """The middle of a photo, uint8 `[h, w, 3]` -> uint8 `[size, size, 3]`: its shorter side becomes `size`."""
  return np.asarray(ImageOps.fit(Image.fromarray(photo), (size, size), Image.Resampling.BICUBIC))


def drawn_view(photo, size, rng):
  """A part of a photo at random, uint8 `[h, w, 3]` -> uint8 `[size, size, 3]`: 35 to 100 % of its area, perhaps mirrored, a little
  brighter or darker, with more or less contrast and colour. `rng` is a NumPy generator.
  """
  height, width = photo.shape[:2]
  area, ratio = rng.uniform(0.35, 1) * height * width, np.exp(rng.uniform(-np.log(4 / 3), np.log(4 / 3)))
  part = min(width, np.sqrt(area * ratio)), min(height, np.sqrt(area / ratio))
  left, top = rng.uniform(0, [width - part[0], height - part[1]])
  view = Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC, (left, top, left + part[0], top + part[1]))
  if rng.random() < 0.5:
    view = ImageOps.mirror(view)
  for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
    view = change(view).enhance(rng.uniform(0.75, 1.3))
  return np.asarray(view)


class Answers:
  """Photos as examples for a graft: symbols or decoded pixels, and the teacher's maps and logits.

  Each lies in a file that is written once and mapped into memory by all processes of the machine. The teacher's serve all
  operating points.

  Args:
    photos: `Squares`, of which enough (`damage.ALLOWED_SHARE`) must be readable.
    inputs: the network's `codec.inputs.NetworkInput`.
    teacher: `tasks.teachers.Teacher`.
    cut_at: the layer of the teacher whose maps are kept.
    cache_dir: of `caches.cached_folder`.
    stored_size: edge in pixels of the squares whose symbols are stored, twice that of `photos`, on which the teacher answers: the
      graft sees them halved (`tasks.halving`). None: that of `photos`.

  Attributes:
    stored: `inputs.encode` of the photos: uint8 symbols `[n, size / 8, size / 8, C]`, or pixels `[n, size, size, 3]`; of a
      `stored_size` for it in place of the size.
    maps: float16 `[n, size / 8, size / 8, c]`.
    logits: float16 `[n, classes]`; of a teacher that segments `[n, size / 8, size / 8, classes]`.
  """

  def __init__(self, photos, inputs, teacher, cut_at, cache_dir=None, stored_size=None):
    edge, stored_size = photos.size // STRIDE, stored_size or photos.size
    if stored_size not in (photos.size, 2 * photos.size) or (stored_size > photos.size and inputs.kind != "representation"):
      raise DeepcompError(f"squares are stored at the size that the teacher sees, or representations at twice that. Received: "
                          f"{inputs.kind} at {stored_size} and {photos.size}")
    self.size, self.stored_size, self.name = photos.size, stored_size, photos.name
    kind = {"representation": "symbols", "decoded": "decoded"}[inputs.kind]
    made_by = inputs.codec.encoder_identity if kind == "symbols" else inputs.codec.identity
    if inputs.effort:
      made_by += f" by effort {inputs.effort} for {inputs.codec.readers} with decoder {inputs.codec.decoder_version}"
    self.stored, = _kept(
        cache_dir, photos.at(stored_size), f"{kind} at {made_by}", lambda: lambda pixels: [inputs.encode(pixels)],
        [(np.uint8, (stored_size // inputs.stride, stored_size // inputs.stride, inputs.channels))])
    self.maps, self.logits = _kept(
        cache_dir, photos, f"answers of {teacher.identity} at {cut_at}", lambda: teacher.answers(cut_at),
        [(np.float16, (edge, edge, teacher.channels_at(cut_at))),
         (np.float16, (*((edge, edge) if teacher.segments else ()), len(teacher.class_names)))])
    self._fields = (store.Maps.of_array(self.stored, inputs.stride * photos.size // stored_size),
                    store.Maps.of_array(self.maps, STRIDE))

  def __len__(self):
    return len(self.stored)

  def map_statistics(self):
    """Mean and deviation of the teacher's maps, float32 `[channels]` each."""
    sums, squares, count = 0.0, 0.0, 0
    for begin in range(0, len(self), 512):
      part = self.maps[begin:begin + 512].astype(np.float64)
      sums, squares = sums + part.sum((0, 1, 2)), squares + (part ** 2).sum((0, 1, 2))
      count += part[..., 0].size
    mean = sums / count
    return mean.astype(np.float32), np.sqrt(np.maximum(squares / count - mean ** 2, 1e-6)).astype(np.float32)

  def training_batches(self, batch_size, crop_size, seed, epoch=0, first_step=0, part=WHOLE, beside=()):
    """The batches of an epoch: crops at random places. Arguments as of `Crops.training_batches`; `crop_size` is in pixels.

    Args:
      beside: list of more `Answers`, of the photos at other sizes: they take turns with these, batch by batch.

    Returns:
      data set of crops of `stored`, uint8 `[batch, k, k, C]` or `[batch, crop_size, crop_size, 3]`, of `maps` at the same places,
      float16 `[batch, k, k, c]`, and of the whole photos' `logits`. With a `stored_size` those of `stored` are twice as large.
    """
    begin, end = part.of(batch_size)
    turns = [answers._crops(batch_size, crop_size, seed, epoch, begin, end) for answers in (self, *beside)]
    alike = all(answers.stored_size == answers.size for answers in beside)
    return cut.batches(lambda step: turns[step % len(turns)](step), self._specs(end - begin, crop_size if alike else None),
                       first_step, min(map(len, (self, *beside))) // batch_size)

  def _crops(self, batch_size, crop_size, seed, epoch, begin, end):
    """The function that reads a part of a batch of an epoch, by the batch's number."""
    order = np.random.default_rng([seed, epoch]).permutation(len(self))
    room = (self.size - crop_size) // STRIDE + 1

    def read(step):
      indices = order[step * batch_size:(step + 1) * batch_size][begin:end]
      corners = STRIDE * cut.draw_corners(seed, epoch, step, batch_size, room)[begin:end]
      return *(field.crops(indices, corners, crop_size) for field in self._fields), self.logits[indices]

    return read

  def whole_batches(self, batch_size):
    """All photos, whole, in their order, as of `training_batches`; the last batch may be smaller."""
    def read(step):
      chosen = slice(step * batch_size, (step + 1) * batch_size)
      return self.stored[chosen], self.maps[chosen], self.logits[chosen]

    return cut.batches(read, self._specs(None, self.size), end=-(-len(self) // batch_size))

  def _specs(self, count, size):
    return [(dtype, [count, *[size and size // field.stride] * 2, field.channels])
            for dtype, field in zip((tf.uint8, tf.float16), self._fields)] + [
                (tf.float16, [count, *[None] * (self.logits.ndim - 2), self.logits.shape[-1]])]


def _kept(cache_dir, photos, kind, make, arrays):
  """Arrays of what a function makes of photos, mapped from the files of a `caches.cached_folder`.

  Args:
    cache_dir, photos: as of `Answers`.
    kind: text that says what they are made by.
    make: function that makes the function of uint8 `[batch, size, size, 3]` that returns tensors `[batch, ...]`.
    arrays: list of (type, shape of an example).
  """
  name, made_of = kind.split(" ")[0], {"photos": photos.identity, "count": len(photos), "kind": kind}

  def fill(folder):
    function, damage, done = make(), Damage(photos.name, len(photos)), 0
    opened = [np.lib.format.open_memmap(os.path.join(folder, f"{number}.npy"), "w+", dtype, (len(photos), *shape))
              for number, (dtype, shape) in enumerate(arrays)]
    read = damage.without_damaged(tqdm.tqdm(photos, desc=f"{name} of {photos.name}", unit="photo", mininterval=10))
    while batch := list(itertools.islice(read, BATCH)):
      for array, values in zip(opened, function(np.stack(batch))):
        array[done:done + len(batch)] = values.numpy()
      done += len(batch)
    for array in opened:
      array.flush()
    return {"photos_kept": done, "damage": damage.messages}

  folder = caches.cached_folder(cache_dir, name, made_of, fill)
  kept = files.read_json(os.path.join(folder, caches.INFO))["photos_kept"]
  if not kept:
    raise DeepcompError(f"expected photos that can be read. Received: {photos.name}, with none")
  loaded = []
  for number in range(len(arrays)):
    path = os.path.join(folder, f"{number}.npy")
    with store.damaged_if(path, OSError, ValueError):
      loaded.append(np.load(path, mmap_mode="r")[:kept])
  return loaded
