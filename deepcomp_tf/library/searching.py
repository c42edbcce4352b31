"""Finding photos in a library's table: by words, by likeness, by filters, and near-duplicates."""

import datetime
import functools
import re

import numpy as np

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.library import table as tables
from deepcomp_tf.library.labels import highest
from deepcomp_tf.library.labels import Labels
from deepcomp_tf.library.labels import LEAST_SCORE

# Rows that are compared with all others together.
_ROWS = 1024


def check(text, like, top=1):
  """Refuses a search for both a text and what is like a photo, and one for nothing."""
  if top < 1:
    raise DeepcompError(f"`top` must be at least 1. Received: top={top}")
  if text is not None and like is not None:
    raise DeepcompError(f"expected a text or a photo to find like ones. Received: both, {text!r} and {like!r:.60}")


class Rows:
  """What searches read of a table, as it was when this was made; each column is read when it is first needed, and kept.

  Rows are in the order of LanceDB's row ids.

  Args:
    table: LanceDB's, of which nobody else uses this object.
  """

  def __init__(self, table):
    self.version, self._table = table.version, table
    table.checkout(self.version)

  def _read(self, *columns):
    """Columns as an Arrow table, with _rowid."""
    rows = self._table.search().with_row_id(True).select(list(columns)).to_arrow()
    numbers = rows["_rowid"].to_numpy()
    return rows.sort_by("_rowid") if np.any(numbers[1:] < numbers[:-1]) else rows

  @functools.cached_property
  def _labels_and_ids(self):
    rows = self._read("id", "name", "labels", "probabilities", "shares")
    return Labels.of_rows(rows), rows["_rowid"].to_numpy()

  labels = property(lambda self: self._labels_and_ids[0])

  @functools.cached_property
  def _vectors(self):
    """float32 `[rows, VECTOR_SIZE]`; numpy takes much longer to multiply float16."""
    return vectors_of(self._read("vector"))

  @functools.cached_property
  def _latest(self):
    """Numbers of the rows, the latest photos first, by capture, then by when they were added."""
    rows = self._read("taken", "added")
    added, taken = (rows[column].cast("int64").fill_null(-2**62).to_numpy() for column in ("added", "taken"))
    return np.lexsort([-added, -taken])

  def vector_of(self, photo):
    """The vector of a photo, by its id or name; None where there is none of these."""
    for values in (self.labels.ids, self.labels.names):
      numbers = np.flatnonzero(values == photo)
      if len(numbers):
        return self._vectors[numbers[0]]
    return None

  def _of_label(self, label):
    """The SQL expression of a `label`."""
    labels, _ = self.labels.meaning_of(label)
    if not labels:
      return "false"
    return f"array_has_any(array_slice(labels, 1, 5), [{', '.join(map(tables.quoted, sorted(labels)))}])"

  def _numbers(self, query):
    """Numbers of the rows that a query of LanceDB finds, and what else it says of them."""
    found = query.with_row_id(True).to_arrow()
    return np.searchsorted(self._labels_and_ids[1], found["_rowid"].to_numpy()), found

  def search(self, text=None, vector=None, label=None, class_share=None, before=None, after=None, top=20, at_least=None):
    """The `Hit`s of `Library.search`, which has the arguments; `vector` is that of `like`, float32 `[VECTOR_SIZE]`."""
    where = " AND ".join(filter(None, (
        class_share and _of_share(class_share), before and f"taken < {_time(before)}", after and f"taken >= {_time(after)}",
        label and self._of_label(label))))
    filtered = lambda query: query.where(where) if where else query
    numbers = self._numbers(filtered(self._table.search()).select(["id"]))[0] if where else np.arange(len(self.labels.names))
    if vector is not None and any("vector" in index.columns for index in self._table.list_indices()):
      near = self._table.search(vector).distance_type("cosine").refine_factor(10).limit(top)
      numbers, found = self._numbers(filtered(near).select(["_distance"]))
      scores = 1 - found["_distance"].to_numpy()
    elif vector is not None:
      scores = (self._vectors @ vector)[numbers]
    elif text is not None:
      scores = self.labels.scores(text)[numbers]
    else:
      return self.labels.hits(self._latest[np.isin(self._latest, numbers)][:top])
    best = highest(scores, top)
    least = (LEAST_SCORE if text is not None else -1) if at_least is None else at_least
    return self.labels.hits(numbers[best], scores[best], least)

  def duplicates(self, cutoff):
    """The groups of `Library.duplicates`."""
    from scipy import sparse

    order = np.argsort(self.labels.names, kind="stable")
    vectors = self._vectors[order]
    near = sparse.lil_matrix((len(vectors), len(vectors)), dtype=bool)
    for begin in range(0, len(vectors), _ROWS):
      one, other = np.nonzero(vectors[begin:begin + _ROWS] @ vectors[begin:].T >= cutoff)
      near[begin + one, begin + other] = True
    count, groups = sparse.csgraph.connected_components(near)
    members = [np.flatnonzero(groups == group) for group in np.flatnonzero(np.bincount(groups, minlength=count) > 1)]
    return sorted((self.labels.hits(order[numbers], vectors[numbers] @ vectors[numbers[0]]) for numbers in members),
                  key=lambda group: -len(group))


def vectors_of(rows):
  """The vectors of an Arrow table, float32 `[rows, VECTOR_SIZE]`."""
  return rows["vector"].combine_chunks().flatten().to_numpy().reshape(-1, tables.VECTOR_SIZE).astype(np.float32)


def _of_share(text):
  """The SQL expression of a `class_share`."""
  found = re.fullmatch(r"\s*(\w+)\s*(>=?|<=?)\s*(0?\.\d+|[01](?:\.\d*)?)\s*", text)
  if not found or found[1] not in tables.SHARES:
    raise DeepcompError(f"expected a class of VOC, > or <, and a share in 0..1, such as person>0.2. Received: {text!r}"
                        + (f"; classes are {', '.join(tables.SHARES)}" if found else ""))
  return f"shares.{found[1]} {found[2]} {float(found[3])}"


def _time(text):
  """The SQL expression of a time."""
  try:
    return f"timestamp '{datetime.datetime.fromisoformat(str(text)).replace(tzinfo=None):%Y-%m-%d %H:%M:%S}'"
  except ValueError:
    raise DeepcompError(f"expected a day such as 2024-12-31, or a time such as 2024-12-31T18:00. Received: {text!r}") from None
