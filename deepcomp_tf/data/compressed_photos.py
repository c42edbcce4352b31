"""Plain photos, without labels, stored as one TFDS set of compressed files with their names.

`experiments.compress_photos --set_name=...` runs it; `tfds.load("compressed_photos/NAME", data_dir=...)` opens the result,
without this package too.
"""

import dataclasses
import functools
import os

import tensorflow as tf
import tensorflow_datasets as tfds

from deepcomp_tf import files
from deepcomp_tf.codec.images import PIXELS_AHEAD
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import chunks
from deepcomp_tf.data import compressed
from deepcomp_tf.data import photo_files
from deepcomp_tf.data import sources
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map

SPLIT = "train"  # as TFDS calls the split of a set that has only one

# Paths in each of the files that tell workers which photos there are.
_PART = 64 * compressed.CHUNK


@dataclasses.dataclass(eq=False)
class PhotosConfig(tfds.core.BuilderConfig):
  """What is compressed.

  photos: sorted list of paths.
  root: what their names leave out of the paths, as of `common_root`.
  operating_point: a name or a folder.
  effort: of `Codec.encode`.
  readers: of `aim.load`.
  """
  photos: list = ()
  root: str = ""
  operating_point: str = ""
  effort: int = 0
  readers: str = "people"


class CompressedPhotos(compressed.CompressedSet, skip_registration=True):
  """Bitstreams and names of photos at one operating point.

  Features: `bitstream`, the bytes of a file; `name`, the photo's path below the root.

  Args:
    config: a `PhotosConfig`.
    data_dir, beam: of `compressed.CompressedSet`.
  """

  def _info(self):
    codec = chunks.open_codec(self.builder_config.operating_point)
    return tfds.core.DatasetInfo(
        builder=self,
        description=f"Photos compressed at the operating point {codec.operating_point}.",
        features=tfds.features.FeaturesDict({
            sources.BITSTREAM: tfds.features.Tensor(shape=(), dtype=tf.string), "name": tfds.features.Text()}),
        metadata=tfds.core.MetadataDict(operating_point=codec.operating_point, fingerprint=codec.fingerprint.hex(),
                                        encoder_version=codec.encoder_version,
                                        effort=self.builder_config.effort, readers=self.builder_config.readers))

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
  return ordered_map(functools.partial(_photo, root), _paths(folder, chunk.begin, chunk.end), cores(), most=PIXELS_AHEAD)


def _paths(folder, begin, end):
  for part in range(begin // _PART * _PART, end, _PART):
    yield from os.fsdecode(files.read(_part_path(folder, part))).split("\0")[max(0, begin - part):end - part]


def _photo(root, path, admit):
  name, size = photo_files.below(root, path), 0
  try:
    size = files.size(path)
    image = read_image(path, admit=admit)
  except (DeepcompError, OSError) as error:
    image = DeepcompError(f"{name}: {one_line(error)}")
  return chunks.Photo(name, {"name": name}, size, image)
