"""Vectors of compressed files, for searches by likeness: `Embedder`."""

import io

import numpy as np
from etils import epy

from deepcomp_tf import outputs
from deepcomp_tf import threads
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.tasks.base import Task

with epy.lazy_imports():
  import tensorflow as tf
  from deepcomp_tf import models


class Embedder(Task):
  """Makes a compressed file a vector, straight from its bytes: the features of a classifier, before its last layer.

  Photos that the classifier holds for alike have vectors of a large inner product, 1 at most. It is loaded from classifiers, the
  shipped grafts for example. `export_saved_model` gives `embeddings`, float32 `[batch, size]`.

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
    self._forward = tf.function(
        lambda stored: self.served(inputs(stored))["embeddings"],
        input_signature=[tf.TensorSpec([None, None, None, inputs.channels], tf.uint8)], jit_compile=False)

  @classmethod
  def from_json(cls, info, inputs):
    if "preprocessing" in info:
      raise DeepcompError(f"expected a graft, a ResNet or a cResNet. Received: the whole {info['network']}")
    return cls(models.from_blueprint(info, None), inputs, info)

  def to_json(self):
    return self.network.blueprint()

  def labels(self):
    return {}

  def summary(self):
    return f"gives vectors of {self.size} values"

  def save(self, folder, operating_point=None):
    raise DeepcompError("expected a classifier, in whose folder an embedder's network is kept. Received: an embedder")

  def served(self, representation):
    pooled = tf.reduce_mean(tf.cast(self.network.features(representation, training=False), tf.float32), axis=[1, 2])
    return {"embeddings": tf.math.l2_normalize(pooled, axis=-1)}

  def run(self, stored, height, width):
    threads.check_fork()
    return list(self._forward(stored).numpy())

  def embed(self, data, errors="raise"):
    """The vector of a compressed file: float32 `[size]` of length 1; of a list a list of them. Arguments as of `Task.answer`."""
    return self.answer(data, errors)

  HELP = "Vectors of photos, to find alike ones by their inner products, straight from their .deepcomp files."

  @classmethod
  def add_arguments(cls, parser):
    parser.add_argument("-o", "--output", required=True, help="npy file for the vectors: float32, a row a file, in their order; NaN "
                        "for a file that failed. Its folder is made if it is missing.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an output that exists.")

  @classmethod
  def check_arguments(cls, args):
    outputs.check([args.output], args.overwrite)
    args.vectors = {}

  def report(self, args, file, data, answer):
    args.vectors[file] = answer
    return f"{file} -> {args.output}: {self.size} values", {"output": args.output, "values": self.size}

  @classmethod
  def finish(cls, args):
    if args.vectors:
      missing = np.full_like(next(iter(args.vectors.values())), np.nan)
      buffer = io.BytesIO()
      np.save(buffer, np.stack([args.vectors.get(file, missing) for file in args.files]))
      outputs.write(args.output, buffer.getvalue(), args.overwrite)
