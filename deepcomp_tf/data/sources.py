"""Classification sets as they are stored: TFDS sets and folders of image files, and sets of our compressed files."""

import os
import random
from typing import Callable, NamedTuple, Optional
import zlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

from deepcomp_tf import files
from deepcomp_tf.codec import images
from deepcomp_tf.data.damage import or_error
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line

# Feature of the sets of our bitstreams (`data/compressed.py`).
BITSTREAM = "bitstream"

# Examples of a TFDS set are shuffled within a window of this size, besides the order of its files.
SHUFFLE_BUFFER = 16384

# Images of a folder whose contents are looked at to tell it from others.
DIGESTED = 8


class Source(NamedTuple):
  """One split of a classification set, as it is stored.

  name: for people.
  class_names: list of str; labels are indices into it.
  num_examples: how many there are.
  bitstreams: whether the examples are compressed files of ours; else they are image files.
  fingerprint: of the operating point that a set of compressed files was written with, as hex; None where it does not say.
  identity: text that differs for other sets and other parts of them.
  digest: function that returns such a text that stays the same when the set is moved or copied.
  name_of: function of an example's place that returns what people call it, such as the name of its file.
  read: function of (begin, end) that returns the data set of (bytes, label) of these examples in the stored order. In a TFDS
    set, which has no access by index, it skips what lies before them in the same file, and no more.
  shuffle: function of a seed that returns the data set of all of them in an order that the seed decides.
  """
  name: str
  class_names: list
  num_examples: int
  bitstreams: bool
  fingerprint: Optional[str]
  identity: str
  digest: Callable
  name_of: Callable
  read: Callable
  shuffle: Callable


def _by_index(count, load):
  """`read` and `shuffle` of a source whose examples, (bytes, label), a function has of their indices, scalar tensors."""
  loaded = lambda indices: indices.map(load, num_parallel_calls=tf.data.AUTOTUNE)
  return {"read": lambda begin, end: loaded(tf.data.Dataset.range(begin, end)),
          "shuffle": lambda seed: loaded(tf.data.Dataset.range(count).shuffle(count, seed=seed))}


def open_source(name, split, data_dir=None):
  """Opens a split, such as "train" or "train[90%:]", of a TFDS set or of a folder.

  A TFDS set, kept in `data_dir`, has the features `image` or, as `experiments.compress_dataset` writes it, `bitstream`, and
  `label`; a folder has the images in `split/class/*.jpg`, or in `class/*.jpg`, the split "train", and no empty class.
  """
  if files.isdir(name):
    return _open_folder(name, split)
  builder = prepared_builder(name, data_dir)
  features = builder.info.features
  key = next((key for key in (BITSTREAM, "image") if key in features), None)
  if key is None or not isinstance(dict(features.items()).get("label"), tfds.features.ClassLabel):
    raise DeepcompError(f"expected a set with the features image or {BITSTREAM}, and label. Received: {name} "
                        f"with {', '.join(features)}")
  plain, first, count = slice_of(builder.info.splits, split)
  decoders = {"image": tfds.decode.SkipDecoding()} if key == "image" else None

  def examples(begin, end, seed=None):
    part = tfds.core.ReadInstruction(plain, from_=first + begin, to=first + end, unit="abs")
    dataset = builder.as_dataset(split=part, shuffle_files=seed is not None, decoders=decoders,
                                 read_config=tfds.ReadConfig(shuffle_seed=seed, add_tfds_id=False))
    return dataset.map(lambda example: (example[key], example["label"]), num_parallel_calls=tf.data.AUTOTUNE)

  def name_of(number):
    if "file_name" not in features:
      return f"example {first + number} of {plain}"
    part = tfds.core.ReadInstruction(plain, from_=first + number, to=first + number + 1, unit="abs")
    example, = builder.as_dataset(split=part, decoders=decoders).as_numpy_iterator()
    return example["file_name"].decode()

  def shuffle(seed):
    return examples(0, count, seed).shuffle(min(SHUFFLE_BUFFER, count), seed=seed)

  metadata = builder.info.metadata or {}
  for _, label in examples(0, 1):
    if label < 0:  # as in the test splits of TFDS
      raise DeepcompError(f"expected a split with labels. Received: {split} of {name}, whose first label is {int(label)}")
  shards = builder.info.splits[plain]
  identity = f"{builder.info.full_name} {plain}[{first}:{first + count}] {shards.shard_lengths} {shards.num_bytes}"
  return Source(name, features["label"].names, count, key != "image", metadata.get("fingerprint"), identity,
                lambda: identity, name_of, examples, shuffle)


