"""What a library knows of a file beyond its bytes: labels, masks' class shares and a vector, all from its symbols.

The vector is what the classifier's last layer reads, its pooled features, in the directions in which that layer tells classes
apart most: the first eigenvectors of its kernel's covariance over the classes. Networks that have their last layer in common, as
all grafts of one backbone do, have vectors that can be compared, whatever operating point they read.
"""

import functools
import os

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

# `directions_of` the shipped grafts' last layer, by its digest; finding them takes seconds.
_DIRECTIONS = os.path.join(os.path.dirname(__file__), "directions.npz")


class Understanding(Embedder):
  """The networks that read the files of one operating point. Its answers are dicts of the columns `table.UNDERSTOOD`.

  Attributes:
    class_names: of its labels.
    space: digest of the classifier's last layer.
  """

  @classmethod
  def load(cls, name, codec=None):
    loaded = super().load(name, codec)
    loaded.class_names, (kernel, bias) = loaded.info["class_names"], _last_layer(loaded)
    loaded.space, loaded.kernel, loaded.bias = files.digest_of(kernel.astype(np.float16).tobytes()), kernel, bias
    stored = files.read_arrays(_DIRECTIONS)
    loaded.directions = stored[loaded.space].astype(np.float32) if loaded.space in stored else directions_of(kernel)
    representation = tf.TensorSpec([None, None, None, loaded.inputs.channels], tf.float32)
    loaded.pooled = tf.function(loaded.pooled, input_signature=[representation], jit_compile=False)
    return loaded

  @functools.cached_property
  def segmenter(self):
    """The `dc.Segmenter` that is shipped for the operating point, or None. A vector is made without it."""
    try:
      return dc.Segmenter.load(folders.shipped_for(dc.Segmenter.KIND, self.codec.fingerprint.hex()))
    except DeepcompError:
      return None

  def run(self, stored, height, width):
    pooled = self.pooled(self.brought_down(stored, height, width)).numpy()
    vectors = np.zeros([len(pooled), VECTOR_SIZE], np.float32)  # fewer directions leave zeros
    vectors[:, :self.directions.shape[1]] = pooled @ self.directions
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    logits = (pooled @ self.kernel + self.bias) / self.temperature
    return list(map(self._columns, vectors.astype(np.float16), tf.nn.softmax(logits).numpy()))

  def _columns(self, vector, probabilities):
    order = np.argsort(-probabilities, kind="stable")[:MOST_LABELS]
    order = order[(probabilities[order] >= LEAST_PROBABILITY) | (np.arange(len(order)) == 0)]
    return {"network": self.source, "space": self.space, "vector": vector, "labels": [self.class_names[k] for k in order],
            "probabilities": probabilities[order]}

  def understand(self, data):
    """The columns of a list of files, or their `DeepcompError`s."""
    read = [dc.Bitstream(file) for file in data]  # whose symbols are decoded once, for both networks
    answers = self.answer(read, "return")
    for answer, mask in zip(answers, self.segmenter.answer(read, "return") if self.segmenter else ()):
      if not isinstance(answer, DeepcompError):
        answer["shares"] = {known.name: float(np.mean(mask == known.id)) for known in self.segmenter.classes}
    return answers


def _last_layer(embedder):
  """Kernel float32 `[size, classes]` and bias of the layer that a classifier's folder has beside what its embedder has."""
  folder, known = shipped.find(embedder.KIND, embedder.source), embedder.network.named_variables()
  arrays = {}
  for path in ("weights.npz", embedder.info.get("shared_weights")):
    arrays.update(files.read_arrays(os.path.join(folder, path)) if path else {})
  kernel, bias = sorted((array for name, array in arrays.items() if name not in known), key=lambda array: -array.ndim)
  return kernel.astype(np.float32), bias.astype(np.float32)


def directions_of(kernel):
  """The directions in which a last layer tells classes apart: float32 `[features, classes]` -> `[features, at most VECTOR_SIZE]`.

  One number added to the logits of all classes changes no answer, so that the kernel counts less its mean over the classes. Each
  eigenvector's largest entry is positive, so that all machines have the same.
  """
  kernel = kernel.astype(np.float64) - kernel.mean(axis=1, keepdims=True, dtype=np.float64)
  vectors = np.linalg.eigh(kernel @ kernel.T)[1][:, ::-1][:, :VECTOR_SIZE]
  return (vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])).astype(np.float32)


def store_directions(name):
  """Writes the file of directions anew, for a shipped classifier and those that share its last layer."""
  network = Understanding.load(name)
  np.savez_compressed(_DIRECTIONS, **{network.space: directions_of(network.kernel).astype(np.float16)})


def by_fingerprint(names, load=None):
  """A function of a file's fingerprint, bytes, that gives the `Understanding` for it, loaded once.

  Args:
    names: of classifiers, or their folders; for operating points that none of them reads, the shipped ones are taken.
    load: function of one of these; by default `Understanding.load`.

  Raises (the function):
    DeepcompError: none of them reads it, and none is shipped that does.
  """
  named = {files.read_json(shipped.info_path(Embedder.KIND, name)).get("fingerprint"): name for name in names}

  @functools.lru_cache(maxsize=None)
  def find(fingerprint):
    return (load or Understanding.load)(named.get(fingerprint.hex()) or folders.shipped_for(Embedder.KIND, fingerprint.hex()))
  return find
