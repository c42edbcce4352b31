"""Vectors of compressed files, for searches by likeness: `Embedder`."""

from collections.abc import Sequence
import io
import time
from typing import overload

from absl import logging
import numpy as np
from etils import epy

from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf import threads
from deepcomp_tf.bitstream import FileBytes
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import Errors
from deepcomp_tf.errors import one_line
from deepcomp_tf.tasks.base import Task

with epy.lazy_imports():
  import pyarrow as pa
  from pyarrow import parquet
  import tensorflow as tf
  from deepcomp_tf import models

# Beam's counter of files without a vector.
DAMAGED = "damaged"

# Between two writes of a table, so that a command that is stopped leaves what it had.
_SECONDS_BETWEEN_WRITES = 60


class Embedder(Task):
  """Makes a compressed file a vector, straight from its bytes: the features of a classifier, before its last layer.

  Photos that the classifier holds for alike have vectors of a large inner product, 1 at most. It is loaded from classifiers, the
  shipped grafts for example. `export_saved_model` gives `embeddings`, float32 `[batch, size]`.

  Examples:
    >>> embedder = Embedder.load("graft_bpp0.330")
    >>> embedder.embed(data)              # bytes -> float32 [size], of length 1

  Args:
    network: a `models.ResNet`, `models.CResNet` or `models.Graft` that ends with its features.
    inputs, info: see `Task`.

  Attributes:
    size: of the vectors.
  """

  KIND = "classifier"

  def __init__(self, network, inputs, info=None):
    super().__init__(network, inputs, info=info)
    self.size = network.feature_channels

  @classmethod
  def from_json(cls, info, inputs, network=None):
    if "preprocessing" in info:
      raise DeepcompError(f"expected a graft, a ResNet or a cResNet. Received: the whole {info['network']}")
    return cls(network or models.from_blueprint(info, None), inputs, info)

  def to_json(self):
    return self.network.blueprint()

  def labels(self):
    return {}

  def summary(self):
    return f"gives vectors of {self.size} values"

  def save(self, folder, operating_point=None):
    raise DeepcompError("expected a classifier, in whose folder an embedder's network is kept. Received: an embedder")

  def pooled(self, x):
    """What the classifier's last layer reads: float32 `[batch, h, w, C]`, the network's input -> float32 `[batch, size]`."""
    return tf.reduce_mean(tf.cast(self.network.features(x, training=False), tf.float32), axis=[1, 2])

  def served(self, representation):
    return {"embeddings": tf.math.l2_normalize(self.pooled(representation), axis=-1)}

  def forward(self, x):
    return self.served(x)["embeddings"]

  def run(self, stored, height, width):
    threads.check_fork()
    vectors = self.mean_answer(self._forward, stored, height, width)
    return list(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))

  @overload
  def embed(self, data: FileBytes, errors: Errors = ...) -> np.ndarray: ...
  @overload
  def embed(self, data: Sequence[FileBytes], errors: Errors = ...) -> list[np.ndarray]: ...

  def embed(self, data, errors="raise"):
    """The vector of a compressed file: float32 `[size]` of length 1; of a list a list of them. Arguments as of `Task.answer`."""
    return self.answer(data, errors)

  HELP = "Vectors of photos, to find alike ones by their inner products, straight from their .deepcomp files."
  WRITES = True

  @classmethod
  def add_arguments(cls, parser):
    parser.add_argument("-o", "--output", required=True, help="npy file for the vectors: float32, a row a file, in their order; "
                        "NaN for a file that failed. Or .parquet, with the columns file and vector, without files that failed, "
                        "written every minute. Its folder is made if it is missing. - is standard output, for npy.")
    parser.add_argument("--resume", action="store_true", help="Go on with a .parquet that exists: files that it has are left "
                        "alone.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an output that exists.")

  @classmethod
  def check_arguments(cls, args):
    if args.output != outputs.STANDARD and not args.output.endswith((".npy", ".parquet")):
      raise DeepcompError(f"expected an --output that ends in .npy or .parquet. Received: {args.output}")
    if args.resume and not args.output.endswith(".parquet"):
      raise DeepcompError(f"--resume takes an --output that ends in .parquet, which names its files. Received: {args.output}")
    outputs.check([args.output], args.overwrite, args.resume)
    args.vectors, args.written = _vectors_in(args.output) if args.resume and files.exists(args.output) else {}, time.monotonic()

  @classmethod
  def existing(cls, args, file):
    return {"output": args.output, "before": True} if file in args.vectors else None

  def report(self, args, file, data, answer):
    args.vectors[file] = answer
    if args.output.endswith(".parquet") and time.monotonic() > args.written + _SECONDS_BETWEEN_WRITES:
      self.finish(args)
      args.overwrite, args.written = True, time.monotonic()
    return f"{file} -> {args.output}: {self.size} values", {"output": args.output, "values": self.size}

  @classmethod
  def finish(cls, args):
    if not args.vectors:
      return
    buffer = io.BytesIO()
    if args.output.endswith(".parquet"):
      size = len(next(iter(args.vectors.values())))
      parquet.write_table(pa.table([list(args.vectors), pa.array(list(args.vectors.values()), vector_type(size))],
                                   ["file", "vector"]), buffer)
    else:
      missing = np.full_like(next(iter(args.vectors.values())), np.nan)
      np.save(buffer, np.stack([args.vectors.get(file, missing) for file in args.files]))
    outputs.write(args.output, buffer.getvalue(), args.overwrite or args.resume)


def _vectors_in(path):
  """The vectors in a Parquet file that the command wrote: dict of arrays by the files' paths."""
  try:
    table = parquet.read_table(io.BytesIO(files.read(path)), columns=["file", "vector"])
  except (pa.ArrowException, KeyError) as error:
    raise DeepcompError("expected a Parquet file with the columns file and vector. "
                        f"Received: {path} ({one_line(error)})") from None
  return dict(zip(table["file"].to_pylist(), (np.float32(vector) for vector in table["vector"].to_pylist())))


def vector_type(size):
  """What a column of vectors is in Arrow and Parquet."""
  return pa.list_(pa.float32(), size)


def rows(examples, embedder, columns):
  """Yields the rows of a table of vectors, dicts, on a worker of Beam: `columns` of examples, and their `vector`.

  Args:
    examples: list of dicts with `bitstream`. Damaged ones are left out, and counted as `DAMAGED`.
    embedder: is pickled as its name, and loaded once by each worker.
    columns: their features that are kept, numbers and texts.
  """
  from apache_beam import metrics  # an extra of the package
  for example, vector in zip(examples, embedder.embed([example["bitstream"] for example in examples], "return")):
    if isinstance(vector, DeepcompError):
      logging.warning("Left out: %s", vector)
      metrics.Metrics.counter("deepcomp_tf", DAMAGED).inc()
      continue
    values = ((name, example[name]) for name in columns)
    yield {"vector": vector.tolist(),
           **{name: value.decode() if isinstance(value, bytes) else int(value) for name, value in values}}
