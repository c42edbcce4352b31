"""Finding photos in a library's table: by words, by likeness, by filters, and near-duplicates."""

import datetime
import re
from typing import NamedTuple

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
  score: for a text 0..1, the probability of its classes or, of VOC's, their share of the pixels if that is more; for a photo -1..1,
    the cosine of the vectors; None where there was neither.
  labels: its first five, (class, probability).
  id: digest of what was added.
  """
  name: str
  score: object
  labels: list
  id: str


def check(text, like):
  """Refuses a search for both a text and what is like a photo."""
  if text is not None and like is not None:
    raise DeepcompError(f"expected a text or a photo to find like ones. Received: both, {text!r} and {like!r:.60}")


def search(table, text=None, vector=None, label=None, class_share=None, before=None, after=None, top=20, at_least=None):
  """The `Hit`s of `Library.search`, which has the arguments; `vector` is that of `like`, float32 `[VECTOR_SIZE]`."""
  if top < 1:
    raise DeepcompError(f"`top` must be at least 1. Received: top={top}")
  where = " AND ".join(filter(None, (
      class_share and _of_share(class_share), before and f"taken < {_time(before)}", after and f"taken >= {_time(after)}",
      label and _of_label(table, label))))
  if vector is not None:
    query, columns = table.search(vector).distance_type("cosine").limit(top), ["_distance"]
  else:
    query, columns = table.search(), ["shares", "taken", "added"]
  rows = (query.where(where) if where else query).select(["id", "name", "labels", "probabilities", *columns]).to_arrow()
  if vector is not None:
    scores = 1 - rows["_distance"].to_numpy()
  elif text is not None:
    scores = _scores(rows, text)
  else:
    scores = None
  if scores is None:
    added, taken = (rows[column].cast("int64").fill_null(-2**62).to_numpy() for column in ("added", "taken"))
    order = np.lexsort([-added, -taken])
  else:
    order = np.argsort(-scores, kind="stable")
  hits = hits_of(rows, order[:top], scores)
  least = (LEAST_SCORE if text is not None else -1) if at_least is None else at_least
  return [hit for hit in hits if hit.score is None or hit.score >= least]


def hits_of(rows, numbers, scores=None):
  """`Hit`s of those rows of an Arrow table that have these numbers."""
  return [Hit(row["name"], None if scores is None else float(scores[number]), list(zip(row["labels"], row["probabilities"]))[:5],
              row["id"])
          for number, row in zip(numbers, rows.select(["id", "name", "labels", "probabilities"]).take(numbers).to_pylist())]


def duplicates(table, cutoff):
  """The groups of `Library.duplicates`."""
  from scipy import sparse

  rows = table.search().select(["id", "name", "labels", "probabilities", "vector"]).to_arrow().sort_by("name").combine_chunks()
  vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(-1, tables.VECTOR_SIZE).astype(np.float32)
  near = sparse.lil_matrix((len(vectors), len(vectors)), dtype=bool)
  for begin in range(0, len(vectors), _ROWS):
    one, other = np.nonzero(vectors[begin:begin + _ROWS] @ vectors[begin:].T >= cutoff)
    near[begin + one, begin + other] = True
  count, groups = sparse.csgraph.connected_components(near)
  members = [np.flatnonzero(groups == group) for group in np.flatnonzero(np.bincount(groups, minlength=count) > 1)]
  return sorted((hits_of(rows, numbers, vectors @ vectors[numbers[0]]) for numbers in members), key=lambda group: -len(group))


def _scores(rows, text):
  """Scores of rows for a word: the sum of its classes' probabilities, or the share of its masks' classes if that is more."""
  import pyarrow as pa
  import pyarrow.compute as pc

  labels, probabilities, shares = (rows[name].combine_chunks() for name in ("labels", "probabilities", "shares"))
  wanted, masks = words.meaning_of(text, labels.flatten().unique().to_pylist())
  matching = pc.is_in(labels.flatten(), pa.array(sorted(wanted), pa.string())).to_numpy(zero_copy_only=False)
  sums = np.concatenate([[0], np.cumsum(matching * probabilities.flatten().to_numpy(), dtype=np.float64)])
  ends = np.concatenate([[0], np.cumsum(pc.list_value_length(labels).to_numpy())])
  return np.maximum(np.round(np.diff(sums[ends]), 6),
                    sum((pc.struct_field(shares, name).fill_null(0).to_numpy() for name in sorted(masks)), np.zeros(len(rows))))


def _of_label(table, label):
  """The SQL expression of a `label`."""
  known = table.search().select(["labels"]).to_arrow()["labels"].combine_chunks().flatten().unique().to_pylist()
  labels, _ = words.meaning_of(label, known)
  if not labels:
    return "false"
  return f"array_has_any(array_slice(labels, 1, 5), [{', '.join(map(tables.quoted, sorted(labels)))}])"


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
