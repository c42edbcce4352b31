"""Compressing in chunks: each is kept in the output once it is done, so that stopped work goes on, on one machine or on many.

Folder and files may be remote; they are reached by all workers of Apache Beam and by the process that starts them; what
workers compress goes through Beam's collections. What a worker calls, it is given as functions that can be pickled.
"""

import collections
import io
import itertools
import os
from typing import Any, NamedTuple

import numpy as np

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE

_TOTALS = {"examples": 0, "skipped": [], "source_bytes": 0, "bytes": 0, "symbols": 0}

# Neighbouring chunks that a worker of Beam takes at a time, where there are enough of them for all workers.
BEAM_CHUNKS = 8


class Chunk(NamedTuple):
  """The examples begin..end of a split."""
  split: str
  begin: int
  end: int


class Photo(NamedTuple):
  """An image to compress.

  key: int or str, unique in its split.
  fields: dict of int and str that are stored with its file.
  source_bytes: of its image file.
  image: uint8 `[h, w, 3]`, or the `DeepcompError` that says why there is none, and of what.
  """
  key: Any
  fields: dict
  source_bytes: int
  image: Any


def cut(split, count, size):
  """The list of `Chunk`s of `size` examples that make up a split of `count`."""
  return [Chunk(split, begin, min(begin + size, count)) for begin in range(0, count, size)]


