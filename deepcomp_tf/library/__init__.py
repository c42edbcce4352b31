"""A library of photos, stored, labelled and searched from their compressed bytes: `Library`. It takes the extra `library`."""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import datetime
import functools
import threading
from typing import NamedTuple, Optional, Union

import numpy as np
from etils import epy

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.codec import container
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.library import labels as by_label
from deepcomp_tf.library import searching
from deepcomp_tf.library import table as tables
from deepcomp_tf.library.labels import Hit
from deepcomp_tf.tasks import quick

with epy.lazy_imports():  # searching by labels does without networks
  from deepcomp_tf.codec import images
  from deepcomp_tf.library import adding
  from deepcomp_tf.library import reindexing
  from deepcomp_tf.library import understanding

DEFAULT_OPERATING_POINT = "bpp0.330"

# The cosine from which on two photos count as near-duplicates: docs/decisions.md has what it finds and misses.
NEAR_DUPLICATE = 0.85

# Rows that are read together.
_ROWS = 256
# Parts of the table, one for each batch that was added, above which they are put together.
_MOST_PARTS = 64


class Photo(NamedTuple):
  """A photo of a library.

  name: in the library.
  data: the bytes of its file, a `dc.Bitstream`.
  operating_point, width, height: of the file.
  taken: `datetime`, or None.
  labels: list of (class, probability), most probable first.
  shares: dict from VOC's classes to their shares of the pixels, or None.
  id: digest of what was added.
  """
  name: str
  data: bytes
  operating_point: str
  width: int
  height: int
  taken: object
  labels: list
  shares: object
  id: str


class Report(NamedTuple):
  """What `Library.add` did.

  added, known: numbers of photos that are new, and that the library had already.
  failed: dict from paths to their `DeepcompError`s.
  others: paths in folders that are neither photos nor .deepcomp files.
  """
  added: int
  known: int
  failed: dict
  others: list


