"""Classifiers of compressed files: `Classifier`."""

import numpy as np
import tensorflow as tf

from deepcomp_tf import models
from deepcomp_tf import threads
from deepcomp_tf.codec import container
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.inference.stored import batches_of
from deepcomp_tf.inference.stored import StoredNetwork


class Classifier(StoredNetwork):
  """Classifies compressed files straight from their bytes.

  >>> classifier = Classifier.load(Classifier.names()[0])
  >>> classifier.classify(data)         # bytes -> [(class name, probability), ...], most probable first

  Args:
    network: a `models.ResNet`, `models.CResNet` or `models.Graft`.
    inputs, class_names, info: see `StoredNetwork`.

  `export_saved_model` gives `logits` and `probabilities`, float32 `[batch, num_classes]`.
  """

  KIND = "classifier"

  def __init__(self, network, inputs, class_names, info=None):
    super().__init__(network, inputs, class_names, info)
    self._forward = tf.function(
        lambda stored: self.network(self.inputs(stored), training=False),
        input_signature=[tf.TensorSpec([None, None, None, inputs.channels], tf.uint8)], jit_compile=False)

  @classmethod
  def _make(cls, info):
    return models.from_blueprint(info, len(info["class_names"]))

  def _architecture(self):
    return self.network.blueprint()

  def logits(self, stored):
    """uint8 `[batch, h, w, channels]` pixels or symbols -> float32 `[batch, num_classes]`."""
    threads.check_fork()
    return self._forward(stored)

  def classify(self, data):
    """Classes of a compressed file, or of several.

    Args:
      data: bytes of a file, or a list of them. Any sizes; the network averages over all positions.

    Returns:
      list of (class name, probability), most probable first; or a list of such lists.

    Raises:
      BitstreamError: a file is damaged, or of another operating point.
      DeepcompError: what is given is not bytes, but a path for example.
    """
    if container.is_one(data):
      return self.classify([data])[0]
    if self.codec is None:
      raise DeepcompError("this classifier takes original pixels, which a compressed file does not have")
    stored = self.read(container.list_of(data))
    results, stride = [None] * len(stored), self.inputs.stride
    for _, places in batches_of([(stride * array.shape[0], stride * array.shape[1]) for array in stored]):
      probabilities = tf.nn.softmax(self.logits(np.stack([stored[i] for i in places]))).numpy()
      for i, row in zip(places, probabilities):
        results[i] = [(self.class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")]
    return results

  def _served(self, representation):
    logits = self.network(representation, training=False)
    return {"logits": logits, "probabilities": tf.nn.softmax(logits)}
