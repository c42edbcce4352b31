"""Plain photos, without labels, stored as one TFDS set of compressed files with their names.

`experiments.compress_photos --set_name=...` runs it; `tfds.load("compressed_photos/NAME", data_dir=...)` opens the result,
without this package too.
"""

import dataclasses
import functools
import os

import tensorflow_datasets as tfds

from deepcomp_tf import files
from deepcomp_tf import threads
from deepcomp_tf.codec import images
from deepcomp_tf.data import chunks
from deepcomp_tf.data import compressed
from deepcomp_tf.data import photo_files
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line

SPLIT = "train"  # as TFDS calls the split of a set that has only one

# Paths in each of the files that tell workers which photos there are.
_PART = 64 * compressed.CHUNK


@dataclasses.dataclass(eq=False)
class PhotosConfig(compressed.SetConfig):
  """What is compressed.

  photos: sorted list of paths.
  root: what their names leave out of the paths, as of `common_root`.
  """
  photos: list = ()
  root: str = ""


class CompressedPhotos(compressed.CompressedSet, skip_registration=True):
  """Bitstreams and names of photos at one operating point, by a `PhotosConfig`.

  Features: `bitstream`, the bytes of a file; `name`, the photo's path below the root.
  """

  def _info(self):
    return self._info_of("Photos", ("name", tfds.features.Text()))

  def compress(self, **download_options):
    photos = self.builder_config.photos
    files.makedirs(self._kept.folder)
    for begin in range(0, len(photos), _PART):
      path = _part_path(self._kept.folder, begin)
      if not files.exists(path):
        files.write_file(path, os.fsencode("\0".join(photos[begin:begin + _PART])))
    return super().compress(**download_options)

  def _splits(self):
    return {SPLIT: len(self.builder_config.photos)}

  def _settings(self):
    return files.digest_of(os.fsencode("\0".join(self.builder_config.photos)))

  def _reader(self):
    return functools.partial(_read, self._kept.folder, self.builder_config.root)


def _part_path(folder, begin):
  return os.path.join(folder, f"photos-{begin:09d}.list")


def _read(folder, root, chunk):
  """The `chunks.Photo`s of a chunk, read by all cores."""
  def photo(path, admit):
    name, size = photo_files.below(root, path), 0
    try:
      size = files.size(path)
      image = images.read_image(path, admit=admit)
    except (DeepcompError, OSError) as error:
      image = DeepcompError(f"{name}: {one_line(error)}")
    return chunks.Photo(name, {"name": name}, size, image)

  def paths():
    for part in range(chunk.begin // _PART * _PART, chunk.end, _PART):
      listed = os.fsdecode(files.read(_part_path(folder, part))).split("\0")
      yield from listed[max(0, chunk.begin - part):chunk.end - part]

  return threads.ordered_map(photo, paths(), threads.cores(), most=images.PIXELS_AHEAD)
