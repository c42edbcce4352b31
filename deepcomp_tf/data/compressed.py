"""Classification sets stored as compressed files: a TFDS builder whose examples are bitstreams with their labels.

`experiments.compress_dataset` runs it; `tfds.load("compressed_classification/CONFIG", data_dir=...)` opens the
result, without this package too.
"""

import dataclasses
import functools
import os
import threading
from typing import Callable

import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

from deepcomp_tf import files
from deepcomp_tf import threads
from deepcomp_tf.codec import images
from deepcomp_tf.data import chunks
from deepcomp_tf.data import cut
from deepcomp_tf.data import sources
from deepcomp_tf.errors import DeepcompError

# Examples that are compressed between two points from which a stopped run goes on.
CHUNK = 256

_opening = threading.Lock()


@dataclasses.dataclass(eq=False)
class SetConfig(tfds.core.BuilderConfig):
  """By what a set is compressed.

  load_codec: as of `chunks.compress`.
  effort: of `Codec.encode`.
  """
  load_codec: Callable = None
  effort: int = 0


@dataclasses.dataclass(eq=False)
class CompressedConfig(SetConfig):
  """What is compressed, and how.

  source: TFDS set or folder, as of `sources.open_source`.
  source_dir: where TFDS keeps the source.
  splits: names of the splits, or slices such as train[:10%], which the set calls by the split's name.
  shorter_side: images are resized to this before; 0 leaves them as they are.
  """
  source: str = ""
  source_dir: str = ""
  splits: tuple = ()
  shorter_side: int = 0


def make_config(source, source_dir, splits, load_codec, shorter_side=0, effort=0):
  """A `CompressedConfig` of these values, named after the source and the operating point.

  Raises:
    DeepcompError: the source holds compressed files, two slices are of one split, or as of `sources.open_source`.
  """
  if len(set(map(_plain, splits))) < len(splits):
    raise DeepcompError(f"expected one slice of a split. Received: {', '.join(splits)}")
  opened = sources.open_source(source, splits[0], source_dir)
  if opened.bitstreams:
    raise DeepcompError(f"expected a set of images. Received: {source}, which holds compressed files")
  return CompressedConfig(name=config_name(opened.name, load_codec().operating_point), load_codec=load_codec, effort=effort,
                          source=source, source_dir=source_dir or "", splits=tuple(splits), shorter_side=shorter_side)


def _plain(split):
  """The name of a split without its slice."""
  return split.split("[")[0]


def config_name(source_name, operating_point):
  """Such as imagenet2012-bpp0.330: of a source's name without its version, and an operating point's name."""
  return f"{source_name.split(':')[0].replace('/', '-')}-{operating_point}"


class CompressedSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A TFDS set that is compressed in chunks.

  Finished chunks lie in a folder beside the set's until all are done, so that the same call goes on where it was stopped.
  What is written, and those chunks, may lie on any file system that TensorFlow reaches.

  Subclasses have `_info`, for which `_info_of` serves, and say what is compressed: `_splits`, a dict from splits to their numbers
  of examples; `_reader`, the `read` of `chunks.compress`; `_settings`, a string that names what chunks depend on besides the
  networks.

  Args:
    config: a `SetConfig`.
    data_dir: the folder of the TFDS sets to write to.
    beam: whether the chunks are compressed by Apache Beam.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, config, data_dir, beam=False):
    self._beam, self._totals, self._codec = beam, [], config.load_codec()
    super().__init__(config=config, data_dir=data_dir)
    # Named after the networks, so that others start afresh. (`data_dir` is another while TFDS prepares the set.)
    readers = self._codec.readers
    self._kept = chunks.Kept("-".join(
        [f"{os.fspath(self.data_dir)}.partial", self._codec.encoder_identity, self._settings()]
        + [f"effort{config.effort}"] * bool(config.effort) + [f"for-{readers}"] * (readers != "people")))

  def _info_of(self, description, feature, metadata=(), **details):
    """The set's `DatasetInfo`: bitstreams with a feature (its name, and what TFDS has it as), and the networks as metadata."""
    codec = self._codec
    return tfds.core.DatasetInfo(
        builder=self, description=f"{description} compressed at the operating point {codec.operating_point}.",
        features=tfds.features.FeaturesDict({
            sources.BITSTREAM: tfds.features.Tensor(shape=(), dtype=tf.string), **dict([feature])}),
        metadata=tfds.core.MetadataDict(
            operating_point=codec.operating_point, fingerprint=codec.fingerprint.hex(), encoder_version=codec.encoder_version,
            effort=self.builder_config.effort, readers=codec.readers, **dict(metadata)), **details)

  def compress(self, **download_options):
    """Compresses the chunks that are missing and writes the set. Options are of `tfds.download.DownloadConfig`.

    Returns:
      dict of totals over all splits: examples, skipped (messages), source_bytes, bytes, symbols.
    """
    files.makedirs(self._kept.folder)
    folder, version = os.path.split(os.fspath(self.data_dir))
    for stale in files.listdir(folder):
      if stale.startswith("incomplete.") and stale.endswith(f"_{version}"):
        files.rmtree(os.path.join(folder, stale))
    if not self._beam:
      for split in self._splits():
        self._compress_in_order(split)
    self._totals = []
    self.download_and_prepare(download_dir=self._kept.folder,
                              download_config=tfds.download.DownloadConfig(**download_options))
    if self._beam:
      self._totals = [files.read_json(self._totals_path(split)) for split in self._splits()]
    files.rmtree(self._kept.folder)
    return chunks.add(self._totals)

  def _chunks(self, split):
    return chunks.cut(split, self._splits()[split], CHUNK)

  def _totals_path(self, split):
    return os.path.join(self._kept.folder, f"totals-{split}.json")

  def _compress_in_order(self, split):
    every, config = self._chunks(split), self.builder_config
    there = self._kept.found(every)
    with tqdm.tqdm(total=self._splits()[split], initial=sum(chunk.end - chunk.begin for chunk in there),
                   desc=f"compressing {split}", unit="image", mininterval=5) as bar:
      missing = [chunk for chunk in every if chunk not in there]
      for chunk, result in chunks.compress(self._reader(), config.load_codec, missing, bar.update, config.effort):
        self._kept.save(chunk, result)

  def _split_generators(self, dl_manager):
    return {_plain(split): self._generate_examples(split) for split in self._splits()}

  def _generate_examples(self, split):
    if self._beam:
      return chunks.on_beam(self._reader(), self.builder_config.load_codec, self._kept, self._chunks(split),
                            self._totals_path(split), self.builder_config.effort)
    return self._kept_examples(split)

  def _kept_examples(self, split):
    for chunk in self._chunks(split):
      result = self._kept.load(chunk)
      self._totals.append(chunks.totals([result]))
      yield from chunks.examples(result)


class CompressedClassification(CompressedSet, skip_registration=True):
  """Bitstreams and labels of a classification set at one operating point, by a `CompressedConfig`.

  Features: `bitstream`, the bytes of a file; `label`. The metadata say the source and the operating
  point.
  """

  def __init__(self, *, config, data_dir, beam=False):
    _cached_source.cache_clear()  # files may have come since another set of it was made
    super().__init__(config=config, data_dir=data_dir, beam=beam)

  def _info(self):
    source, config = self._open(self.builder_config.splits[0]), self.builder_config
    return self._info_of(
        source.name, ("label", tfds.features.ClassLabel(names=source.class_names)),
        {"source": source.name, "shorter_side": config.shorter_side, "splits": list(config.splits),
         "source_identity": self.source_identity()}, supervised_keys=(sources.BITSTREAM, "label"))

  def source_identity(self):
    """A digest of which images the set is made of. Folders of one name are different sources."""
    return files.digest_of(*(self._open(split).digest().encode() for split in self.builder_config.splits))

  def _open(self, split):
    return _open_source(self.builder_config.source, split, self.builder_config.source_dir or None)

  def _splits(self):
    return {split: self._open(split).num_examples for split in self.builder_config.splits}

  def _settings(self):
    return f"{self.builder_config.shorter_side}-{self.source_identity()}"

  def _reader(self):
    config = self.builder_config
    return functools.partial(read_photos, config.source, config.source_dir or None, config.shorter_side)


def read_photos(source_name, source_dir, shorter_side, chunk):
  """The `chunks.Photo`s of a chunk of a classification set, decoded by all cores."""
  source = _open_source(source_name, chunk.split, source_dir)

  def photo(numbered, admit):
    number, (data, label) = numbered
    try:
      image = images.read_image("", data, admit)
    except DeepcompError as error:
      image = DeepcompError(f"{source.name_of(number)}: {error}")
    else:
      image = cut.resize_shorter_side(image, shorter_side).numpy() if shorter_side else image
    return chunks.Photo(number, {"label": int(label)}, len(data), image)

  examples = source.read(chunk.begin, chunk.end).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
  return threads.ordered_map(photo, enumerate(examples, chunk.begin), threads.cores(), most=images.PIXELS_AHEAD)


def _open_source(name, split, data_dir):
  """The `sources.Source`, opened once a process: a folder is listed whole."""
  with _opening:
    return _cached_source(name, split, data_dir)


_cached_source = functools.lru_cache(maxsize=16)(sources.open_source)
