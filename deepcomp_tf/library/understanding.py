"""What a library knows of a file beyond its bytes: labels, masks' class shares and a vector, all from its symbols.

The vector is what the classifier's last layer reads, its pooled features, in the directions in which that layer tells classes
apart most: the first eigenvectors of its kernel's covariance over the classes. Networks that have their last layer in common, as
all grafts of one backbone do, have vectors that can be compared, whatever operating point they read.
"""

import functools
import os

import numpy as np
from scipy import special

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.library.table import VECTOR_SIZE
from deepcomp_tf.tasks import folder as folders
from deepcomp_tf.tasks import quick
from deepcomp_tf.tasks.embed import Embedder

# So many classes are kept, of at least such a probability.
MOST_LABELS, LEAST_PROBABILITY = 20, 0.002

# `directions_of` the shipped grafts' last layer, by its digest; finding them takes seconds.
_DIRECTIONS = os.path.join(os.path.dirname(__file__), "directions.npz")


class Understanding(Embedder):
  """The networks that read the files of one operating point. Its answers are dicts of the columns `table.UNDERSTOOD`.

  Attributes:
    class_names: of its labels.
    space: digest of the classifier's last layer.
    loader: `quick.Loader` of the segmenter.
  """

  loader = quick.Loader(allowed=False)
  class_names = property(lambda self: self.info["class_names"])

  @functools.cached_property
  def last_layer(self):
    """Kernel float32 `[size, classes]` and bias of the layer that the classifier's folder has beside what its embedder has."""
    known, arrays = self.network.named_variables(), folders.read_weights(shipped.find(self.KIND, self.source), self.info)
    kernel, bias = sorted((array for name, array in arrays.items() if name not in known), key=lambda array: -array.ndim)
    return kernel, bias

  @functools.cached_property
  def space(self):
    return files.digest_of(self.last_layer[0].astype(np.float16).tobytes())

  @functools.cached_property
  def directions(self):
    """float32 `[size, at most VECTOR_SIZE]`, see above."""
    stored = files.read_arrays(_DIRECTIONS)
    return stored[self.space].astype(np.float32) if self.space in stored else directions_of(self.last_layer[0])

  @functools.cached_property
  def segmenter(self):
    """The `dc.Segmenter` that is shipped for the operating point, or None. A vector is made without it."""
    try:
      return self.loader.task(dc.Segmenter, folders.shipped_for(dc.Segmenter.KIND, self.codec.fingerprint.hex()))
    except DeepcompError:
      return None

  @functools.cached_property
  def made_shares(self):
    """What the column `segmenter` has of files whose masks it made; None without one."""
    found = self.segmenter
    return found and folders.digest(shipped.find(found.KIND, found.source), found.info)

  def forward(self, x):
    return self.pooled(x)

  def run(self, stored, height, width):
    pooled = self.mean_answer(self._forward, stored, height, width)
    vectors = np.zeros([len(pooled), VECTOR_SIZE], np.float32)  # fewer directions leave zeros
    vectors[:, :self.directions.shape[1]] = pooled @ self.directions
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    kernel, bias = self.last_layer
    logits = (pooled @ kernel + bias) / self.temperature
    return list(map(self._columns, vectors.astype(np.float16), special.softmax(logits, axis=-1)))

  def _columns(self, vector, probabilities):
    order = np.argsort(-probabilities, kind="stable")[:MOST_LABELS]
    order = order[(probabilities[order] >= LEAST_PROBABILITY) | (np.arange(len(order)) == 0)]
    return {"network": self.source, "space": self.space, "vector": vector, "labels": [self.class_names[k] for k in order],
            "probabilities": probabilities[order]}

  def understand(self, data, known=None):
    """The columns of a list of files, or their `DeepcompError`s.

    Args:
      data: list of bytes.
      known: list of dicts of the columns segmenter and shares of the same files, which stay as they are where this segmenter made
        them; None where nothing is known.
    """
    read = [dc.Bitstream(file) for file in data]  # whose symbols are decoded once, for both networks
    answers, known = self.answer(read, "return"), known or [{}] * len(read)
    todo = [number for number, before in enumerate(known)
            if self.segmenter and not (before.get("shares") and before["segmenter"] == self.made_shares)]
    masks = dict(zip(todo, self.segmenter.answer([read[number] for number in todo], "return") if todo else ()))
    for number, (answer, before) in enumerate(zip(answers, known)):
      if isinstance(answer, DeepcompError) or not self.segmenter:
        continue
      answer["segmenter"], answer["shares"] = self.made_shares, before.get("shares")
      if number in masks:
        answer["shares"] = {one.name: float(np.mean(masks[number] == one.id)) for one in self.segmenter.classes}
    return answers


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
  np.savez_compressed(_DIRECTIONS, **{network.space: directions_of(network.last_layer[0]).astype(np.float16)})


def by_fingerprint(names, loader=None):
  """A function of a file's fingerprint, bytes, that gives the `Understanding` for it, loaded once.

  Args:
    names: of classifiers, or their folders; for operating points that none of them reads, the shipped ones are taken.
    loader: `quick.Loader` of the networks; by default TensorFlow runs them.

  Raises (the function):
    DeepcompError: none of them reads it, and none is shipped that does.
  """
  loader = loader or quick.Loader(allowed=False)
  named = {files.read_json(shipped.info_path(Embedder.KIND, name)).get("fingerprint"): name for name in names}

  @functools.lru_cache(maxsize=None)
  def find(fingerprint):
    network = loader.task(Understanding, named.get(fingerprint.hex()) or folders.shipped_for(Embedder.KIND, fingerprint.hex()))
    network.loader = loader
    return network
  return find
