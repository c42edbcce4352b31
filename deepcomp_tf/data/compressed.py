"""Classification sets stored as compressed files: a TFDS builder whose examples are bitstreams with their labels.

`experiments.compress_dataset` runs it; `tfds.load("compressed_classification/CONFIG", data_dir=...)` opens the
result, without this package too.
"""

import dataclasses
import functools
import glob
import os
import shutil

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.data import crops
from deepcomp_tf.data import sources
from deepcomp_tf.errors import DeepcompError

# Examples that are compressed between two points from which a stopped run goes on.
CHUNK = 256


@dataclasses.dataclass(eq=False)
class CompressedConfig(tfds.core.BuilderConfig):
  """What is compressed, and how.

  source: TFDS set or folder, as of `sources.open_source`.
  source_dir: where TFDS keeps the source.
  splits: names of the splits.
  operating_point: a name or a folder.
  shorter_side: images are resized to this before; 0 leaves them as they are.
  """
  source: str = ""
  source_dir: str = ""
  splits: tuple = ()
  operating_point: str = ""
  shorter_side: int = 0


def make_config(source, source_dir, splits, operating_point, shorter_side=0):
  """A `CompressedConfig` of these values, named after the source and the operating point.

  Raises:
    DeepcompError: the source holds compressed files, or as of `sources.open_source`.
  """
  opened = sources.open_source(source, splits[0], source_dir)
  if opened.bitstreams:
    raise DeepcompError(f"expected a set of images. Received: {source}, which holds compressed files")
  return CompressedConfig(
      name=config_name(opened.name, _codec(operating_point).operating_point), source=source,
      source_dir=source_dir or "", splits=tuple(splits), operating_point=operating_point, shorter_side=shorter_side)


def config_name(source_name, operating_point):
  """Such as imagenet2012-bpp0.330: of a source's name without its version, and an operating point's name."""
  return f"{source_name.split(':')[0].replace('/', '-')}-{operating_point}"


class CompressedClassification(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Bitstreams and labels of a classification set at one operating point.

  Features: `bitstream`, the bytes of a file; `label`. The metadata say the source and the operating
  point.

  Args:
    config: a `CompressedConfig`.
    data_dir: the folder of the TFDS sets to write to. Finished chunks lie in a folder beside the set's own until all
      are done, so that the same call goes on where a stopped one was.
    beam: whether the chunks are compressed by Apache Beam.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, config, data_dir, beam=False):
    self._beam = beam
    super().__init__(config=config, data_dir=data_dir)
    # Named after the networks, so that others start afresh. (`data_dir` is another while TFDS prepares the set.)
    self._partial_dir = f"{os.fspath(self.data_dir)}.partial-{_codec(config.operating_point).fingerprint.hex()}"

  def _info(self):
    source, codec = self._open(self.builder_config.splits[0]), _codec(self.builder_config.operating_point)
    return tfds.core.DatasetInfo(
        builder=self,
        description=f"{source.name} compressed at the operating point {codec.operating_point}.",
        features=tfds.features.FeaturesDict({
            sources.BITSTREAM: tfds.features.Tensor(shape=(), dtype=tf.string),
            "label": tfds.features.ClassLabel(names=source.class_names)}),
        supervised_keys=(sources.BITSTREAM, "label"),
        metadata=tfds.core.MetadataDict(
            operating_point=codec.operating_point, fingerprint=codec.fingerprint.hex(), source=source.name,
            shorter_side=self.builder_config.shorter_side))

  def _open(self, split):
    return sources.open_source(self.builder_config.source, split, self.builder_config.source_dir or None)

  def compress(self, **download_options):
    """Compresses what is left to compress and writes the set.

    Args:
      **download_options: for `tfds.download.DownloadConfig`, such as beam_runner and beam_options.

    Returns:
      dict of totals over all splits: examples, skipped (messages), source_bytes, bytes, symbols.
    """
    os.makedirs(self._partial_dir, exist_ok=True)
    folder, version = os.path.split(os.fspath(self.data_dir))
    for stale in glob.glob(os.path.join(glob.escape(folder), f"incomplete.*_{version}")):
      shutil.rmtree(stale)
    if not self._beam:
      for split in self.builder_config.splits:
        self._compress_in_order(split)
    self.download_and_prepare(download_dir=self._partial_dir,
                              download_config=tfds.download.DownloadConfig(**download_options))
    totals = {"examples": 0, "skipped": [], "source_bytes": 0, "bytes": 0, "symbols": 0}
    for split in self.builder_config.splits:
      for index in range(self._chunks(split)):
        chunk = _read_chunk(self._chunk_path(split, index))
        totals["examples"] += len(chunk["labels"])
        totals["skipped"] += chunk["skipped"].tolist()
        totals["bytes"] += chunk["data"].size
        for name in ("source_bytes", "symbols"):
          totals[name] += int(chunk[name])
    shutil.rmtree(self._partial_dir)
    return totals

  def _chunks(self, split):
    return -(-self._open(split).num_examples // CHUNK)

  def _chunk_path(self, split, index):
    return os.path.join(self._partial_dir, f"{split}-{index:05d}.npz")

  def _compress_in_order(self, split):
    source = self._open(split)
    missing = [index for index in range(self._chunks(split)) if not os.path.exists(self._chunk_path(split, index))]
    done = source.num_examples - sum(min(CHUNK, source.num_examples - index * CHUNK) for index in missing)
    with tqdm.tqdm(total=source.num_examples, initial=done, desc=f"compressing {split}", unit="image",
                   mininterval=5) as bar:
      for index in missing:
        compress_chunk(self.builder_config, split, index, self._chunk_path(split, index), bar.update)

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in self.builder_config.splits}

  def _generate_examples(self, split):
    paths = [self._chunk_path(split, index) for index in range(self._chunks(split))]
    if not self._beam:
      return _chunk_examples(paths)
    beam = tfds.core.lazy_imports.apache_beam
    work = [(self.builder_config, split, index, path) for index, path in enumerate(paths)]
    return beam.Create(work) | beam.Reshuffle() | beam.FlatMap(_compress_and_read)