def compress(read, load_codec, chunks, update=lambda: None, effort=0):
  """Compresses chunks one after the other; the next is read while the one before is coded.

  Neighbours are read as one: to come to the beginning of a chunk, a TFDS file has to be read up to there.

  Args:
    read: function of a chunk, of any length, that returns an iterable of its `Photo`s, one for each example.
    load_codec: function that gives the `Codec`, such as a `functools.partial` of `tasks.aim.open_codec`.
    chunks: list of `Chunk`s.
    update: called after every image.
    effort: of `Codec.encode`.

  Yields:
    (chunk, result) in their order. A result is a dict of keys, files and fields, lists of the examples' keys, bytes and dicts,
    and the entries of `totals` that these do not give: skipped, source_bytes and symbols.
  """
  codec, begun, coming = load_codec(), collections.deque(), collections.deque()

  def images():
    for run in _runs(chunks):
      photos = iter(read(Chunk(run[0].split, run[0].begin, run[-1].end)))
      for chunk in run:
        result = {"keys": [], "files": [], "fields": [], "skipped": [], "source_bytes": 0, "symbols": 0}
        begun.append((chunk, result))
        for photo in itertools.islice(photos, chunk.end - chunk.begin):
          coming.append((photo, result))
          yield photo.image
        coming.append((None, result))
        yield DeepcompError("end of chunk")  # comes out behind the chunk's last file

  for data in codec.compress_many(images(), "return", effort):
    photo, result = coming.popleft()
    if photo is None:
      yield begun.popleft()
      continue
    result["source_bytes"] += photo.source_bytes
    if isinstance(data, DeepcompError):
      result["skipped"].append(str(data))
    else:
      for name, value in (("keys", photo.key), ("files", data), ("fields", photo.fields)):
        result[name].append(value)
      result["symbols"] += codec.channels * int(np.prod([-(-side // STRIDE) for side in photo.image.shape[:2]]))
    update()


def _runs(chunks):
  """Lists of the chunks, each of which begins where the one before it in its list ends."""
  runs = []
  for chunk in chunks:
    if runs and (runs[-1][-1].split, runs[-1][-1].end) == (chunk.split, chunk.begin):
      runs[-1].append(chunk)
    else:
      runs.append([chunk])
  return runs


def totals(results):
  """What results hold together: dict of examples, skipped (messages), source_bytes, bytes and symbols."""
  return add(({**{name: result[name] for name in ("skipped", "source_bytes", "symbols")}, "examples": len(result["keys"]),
               "bytes": sum(map(len, result["files"]))} for result in results))


def add(parts, zero=_TOTALS):
  """The sum of dicts as `totals` returns them, or of others whose sum without any is `zero`; lists are sorted."""
  parts = list(parts)
  sums = {name: sum((part[name] for part in parts), start) for name, start in zero.items()}
  return {name: sorted(value) if isinstance(value, list) else value for name, value in sums.items()}


def write_sum(parts, add_parts, path):
  """Writes the sum of a Beam collection of dicts, by a function such as `add`, to a JSON file."""
  import apache_beam as beam  # an extra of the package
  return parts | "add" >> beam.CombineGlobally(add_parts) | "write" >> beam.Map(lambda total: files.write_json(path, total))


def examples(result):
  """(key, features) of a result's examples, the file as `bitstream`. Names are bytes, since files' names need not be text."""
  as_stored = lambda value: os.fsencode(value) if isinstance(value, str) else value
  for key, data, fields in zip(result["keys"], result["files"], result["fields"]):
    yield as_stored(key), {"bitstream": data, **{name: as_stored(value) for name, value in fields.items()}}


class Kept:
  """The finished chunks in a folder, on a file system that all workers share."""

  def __init__(self, folder):
    self.folder = folder

  def has(self, chunk):
    """Whether a chunk is there."""
    return files.exists(self._path(chunk))

  def found(self, chunks):
    """The set of those chunks that are there; lists the folder once."""
    there = set(files.listdir(self.folder)) if files.isdir(self.folder) else set()
    return {chunk for chunk in chunks if os.path.basename(self._path(chunk)) in there}

  def save(self, chunk, result):
    """Keeps a result, whole or not at all."""
    names = sorted({name for fields in result["fields"] for name in fields})
    buffer = io.BytesIO()
    np.savez(buffer, files=np.frombuffer(b"".join(result["files"]), np.uint8),
             sizes=np.array([len(data) for data in result["files"]], np.int64), keys=np.array(result["keys"]),
             skipped=np.array(result["skipped"], str), source_bytes=result["source_bytes"], symbols=result["symbols"],
             **{f"field_{name}": np.array([fields[name] for fields in result["fields"]]) for name in names})
    files.write_file(self._path(chunk), buffer.getvalue(), overwrite=True)

  def load(self, chunk):
    """The result of a chunk that is there."""
    arrays = files.read_arrays(self._path(chunk))
    ends, data = np.cumsum(arrays["sizes"]), arrays["files"].tobytes()
    names = [name for name in arrays if name.startswith("field_")]
    columns = zip(*(arrays[name].tolist() for name in names)) if names else ({} for _ in ends)
    return {
        "keys": arrays["keys"].tolist(), "files": [data[end - size:end] for size, end in zip(arrays["sizes"], ends)],
        "fields": [dict(zip((name.removeprefix("field_") for name in names), values)) for values in columns],
        "skipped": arrays["skipped"].tolist(), "source_bytes": int(arrays["source_bytes"]),
        "symbols": int(arrays["symbols"])}

  def _path(self, chunk):
    return os.path.join(self.folder, f"{chunk.split}-{chunk.begin:09d}-{chunk.end:09d}.npz")


def on_beam(read, load_codec, kept, chunks, totals_path, effort=0):
  """A Beam transform, from a pipeline to all chunks' `examples`, that compresses chunks that are not kept yet.

  Args:
    read, load_codec, chunks, effort: as of `compress`.
    kept: a `Kept`.
    totals_path: JSON file that the pipeline writes the `totals` of all chunks to.
  """
  import apache_beam as beam  # an extra of the package

  size = max(1, min(BEAM_CHUNKS, len(chunks) // 64))
  parts = [list(map(tuple, chunks[begin:begin + size])) for begin in range(0, len(chunks), size)]

  def expand(pipeline):
    done = (pipeline | "chunks" >> beam.Create(parts) | "spread" >> beam.Reshuffle()
            | "compress" >> beam.FlatMap(_compress_on_beam, read, load_codec, kept, effort).with_outputs(
                "totals", main="examples"))
    write_sum(done.totals, add, totals_path)
    return done.examples

  return beam.ptransform_fn(expand)()


def _compress_on_beam(part, read, load_codec, kept, effort):
  from apache_beam import pvalue

  def results():
    missing = []
    for chunk in itertools.starmap(Chunk, part):
      if kept.has(chunk):
        yield kept.load(chunk)
      else:
        missing.append(chunk)
    for chunk, result in compress(read, load_codec, missing, effort=effort):
      kept.save(chunk, result)
      yield result

  for result in results():
    yield pvalue.TaggedOutput("totals", totals([result]))
    yield from examples(result)