def in_memory(source):
  """The same source, with its files kept in memory."""
  stored = [(data, int(label)) for data, label in tqdm.tqdm(
      source.read(0, source.num_examples).as_numpy_iterator(), desc=f"reading {source.name}", total=source.num_examples,
      unit="file", mininterval=10)]
  contents, labels = tf.constant([data for data, _ in stored]), tf.constant([label for _, label in stored], tf.int64)
  return source._replace(**_by_index(len(stored), lambda index: (contents[index], labels[index])))


def first_of_each_class(source, count):
  """The first `count` examples of each class of a source, with their files in memory. One with fewer is an error."""
  missing, chosen = dict.fromkeys(range(len(source.class_names)), count), []
  for number, (data, label) in enumerate(source.read(0, source.num_examples).as_numpy_iterator()):
    if missing[int(label)]:
      missing[int(label)] -= 1
      chosen.append((number, data, int(label)))
      if not any(missing.values()):
        break
  short = [f"{count - left} of {source.class_names[label]}" for label, left in missing.items() if left]
  if short:
    raise DeepcompError(f"expected at least {count} examples of each class in {source.name}. Received: {', '.join(short[:5])}")
  numbers, contents, labels = zip(*chosen)
  contents, labels = tf.constant(contents), tf.constant(labels, tf.int64)
  tell = lambda text: f"{text} first {count} of each class"
  return source._replace(num_examples=len(numbers), identity=tell(source.identity), digest=lambda: tell(source.digest()),
                         name_of=lambda number: source.name_of(numbers[number]),
                         **_by_index(len(numbers), lambda index: (contents[index], labels[index])))


def prepared_builder(name, data_dir=None):
  """The builder of a TFDS set that is on disk."""
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except (tfds.core.registered.DatasetNotFoundError, ValueError, OSError, tf.errors.OpError) as error:
    where = f" in {data_dir}" if data_dir else ""
    raise DeepcompError(f"expected a TFDS set or a folder. Received: {name}{where} ({one_line(error)})") from None
  except KeyError as error:  # a scheme that TFDS does not know, whatever TensorFlow knows
    raise DeepcompError(f"expected a data_dir that TFDS can read. Received: {data_dir} ({one_line(error)})") from None
  if not builder.is_prepared():
    place, module = f", data_dir={data_dir!r}" if data_dir else "", type(builder).__module__
    imports = "import tensorflow_datasets as tfds" + ("" if module.startswith("tensorflow_datasets.") else f", {module}")
    by_hand = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    raise DeepcompError(f'{name} is not prepared in {builder.data_dir}; python -c "{imports}; '
                        f'tfds.builder({name!r}{place}).download_and_prepare()" does that'
                        f'{by_hand and f", after this: {by_hand}"}')
  return builder