class Library:
  """Photos in a folder, on this machine or at `gs://` or `s3://`: their files, what is known of them, and their vectors.

  Examples:
    >>> library = dc.Library("LIBRARY")
    >>> library.add(["photos"])                       # compresses, labels and stores what is new
    >>> library.search("dog", top=10)                 # [Hit(name, score, labels, id), ...], no neural network
    >>> library.search(like="photo.jpg")
    >>> library["photos/cat.jpg"].data                # the bytes of its file

  Several processes may add and search at once; a search sees whole batches only.

  Args:
    path: the folder; `add` makes it.
  """

  def __init__(self, path: str):
    self.path, self._loader, self._lock = path, quick.Loader(), threading.Lock()
    self._kept = None  # `searching.Rows`
    self._labels = None, None  # `labels.state_of` the library, and the `labels.Labels` that were kept of it

  @functools.cached_property
  def _connection(self):
    return tables.connect(self.path)

  @property
  def table(self):
    """LanceDB's table, see `table.schema`.

    Raises:
      DeepcompError: there is no library yet, LanceDB is not installed, or the folder cannot be reached.
    """
    there = files.is_remote(self.path) or files.isdir(self.path)  # LanceDB makes folders
    found = tables.open_table(self._connection, tables.TABLE) if there else None
    if found is None:
      raise DeepcompError(f"expected a library; `deepcomp library add` makes one. Received: {self.path}, which is none")
    return found

  def make(self):
    """The table, which is made where there is none."""
    return tables.open_table(self._connection, tables.TABLE, make=True)

  def __len__(self) -> int:
    return self.table.count_rows()

  def __iter__(self) -> Iterator[Photo]:
    return self.photos()

  def __getitem__(self, name: str) -> Photo:
    return next(self.photos([name]))

  def photos(self, names: Optional[Sequence[str]] = None) -> Iterator[Photo]:
    """Yields the `Photo`s of these names, or all.

    Raises:
      DeepcompError: the library does not have one of the names.
    """
    query = self.table.search()
    if names is not None:
      self._check_names(names)
      query = query.where(tables.any_of("name", names))
    for batch in query.select([*Photo._fields, "probabilities"]).to_batches(_ROWS):
      for row in batch.to_pylist():
        labels = list(zip(row["labels"], row.pop("probabilities")))
        yield Photo(**row)._replace(data=dc.Bitstream(row["data"]), labels=labels)

  def _check_names(self, names):
    missing = set(names) - set(self.table.search().select(["name"]).to_arrow()["name"].to_pylist())
    if missing:
      raise DeepcompError(f"expected names of photos in the library. Received: {', '.join(sorted(missing)[:5])}")

  def add(self, paths: Iterable[str], operating_point: str = DEFAULT_OPERATING_POINT, effort: int = 0,
          keep_location: bool = False, overwrite: bool = False, networks: Sequence[str] = (),
          progress=lambda done, count: None) -> Report:
    """Adds photos, compressed, and .deepcomp files as they are. What is there already, by its content, is left alone.

    Args:
      paths: of photos, .deepcomp files and folders of these.
      operating_point, effort: for photos, as of `Codec.load` and `Codec.encode`.
      keep_location: whether GPS coordinates are kept.
      overwrite: whether a photo replaces another one of its name.
      networks: names or folders of classifiers, for operating points of which none is shipped.
      progress: called with an `adding.Done` and the number of all when a photo is stored, or failed.

    Returns:
      a `Report`.

    Raises:
      DeepcompError: the operating point or a network is missing. What is wrong with a photo is in the report.
    """
    (found, others), table = adding.find(paths), self.make()
    find = understanding.by_fingerprint([network for network, _ in tables.made_by(table).values()] + list(networks))
    added, known, failed = 0, 0, {}
    for done in adding.Adding(table, find, dc.Codec.load(operating_point), effort, keep_location, overwrite).run(found):
      added, known = added + (done.row is not None), known + done.known
      if done.error:
        failed[done.path] = done.error
      progress(done, len(found))
    if table.stats()["fragment_stats"]["num_fragments"] > _MOST_PARTS:
      table.optimize(cleanup_older_than=datetime.timedelta(days=1))
    return Report(added, known, failed, others)

  def remove(self, names: Sequence[str]) -> None:
    """Removes photos.

    Raises:
      DeepcompError: the library does not have one of the names; then nothing is removed.
    """
    self._check_names(names)
    tables.delete(self.table, "name", names)

  def search(self, text: Optional[str] = None, like: Union[str, bytes, np.ndarray, None] = None, label: Optional[str] = None,
             class_share: Optional[str] = None, before: Optional[str] = None, after: Optional[str] = None, top: int = 20,
             at_least: Optional[float] = None) -> list[Hit]:
    """Finds photos.

    Args:
      text: a class of ImageNet or VOC, or a word for several; see `words.meaning_of`.
      like: name or id of a photo in the library, path of a photo or of a .deepcomp file, such a file's bytes, or a vector,
        float32 `[table.VECTOR_SIZE]`. Not with a text.
      label: as text; only photos are found that have it among their first five labels.
      class_share: such as "person>0.2": only photos of which a class of VOC takes such a share.
      before, after: "2024-12-31", or with a time; only photos taken before, or then or later.
      top: as many are found at most.
      at_least: the least score; of a text by default `library.labels.LEAST_SCORE`.

    Returns:
      list of `library.labels.Hit`s, best first; without text and like the latest photos first.

    Raises:
      DeepcompError: a word or a file is not what it must be.
    """
    searching.check(text, like, top)
    if text is not None and not any((label, class_share, before, after)):
      kept = self._kept_labels()
      if kept:
        return kept.search(text, top, at_least)
    vector = None if like is None else self._vector(like)
    return self._searched(lambda rows: rows.search(text, vector, label, class_share, before, after, top, at_least))

  def _kept_labels(self):
    """The `labels.Labels` that an earlier process kept of the library as it is now; None where there are none, and once this
    process has read its own."""
    state = None if self._kept else by_label.state_of(self.path)
    if state is None:
      return None
    if state != self._labels[0]:
      self._labels = state, by_label.load(self.path, state)
    return self._labels[1]

  def _searched(self, search):
    """What a function finds in the `searching.Rows` of the table as it is now, which are kept until it changes. Threads take
    turns, so that each column is read once."""
    with self._lock:
      table = self.table
      if self._kept is None or self._kept.version != table.version:
        self._kept = searching.Rows(table)
      return search(self._kept)

  def vector_of(self, photo: str) -> Optional[np.ndarray]:
    """The vector of a photo in the library, by its name or id, float32 `[VECTOR_SIZE]`; None where there is no such photo."""
    return self._searched(lambda rows: rows.vector_of(photo))

  def _vector(self, like):
    """The vector of a photo in the library, of a file, or of a file's bytes: float32 `[VECTOR_SIZE]`."""
    if isinstance(like, np.ndarray):
      return like
    if not isinstance(like, bytes):
      found = self.vector_of(str(like))
      if found is not None:
        return found
    made_by = tables.made_by(self.table)
    if not made_by:
      raise DeepcompError(f"expected a library with photos in it. Received: {self.path}, which is empty")
    if isinstance(like, bytes) or str(like).endswith(container.EXTENSION):
      data = like if isinstance(like, bytes) else files.read(like)
    else:
      data = self._loader.codec(next(iter(made_by))).compress(images.read_image(like))
    find = understanding.by_fingerprint([name for name, _ in made_by.values()], self._loader)
    network = find(dc.Bitstream(data).header.fingerprint)
    if network.space not in {space for _, space in made_by.values()}:
      raise DeepcompError(f"expected a file whose vector can be compared with the library's. Received: one for {network.source}")
    return network.answer(data)["vector"].astype(np.float32)

  def quicken(self) -> None:
    """Keeps what searches have read, so that the next process's take less: of searches by words the labels of all photos, until
    the library changes; of those by likeness the networks that TensorFlow loaded (`tasks.quick`), which takes seconds, once. It is
    all in the user's cache folder."""
    state = by_label.state_of(self.path)
    if self._kept and state and self.table.version == self._kept.version:
      with contextlib.suppress(OSError, DeepcompError):  # the folder cannot be written
        if by_label.load(self.path, state) is None:
          by_label.keep(self.path, state, self._kept.labels)
    self._loader.keep()

  def duplicates(self, cutoff: float = NEAR_DUPLICATE) -> list[list[Hit]]:
    """Groups of photos that are nearly the same, the largest first: lists of `Hit`s with their cosines to the group's first. Two
    photos are in one group where their cosine is at least the cutoff."""
    return self._searched(lambda rows: rows.duplicates(cutoff))

  def info(self) -> dict:
    """What there is: dict of photos, bytes, operating_points and networks (numbers by name), first and last (times of
    capture)."""
    rows = self.table.search().select(["bytes", "operating_point", "network", "taken"]).to_arrow()
    count = lambda column: {entry["values"]: entry["counts"] for entry in rows[column].value_counts().to_pylist()}
    taken = [time for time in rows["taken"].to_pylist() if time]
    return {"photos": len(rows), "bytes": sum(rows["bytes"].to_pylist()), "operating_points": count("operating_point"),
            "networks": count("network"), "first": min(taken, default=None), "last": max(taken, default=None)}

  def verify(self) -> Iterator[tuple[str, str]]:
    """Yields (name, what is wrong) for each file that is damaged, and each vector that cannot be compared with the others."""
    spaces = []
    for batch in self.table.search().select(["name", "data", "space", "vector"]).to_batches(_ROWS):
      for row in batch.to_pylist():
        try:
          container.read_header(row["data"])
        except BitstreamError as error:
          yield row["name"], str(error)
        spaces = spaces or [row["space"]]
        if row["space"] not in spaces or abs(np.linalg.norm(np.array(row["vector"], np.float32)) - 1) > 0.01:
          yield row["name"], "its vector cannot be compared with the others; reindex makes all anew"

  def reindex(self, networks: Sequence[str] = (), progress=lambda name, count: None) -> None:
    """Makes labels and vectors anew from the stored bytes, and masks' shares where another segmenter made them. All change at once,
    at the end; until then searches find by the old ones. A run that was stopped goes on.

    Args:
      networks: names or folders of classifiers; by default, and where none of them reads a file, the shipped ones.
      progress: called with a name and the number of all when a photo is finished.

    Raises:
      DeepcompError: a file cannot be read, no network reads it, or vectors of the networks cannot be compared with each other.
    """
    self.table  # without a library there is an error  # pylint: disable=pointless-statement
    reindexing.reindex(self.make(), self._connection, networks, progress)

  def dataset(self, seed=None):
    """A `tf.data.Dataset` of the library as it is now: dicts of `name` and `bitstream`, the bytes of a file, for each photo.

    Args:
      seed: of a random order, which is read from wherever photos lie; None for the table's own.
    """
    import tensorflow as tf

    (table := self.table).checkout(table.version)
    order = np.arange(table.count_rows())
    if seed is not None:
      np.random.default_rng(seed).shuffle(order)

    def read():
      for begin in range(0, len(order), _ROWS):
        part = order[begin:begin + _ROWS]
        rows = table.take_offsets(np.sort(part).tolist()).select(["name", "data"]).to_arrow().to_pylist()  # in the table's order
        for place in np.argsort(np.argsort(part)):
          yield {"name": rows[place]["name"], "bitstream": rows[place]["data"]}

    signature = {"name": tf.TensorSpec([], tf.string), "bitstream": tf.TensorSpec([], tf.string)}
    dataset = tf.data.Dataset.from_generator(read, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(order)))
