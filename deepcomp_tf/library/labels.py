"""Photos by their labels: what a search for a word reads of a table, and keeps, so that the next command does without LanceDB."""

import io
import json
import os
from typing import NamedTuple, Optional

import numpy as np

from deepcomp_tf import caches
from deepcomp_tf import files
from deepcomp_tf.library import table as tables
from deepcomp_tf.library import words

# What is found by a text has at least this score, unless another is asked for.
LEAST_SCORE = 0.1

# Where LanceDB has a file for each version of a table, below its folder.
_VERSIONS = os.path.join(f"{tables.TABLE}.lance", "_versions")
# What `keep` writes as JSON, since NumPy would pickle it.
_TEXTS = ("names", "ids", "classes")


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


class Labels(NamedTuple):
  """Labels and masks' class shares of all photos of a table.

  names, ids: texts, of the photos.
  classes: texts, the names of all labels.
  codes, probabilities: number of a class, and probability, of each photo's labels, one photo after the other.
  ends: where those of each photo begin and end, `[photos + 1]`.
  shares: float32 `[len(table.SHARES), photos]`, 0 where there is no mask.
  """
  names: np.ndarray
  ids: np.ndarray
  classes: np.ndarray
  codes: np.ndarray
  probabilities: np.ndarray
  ends: np.ndarray
  shares: np.ndarray

  @classmethod
  def of_rows(cls, rows):
    """Of an Arrow table with the columns id, name, labels, probabilities and shares."""
    import pyarrow.compute as pc

    labels, probabilities, shares = (rows[name].combine_chunks() for name in ("labels", "probabilities", "shares"))
    codes = labels.flatten().dictionary_encode()
    texts = lambda values: np.array(values.to_pylist(), object)
    return cls(
        texts(rows["name"]), texts(rows["id"]), texts(codes.dictionary), codes.indices.to_numpy(),
        probabilities.flatten().to_numpy(),
        np.concatenate([[0], np.cumsum(pc.list_value_length(labels).fill_null(0).to_numpy())]),
        np.stack([pc.struct_field(shares, name).fill_null(0).to_numpy() for name in tables.SHARES]))

  def meaning_of(self, text):
    """As `words.meaning_of`, among the labels that there are."""
    return words.meaning_of(text, self.classes.tolist())

  def scores(self, text):
    """Scores for a word: the sum of its classes' probabilities, or the share of its masks' classes if that is more."""
    wanted, masks = self.meaning_of(text)
    matching = np.isin(self.classes, list(wanted))
    sums = np.concatenate([[0], np.cumsum(np.where(matching[self.codes], self.probabilities, 0), dtype=np.float64)])
    shares = self.shares[[tables.SHARES.index(name) for name in sorted(masks)]].sum(axis=0, dtype=np.float64)
    return np.maximum(np.round(np.diff(sums[self.ends]), 6), shares)

  def search(self, text, top, at_least=None):
    """`Hit`s for a word, best first, as of `Library.search`."""
    scores = self.scores(text)
    best = highest(scores, top)
    return self.hits(best, scores[best], LEAST_SCORE if at_least is None else at_least)

  def hits(self, numbers, scores=None, at_least=-np.inf):
    """`Hit`s of the rows of these numbers that have at least a score."""
    hits = []
    for place, number in enumerate(numbers):
      part = slice(self.ends[number], min(self.ends[number + 1], self.ends[number] + 5))
      labels = list(zip(self.classes[self.codes[part]].tolist(), self.probabilities[part].tolist()))
      if scores is None or scores[place] >= at_least:
        hits.append(Hit(self.names[number], None if scores is None else float(scores[place]), labels, self.ids[number]))
    return hits


def highest(scores, top):
  """Numbers of the `top` highest scores, highest first; of equal ones those of the lower number."""
  if top < len(scores):
    found = np.flatnonzero(scores >= np.partition(scores, -top)[-top])  # sorting all takes longer
    return found[np.argsort(-scores[found], kind="stable")][:top]
  return np.argsort(-scores, kind="stable")


def state_of(path):
  """What changes whenever the table of a library does: JSON of its versions' files. None where that cannot be told."""
  if files.is_remote(path):
    return None
  try:
    with os.scandir(os.path.join(path, _VERSIONS)) as entries:
      return json.dumps(sorted((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in entries))
  except OSError:
    return None


def keep(path, state, labels):
  """Keeps `Labels` of a library in a state for `load`, in place of what was kept of it before."""
  arrays, buffer = labels._asdict(), io.BytesIO()
  for name in _TEXTS:
    arrays[name] = np.frombuffer(json.dumps(arrays[name].tolist()).encode(), np.uint8)
  np.savez(buffer, state=np.array(state), **arrays)
  files.makedirs(os.path.dirname(_kept(path)))
  files.write_file(_kept(path), buffer.getvalue(), overwrite=True)


def load(path, state):
  """The `Labels` that were kept of a library in this state, or None."""
  try:
    arrays = files.read_arrays(_kept(path))
    if arrays.pop("state") != state:
      return None
    return Labels(**{**arrays, **{name: np.array(json.loads(bytes(arrays[name])), object) for name in _TEXTS}})
  except (OSError, KeyError, ValueError):
    return None  # nothing is kept, or it is damaged


def _kept(path):
  return caches.path_of("", "labels", {"library": os.path.realpath(path)}) + ".npz"
