"""What a library knows of a file beyond its bytes: labels, masks' class shares and a vector, all from its symbols.

The vector is what the classifier's last layer reads, its pooled features, seen along the directions in which that layer tells classes
apart: the 512 first eigenvectors of its kernel's covariance over the classes. Networks that have their last layer in common, as
all grafts of a backbone, thus have vectors that can be compared, whatever operating point they read.
"""

import functools

import numpy as np
from etils import epy

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.library.table import VECTOR_SIZE
from deepcomp_tf.tasks import folder as folders
from deepcomp_tf.tasks.embed import Embedder

with epy.lazy_imports():
  import tensorflow as tf

# So many classes are kept, of at least such a probability.
MOST_LABELS, LEAST_PROBABILITY = 20, 0.002


class _Features(Embedder):
  """An embedder and the last layer of the classifier that it is part of: one pass gives a vector and probabilities."""

  @classmethod
  def load(cls, name, codec=None):
    loaded = super().load(name, codec)
    classifier = dc.Classifier.load(name, loaded.codec)
    variables = [variable.numpy() for variable in classifier.network.named_variables().values()]
    loaded.class_names = classifier.class_names
    shape = (loaded.size, len(loaded.class_names))
    loaded.kernel = [variable for variable in variables if variable.shape == shape][-1]
    loaded.bias = [variable for variable in variables if variable.shape == shape[1:]][-1]
    loaded.directions = directions_of(loaded.kernel)
    loaded.forward = tf.function(loaded.pooled, input_signature=[tf.TensorSpec([None, None, None, loaded.inputs.channels], tf.uint8)],
                                 jit_compile=False)
    return loaded

  def pooled(self, stored):
    """What the last layer reads: uint8 `[batch, h, w, C]` symbols -> float32 `[batch, size]`."""
    return tf.reduce_mean(tf.cast(self.network.features(self.inputs(stored), training=False), tf.float32), axis=[1, 2])

  def run(self, stored, height, width):
    pooled = self.forward(stored).numpy()
    vectors = np.zeros([len(pooled), VECTOR_SIZE], np.float32)  # fewer features leave zeros
    vectors[:, :self.directions.shape[1]] = pooled @ self.directions
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return list(zip(vectors.astype(np.float16), tf.nn.softmax(pooled @ self.kernel + self.bias).numpy()))


def directions_of(kernel):
  """The directions in which a last layer tells classes apart: float32 `[features, classes]` -> `[features, at most VECTOR_SIZE]`.

  Adding one number to the logits of all classes changes no answer, so that the kernel counts less its mean over the classes. Each
  eigenvector's largest entry is positive, so that all machines have the same.
  """
  kernel = kernel.astype(np.float64) - kernel.mean(axis=1, keepdims=True, dtype=np.float64)
  vectors = np.linalg.eigh(kernel @ kernel.T)[1][:, ::-1][:, :VECTOR_SIZE]
  return (vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])).astype(np.float32)


class Understanding:
  """The networks that read the files of one operating point.

  Attributes:
    network: what the classifier was loaded from: its name, or its folder.
    space: digest of its last layer.
    class_names: of its labels.

  Args:
    name: of the classifier, or its folder.
    segmenter: its name, or empty: none.
  """

  def __init__(self, name, segmenter=""):
    self._features = _Features.load(name)
    self.network, self.class_names = self._features.source, self._features.class_names
    self.space = files.digest_of(self._features.kernel.astype(np.float16).tobytes())
    self.fingerprint = self._features.codec.fingerprint
    self._segmenter = dc.Segmenter.load(segmenter) if segmenter else None

  def of(self, data):
    """Dicts of the columns `table.UNDERSTOOD` for a list of files; for one that cannot be read its `DeepcompError`."""
    read = [dc.Bitstream(file) for file in data]  # whose symbols are decoded once, for both networks
    features = self._features.answer(read, "return")
    masks = self._segmenter.answer(read, "return") if self._segmenter else [None] * len(data)
    return [answer if isinstance(answer, DeepcompError) else mask if isinstance(mask, DeepcompError) else
            self._columns(*answer, mask) for answer, mask in zip(features, masks)]

  def vector(self, data):
    """The vector of a file, float16 `[VECTOR_SIZE]`."""
    return self._features.answer(data)[0]

  def _columns(self, vector, probabilities, mask):
    order = np.argsort(-probabilities, kind="stable")[:MOST_LABELS]
    order = order[(probabilities[order] >= LEAST_PROBABILITY) | (np.arange(len(order)) == 0)]
    shares = None
    if mask is not None:
      shares = {known.name: float(share) for known, share in self._segmenter.shares(mask)}
      shares = {known.name: shares.get(known.name, 0.0) for known in self._segmenter.classes}
    return {"network": self.network, "space": self.space, "vector": vector, "shares": shares,
            "labels": [self.class_names[k] for k in order], "probabilities": probabilities[order]}


class Networks:
  """An `Understanding` for each operating point, loaded when it is first asked for.

  Args:
    names: classifiers to take; for operating points that none of them reads, the shipped ones are taken.
  """

  def __init__(self, names=()):
    self._named = {}
    for name in names:
      info = files.read_json(shipped.info_path(Embedder.KIND, name))
      self._named[info.get("fingerprint")] = name
    self.of = functools.lru_cache(maxsize=None)(self._load)

  def _load(self, fingerprint):
    """The `Understanding` of files with this fingerprint, bytes.

    Raises:
      DeepcompError: none of the named classifiers reads them, and none is shipped that does.
    """
    name = self._named.get(fingerprint.hex()) or folders.shipped_for(dc.Classifier.KIND, fingerprint.hex())
    try:
      segmenter = folders.shipped_for(dc.Segmenter.KIND, fingerprint.hex())
    except DeepcompError:
      segmenter = ""
    return Understanding(name, segmenter)
