"""Finding photos in a library's table: by words, by likeness, by filters, and near-duplicates."""

import datetime
import functools
import re
from typing import NamedTuple, Optional

import numpy as np

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.library import table as tables
from deepcomp_tf.library import words

# What is found by a text has at least this score, unless another is asked for.
LEAST_SCORE = 0.1

# Rows that are compared with all others together.
_ROWS = 1024


class Hit(NamedTuple):
  """A photo that was found.

  name: in the library.
  score: for a text 0..1, the probability of its classes or, of VOC's, their share of the pixels if that is more; for a photo
    -1..1, the cosine of the vectors; None where there was neither.
  labels: its first five, (class, probability).
  id: digest of what was added.
  """
  name: str
  score: Optional[float]
  labels: list
  id: str


def check(text, like):
  """Refuses a search for both a text and what is like a photo."""
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

  _names = functools.cached_property(lambda self: self._read("id", "name"))
  _shares = functools.cached_property(lambda self: self._read("shares")["shares"].combine_chunks())

  @functools.cached_property
  def _labels(self):
    """Names of all labels; number of a name and probability, of each photo's labels one after the other, int32 and float32; and
    where those of each photo begin and end, `[rows + 1]`."""
    import pyarrow.compute as pc

    rows = self._read("labels", "probabilities")
    labels, probabilities = (rows[name].combine_chunks() for name in ("labels", "probabilities"))
    codes = labels.flatten().dictionary_encode()
    ends = np.concatenate([[0], np.cumsum(pc.list_value_length(labels).fill_null(0).to_numpy())])
    return np.array(codes.dictionary.to_pylist(), object), codes.indices.to_numpy(), probabilities.flatten().to_numpy(), ends

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
    import pyarrow.compute as pc

    for column in ("id", "name"):
      number = pc.index(self._names[column], photo).as_py()
      if number >= 0:
        return self._vectors[number]
    return None

  def _scores(self, text):
    """Scores for a word: the sum of its classes' probabilities, or the share of its masks' classes if that is more."""
    import pyarrow.compute as pc

    labels, codes, probabilities, ends = self._labels
    wanted, masks = words.meaning_of(text, labels.tolist())
    matching = np.isin(labels, list(wanted))
    sums = np.concatenate([[0], np.cumsum(np.where(matching[codes], probabilities, 0), dtype=np.float64)])
    return np.maximum(np.round(np.diff(sums[ends]), 6), sum(
        (pc.struct_field(self._shares, name).fill_null(0).to_numpy() for name in sorted(masks)), np.zeros(len(ends) - 1)))

  def _of_label(self, label):
    """The SQL expression of a `label`."""
    labels, _ = words.meaning_of(label, self._labels[0].tolist())
    if not labels:
      return "false"
    return f"array_has_any(array_slice(labels, 1, 5), [{', '.join(map(tables.quoted, sorted(labels)))}])"

  def _numbers(self, query):
    """Numbers of the rows that a query of LanceDB finds, and what else it says of them."""
    found = query.with_row_id(True).to_arrow()
    return np.searchsorted(self._names["_rowid"].to_numpy(), found["_rowid"].to_numpy()), found

  def search(self, text=None, vector=None, label=None, class_share=None, before=None, after=None, top=20, at_least=None):
    """The `Hit`s of `Library.search`, which has the arguments; `vector` is that of `like`, float32 `[VECTOR_SIZE]`."""
    if top < 1:
      raise DeepcompError(f"`top` must be at least 1. Received: top={top}")
    where = " AND ".join(filter(None, (
        class_share and _of_share(class_share), before and f"taken < {_time(before)}", after and f"taken >= {_time(after)}",
        label and self._of_label(label))))
    filtered = lambda query: query.where(where) if where else query
    numbers = self._numbers(filtered(self._table.search()).select(["id"]))[0] if where else np.arange(len(self._names))
    if vector is not None and any("vector" in index.columns for index in self._table.list_indices()):
      near = self._table.search(vector).distance_type("cosine").refine_factor(10).limit(top)
      numbers, found = self._numbers(filtered(near).select(["_distance"]))
      scores = 1 - found["_distance"].to_numpy()
    elif vector is not None:
      scores = (self._vectors @ vector)[numbers]
    elif text is not None:
      scores = self._scores(text)[numbers]
    else:
      return self.hits(self._latest[np.isin(self._latest, numbers)][:top])
    best = _best(scores, top)
    least = (LEAST_SCORE if text is not None else -1) if at_least is None else at_least
    return [hit for hit in self.hits(numbers[best], scores[best]) if hit.score >= least]

  def hits(self, numbers, scores=None):
    """`Hit`s of the rows of these numbers."""
    labels, codes, probabilities, ends = self._labels
    hits = []
    for place, (number, row) in enumerate(zip(numbers, self._names.take(numbers).to_pylist())):
      part = slice(ends[number], min(ends[number + 1], ends[number] + 5))
      hits.append(Hit(row["name"], None if scores is None else float(scores[place]),
                      list(zip(labels[codes[part]].tolist(), probabilities[part].tolist())), row["id"]))
    return hits

  def duplicates(self, cutoff):
    """The groups of `Library.duplicates`."""
    from scipy import sparse

    order = np.argsort(np.array(self._names["name"].to_pylist(), object), kind="stable")
    vectors = self._vectors[order]
    near = sparse.lil_matrix((len(vectors), len(vectors)), dtype=bool)
    for begin in range(0, len(vectors), _ROWS):
      one, other = np.nonzero(vectors[begin:begin + _ROWS] @ vectors[begin:].T >= cutoff)
      near[begin + one, begin + other] = True
    count, groups = sparse.csgraph.connected_components(near)
    members = [np.flatnonzero(groups == group) for group in np.flatnonzero(np.bincount(groups, minlength=count) > 1)]
    return sorted((self.hits(order[numbers], vectors[numbers] @ vectors[numbers[0]]) for numbers in members),
                  key=lambda group: -len(group))


def _best(scores, top):
  """Numbers of the `top` highest scores, highest first; of equal ones those of the lower number."""
  if top < len(scores):
    found = np.flatnonzero(scores >= np.partition(scores, -top)[-top])  # sorting all takes longer
    return found[np.argsort(-scores[found], kind="stable")][:top]
  return np.argsort(-scores, kind="stable")


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
