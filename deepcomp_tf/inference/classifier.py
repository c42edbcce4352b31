"""Classifiers of compressed files: `Classifier`."""

import numpy as np
import tensorflow as tf

from deepcomp_tf import models
from deepcomp_tf.codec import container
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.inference.stored import StoredNetwork


class Classifier(StoredNetwork):
  """Classifies compressed files straight from their bytes.

  >>> classifier = Classifier.load(Classifier.names()[0])
  >>> classifier.classify(data)         # bytes -> [(class name, probability), ...], most probable first

  Args:
    network: a `models.ResNet`, `models.CResNet` or `models.Graft`.
    inputs, class_names, info: see `StoredNetwork`.
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
    results = [None] * len(stored)
    for shape in {array.shape for array in stored}:
      places = [i for i, array in enumerate(stored) if array.shape == shape]
      probabilities = tf.nn.softmax(self.logits(np.stack([stored[i] for i in places]))).numpy()
      for i, row in zip(places, probabilities):
        results[i] = [(self.class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")]
    return results

  def export_saved_model(self, folder):
    """Writes a SavedModel for TensorFlow Serving, for a classifier of the representation.

    Its signature `serving_default` takes `representation`, float32 `[batch, h, w, C]` as `Codec.representation` gives
    it, the signature `symbols` takes `symbols`, uint8 `[batch, h, w, C]` as `Codec.symbols`. Both give `logits` and
    `probabilities`, float32 `[batch, num_classes]`, and `class_names`, string `[num_classes]`.
    """
    if self.inputs.kind != "representation":
      raise DeepcompError(f"expected a classifier of the representation. Received: one of {self.inputs.kind} pixels")
    channels = self.inputs.channels
    module = tf.Module()
    module.network, module.quantizer = self.network, self.codec.model.quantizer

    def outputs(x):
      logits = self.network(x, training=False)
      return {"logits": logits, "probabilities": tf.nn.softmax(logits), "class_names": tf.constant(self.class_names)}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.float32, "representation")])
    def from_representation(representation):
      return outputs(self.inputs.normalize(representation))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.uint8, "symbols")])
    def from_symbols(symbols):
      return outputs(self.inputs(symbols))

    module.from_representation, module.from_symbols = from_representation, from_symbols
    tf.saved_model.save(module, folder, {"serving_default": from_representation, "symbols": from_symbols})