def compress_chunk(config, split, index, path, update=lambda: None):
  """Compresses one chunk of a split into a file, unless it is there.

  Args:
    config: a `CompressedConfig`.
    split: the split's name.
    index: the chunk's number.
    path: file to write, whole or not at all.
    update: called after every image.
  """
  if os.path.exists(path):
    return
  codec = _codec(config.operating_point)
  source = sources.open_source(config.source, split, config.source_dir or None)
  data, labels, numbers, skipped, source_bytes, symbols = [], [], [], [], 0, 0
  examples = source.read(index * CHUNK, min((index + 1) * CHUNK, source.num_examples)).as_numpy_iterator()
  for number, (image, label) in enumerate(examples, start=index * CHUNK):
    source_bytes += len(image)
    try:
      pixels = sources.decode_image(image)
    except tf.errors.InvalidArgumentError as error:
      skipped.append(f"{split} example {number} ({source.class_names[label]}): {sources.one_line(error)}")
    else:
      if config.shorter_side:
        pixels = crops.resize_shorter_side(pixels, config.shorter_side)
      encoded = codec.compress(pixels.numpy())
      symbols += -(-pixels.shape[0] // 8) * -(-pixels.shape[1] // 8) * codec.channels
      data.append(encoded)
      labels.append(label)
      numbers.append(number)
    update()
  temporary = f"{path}.{os.getpid()}.tmp.npz"
  np.savez(temporary, data=np.frombuffer(b"".join(data), np.uint8), sizes=np.array([len(d) for d in data], np.int64),
           labels=np.array(labels, np.int64), numbers=np.array(numbers, np.int64), skipped=np.array(skipped, str),
           source_bytes=source_bytes, symbols=symbols)
  os.replace(temporary, path)


def _read_chunk(path):
  with np.load(path) as arrays:
    return dict(arrays)


def _chunk_examples(paths):
  for path in paths:
    chunk = _read_chunk(path)
    ends = np.cumsum(chunk["sizes"])
    for size, end, label, number in zip(chunk["sizes"], ends, chunk["labels"], chunk["numbers"]):
      yield int(number), {
          sources.BITSTREAM: chunk["data"][end - size:end].tobytes(), "label": int(label)}


def _compress_and_read(work):
  config, split, index, path = work
  compress_chunk(config, split, index, path)
  return list(_chunk_examples([path]))


@functools.lru_cache(maxsize=2)
def _codec(operating_point):
  return Codec.load(operating_point)
