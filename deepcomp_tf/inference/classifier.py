"""Trained classifiers and their format on disk: `Classifier`."""

import json
import os

import numpy as np
import tensorflow as tf

from deepcomp_tf import models
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.inference.inputs import NetworkInput
from deepcomp_tf.models.resnet import ARCHITECTURES

_SHIPPED = os.path.join(os.path.dirname(__file__), "classifiers")
_INFO, _WEIGHTS = "classifier.json", "weights.npz"


class Classifier:
  """Classifies compressed files straight from their bytes.

  >>> classifier = Classifier.load(Classifier.names()[0])
  >>> classifier.classify(data)         # bytes -> [(class name, probability), ...], most probable first

  A classifier on disk is a folder:
    classifier.json  its network, its classes, its input, how it was trained, and what it reached
    weights.npz      float16 kernels; what belongs to batch normalization and biases in float32

  Args:
    network: a `models.ResNet` or `models.CResNet`.
    inputs: the `NetworkInput` it was trained on.
    class_names: list of str, one per logit.
    info: dict for people.

  Attributes:
    operating_point: name of the operating point it reads; None for original pixels.
  """

  def __init__(self, network, inputs, class_names, info=None):
    if network.num_classes != len(class_names):
      raise DeepcompError(f"expected a name for each of the {network.num_classes} classes. Received: "
                          f"{len(class_names)} names")
    if not network.built:
      network(tf.zeros([1, 32, 32, inputs.channels]))
    self.network, self.inputs, self.class_names, self.info = network, inputs, list(class_names), dict(info or {})
    self.codec = inputs.codec
    self.operating_point = self.codec and self.codec.operating_point
    self._forward = tf.function(
        lambda stored: self.network(self.inputs(stored), training=False),
        input_signature=[tf.TensorSpec([None, None, None, inputs.channels], tf.uint8)], jit_compile=False)

  @staticmethod
  def names():
    """Names of the shipped classifiers."""
    if not os.path.isdir(_SHIPPED):
      return []
    return sorted(name for name in os.listdir(_SHIPPED) if os.path.exists(os.path.join(_SHIPPED, name, _INFO)))

  @classmethod
  def load(cls, name, codec=None):
    """A trained classifier.

    Args:
      name: one of `names()`, or a folder that training wrote.
      codec: the `Codec` of its operating point, where that is not a shipped one and has moved since.

    Raises:
      DeepcompError: there is no such classifier, or the operating point is not the one that it was trained on.
    """
    folder = next((folder for folder in (os.path.join(_SHIPPED, name), name)
                   if os.path.exists(os.path.join(folder, _INFO))), None)
    if folder is None:
      raise DeepcompError(f"no classifier {name!r}: expected one of {', '.join(cls.names()) or '(none)'}, or a folder "
                          f"with {_INFO}")
    try:
      with open(os.path.join(folder, _INFO)) as file:
        info = json.load(file)
      network = make_network(info["network"], len(info["class_names"]), info["width"], info["stride_in"])
      if info["input"] != "original" and codec is None:
        codec = Codec.load(info["operating_point"])
      if codec is not None and info["fingerprint"] != codec.fingerprint.hex():
        raise DeepcompError(f"the classifier in {folder} was trained on the operating point {info['fingerprint']}. "
                            f"Received: {codec.fingerprint.hex()} ({codec.operating_point})")
      inputs = NetworkInput(info["input"], codec)
      network(tf.zeros([1, 32, 32, inputs.channels]))
      with np.load(os.path.join(folder, _WEIGHTS)) as weights:
        for key, variable in network.named_variables().items():
          variable.assign(weights[key].astype(np.float32))
    except DeepcompError:
      raise
    except (OSError, KeyError, ValueError) as error:
      raise DeepcompError(f"the classifier in {folder} is damaged or incomplete ({error})") from None
    return cls(network, inputs, info["class_names"], info)

  def save(self, folder, operating_point=None):
    """Writes the classifier's folder.

    Args:
      folder: made where it is missing.
      operating_point: the name or folder that `load` shall open.
    """
    os.makedirs(folder, exist_ok=True)
    weights = {key: variable.numpy().astype(np.float16 if key.endswith("kernel") else np.float32)
               for key, variable in self.network.named_variables().items()}
    info = {**self.info, "network": self.network.architecture, "width": self.network.width,
            "stride_in": self.network.stride_in, "class_names": self.class_names, "input": self.inputs.kind}
    if self.codec is not None:
      info["operating_point"] = operating_point or self.operating_point
      info["fingerprint"] = self.codec.fingerprint.hex()
    np.savez_compressed(os.path.join(folder, _WEIGHTS), **weights)
    with open(os.path.join(folder, _INFO), "w") as file:
      json.dump(info, file, indent=1)
      file.write("\n")

  def round_weights(self):
    """Rounds the kernels to the float16 that `save` keeps, so that what is measured is what is kept."""
    for key, variable in self.network.named_variables().items():
      if key.endswith("kernel"):
        variable.assign(variable.numpy().astype(np.float16).astype(np.float32))

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
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
      return self.classify([data])[0]
    if self.codec is None:
      raise DeepcompError("this classifier takes original pixels, which a compressed file does not have")
    read = self.codec.symbols if self.inputs.kind == "representation" else self.codec.decompress
    stored = [read(one) for one in data]
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


def make_network(name, num_classes, width=1.0, stride_in="conv1", dilated=False):
  """The network of a name such as "cResNet-51", one of `models.resnet.ARCHITECTURES`."""
  if name not in ARCHITECTURES:
    raise DeepcompError(f"`network` must be one of {', '.join(ARCHITECTURES)}. Received: {name!r}")
  family, depth = name.split("-")
  make = {"ResNet": models.ResNet, "cResNet": models.CResNet}[family]
  return make(int(depth), num_classes, width, stride_in, dilated)


def takes_representation(name):
  """Whether a network of this name is for the representation rather than for pixels."""
  return name.startswith("cResNet")