def _open_folder(folder, split):
  sets = {name: _folders(os.path.join(folder, name)) for name in _folders(folder)}
  place_of = {name: name for name in sets}
  if sets and not any(sets.values()):
    sets, place_of = {"train": list(sets)}, {"train": ""}
  class_folders = sorted({label for labels in sets.values() for label in labels})
  names = {}
  for name, labels in sets.items():
    names[name] = [(os.path.join(place_of[name], label, file), class_folders.index(label)) for label in labels
                   for file in files.listdir(os.path.join(folder, place_of[name], label))
                   if images.is_photo(os.path.join(folder, place_of[name], label, file))]
    random.Random(name).shuffle(names[name])  # as TFDS's ImageFolder has them, so that any part has all classes
  if not any(names.values()):
    raise DeepcompError(f"expected images in split/class/*.jpg or class/*.jpg. Received: {folder}, where there are none")
  plain, first, count = slice_of(tfds.core.splits.SplitDict(
      tfds.core.SplitInfo(name=name, shard_lengths=[len(of)], num_bytes=0) for name, of in names.items()), split)
  for number in sorted(set(range(len(class_folders))) - {label for _, label in names[plain]}):
    place = os.path.join(folder, place_of[plain], class_folders[number])
    raise DeepcompError(f"expected images of every class. Received: {place}, which is empty or missing")
  chosen, labels = map(list, zip(*names[plain][first:first + count]))
  stored_paths = tf.constant([os.fsencode(os.path.join(folder, name)) for name in chosen])
  stored_labels = tf.constant(labels, tf.int64)

  def digest():
    """Of all names, and of `DIGESTED` images, since folders of other photos often have the same names in them."""
    contents = (files.read(os.path.join(folder, name)) for name in chosen[::-(-count // DIGESTED)])
    return files.digest_of(*map(os.fsencode, chosen), *contents)

  # When files were last added, taken away or replaced.
  change_of = ((lambda path: tf.io.gfile.stat(path).mtime_nsec) if files.is_remote(folder) else
               (lambda path: os.stat(path).st_mtime_ns))
  changed = max(change_of(os.path.join(folder, place_of[plain], name)) for name in class_folders)
  identity = (f"{files.printable(folder)} {plain}[{first}:{first + count}] "
              f"{zlib.crc32(os.fsencode(chr(10).join(chosen))):08x} {changed}")
  return Source(os.path.basename(os.path.normpath(folder)), list(map(files.printable, class_folders)), count, False, None,
                identity, digest, chosen.__getitem__,
                **_by_index(count, lambda index: (tf.io.read_file(stored_paths[index]), stored_labels[index])))


def _folders(folder):
  """Sorted names of the folders in a folder, without hidden ones, which notebooks and desktops leave there."""
  return [name for name in files.listdir(folder) if not name.startswith(".") and files.isdir(os.path.join(folder, name))]


def slice_of(splits, split):
  """(plain split, first example, number of examples) of a split of a builder's `info.splits`, such as "train[90%:]"."""
  sizes = {name: info.num_examples for name, info in splits.items()}
  try:
    part, = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    plain, begin, end = part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to
  except (KeyError, ValueError, AssertionError) as error:
    raise DeepcompError(f"expected one split of {', '.join(sizes)}, or a slice of one. Received: {split!r} "
                        f"({one_line(error)})") from None
  if end <= begin:
    raise DeepcompError(f"expected a split with examples. Received: {split!r}, which has none")
  return plain, begin, end - begin


def decode_image(data, plain=None):
  """bytes of an image file -> uint8 `[h, w, 3]` as `images.read_image` reads it, in a data set.

  Most photos of data sets are JPEG files that TensorFlow decodes to the same pixels, outside of Python's lock. `plain`, a bool,
  is what `are_plain` says of it; None looks now, which costs more than for a batch of files at once.
  """
  def read(data):
    return images.read_image("", data.item() if isinstance(data, np.ndarray) else data)  # an array outside of a graph

  data = tf.convert_to_tensor(data)
  if plain is None:
    plain = are_plain(data[tf.newaxis])[0]
  pixels = tf.cond(plain, lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
                   lambda: tf.numpy_function(read, [data], tf.uint8))
  return tf.ensure_shape(pixels, [None, None, 3])


def are_plain(batch):
  """Which files of a batch, strings `[n]`, TensorFlow decodes as `images.read_image` does: bool `[n]`."""
  plain = tf.numpy_function(lambda batch: np.array(list(map(images.is_plain_jpeg, batch)), bool), [batch], tf.bool)
  return tf.ensure_shape(plain, batch.shape)


def decode_or_error(data):
  """The pixels in an image file's bytes, as `images.read_image` reads them, or the `DeepcompError` that it raises."""
  return or_error(images.read_image, "", data)
