"""What trained inference networks share: their folder on disk, their operating point."""

import json
import os

import numpy as np
import tensorflow as tf

from deepcomp_tf import models
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.inference.inputs import NetworkInput
from deepcomp_tf.models.resnet import ARCHITECTURES

_WEIGHTS = "weights.npz"


class StoredNetwork:
  """A trained network with its input and its classes. On disk it is a folder:

    KIND.json    its network, its classes, its input, how it was trained, and what it reached
    weights.npz  float16 kernels; biases and what belongs to batch normalization in float32

  Subclasses say their `KIND`, how to make their network, and how to describe it.

  Args:
    network: a network with `named_variables`.
    inputs: the `NetworkInput` it was trained on.
    class_names: list of str, one for each of the network's classes.
    info: dict for people.

  Attributes:
    operating_point: name of the operating point it reads; None for original pixels.
  """

  KIND = None

  def __init__(self, network, inputs, class_names, info=None):
    if network.num_classes != len(class_names):
      raise DeepcompError(f"expected a name for each of the {network.num_classes} classes. Received: "
                          f"{len(class_names)} names")
    if not network.built:
      network(tf.zeros([1, 32, 32, inputs.channels]))
    self.network, self.inputs, self.class_names, self.info = network, inputs, list(class_names), dict(info or {})
    self.codec = inputs.codec
    self.operating_point = self.codec and self.codec.operating_point

  @classmethod
  def _make(cls, info):
    """The network that a folder's JSON describes, not built."""
    raise NotImplementedError

  def _describe(self):
    """What `_make` needs, besides the class names, as a dict."""
    raise NotImplementedError

  @classmethod
  def _shipped(cls):
    return os.path.join(os.path.dirname(__file__), f"{cls.KIND}s")

  @classmethod
  def names(cls):
    """Names of the shipped ones."""
    folder = cls._shipped()
    if not os.path.isdir(folder):
      return []
    return sorted(name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, f"{cls.KIND}.json")))

  @classmethod
  def load(cls, name, codec=None):
    """A trained network.

    Args:
      name: one of `names()`, or a folder that training wrote.
      codec: the `Codec` of its operating point, where that is not a shipped one and has moved since.

    Raises:
      DeepcompError: there is none, it is damaged, or its operating point is not the one that it was trained on.
    """
    file_name = f"{cls.KIND}.json"
    folder = next((folder for folder in (os.path.join(cls._shipped(), name), name)
                   if os.path.exists(os.path.join(folder, file_name))), None)
    if folder is None:
      raise DeepcompError(f"no {cls.KIND} {name!r}: expected one of {', '.join(cls.names()) or '(none)'}, or a folder "
                          f"with {file_name}")
    try:
      with open(os.path.join(folder, file_name)) as file:
        info = json.load(file)
      if info["input"] != "original" and codec is None:
        codec = Codec.load(info["operating_point"])
      if codec is not None and info["fingerprint"] != codec.fingerprint.hex():
        raise DeepcompError(f"the {cls.KIND} in {folder} was trained on the operating point {info['fingerprint']}. "
                            f"Received: {codec.fingerprint.hex()} ({codec.operating_point})")
      stored = cls(cls._make(info), NetworkInput(info["input"], codec), info["class_names"], info)
      with np.load(os.path.join(folder, _WEIGHTS)) as weights:
        for key, variable in stored.network.named_variables().items():
          variable.assign(weights[key].astype(np.float32))
    except DeepcompError:
      raise
    except (OSError, KeyError, ValueError) as error:
      raise DeepcompError(f"the {cls.KIND} in {folder} is damaged or incomplete ({error})") from None
    return stored

  def save(self, folder, operating_point=None):
    """Writes the folder.

    Args:
      folder: made where it is missing.
      operating_point: the name or folder that `load` shall open.
    """
    os.makedirs(folder, exist_ok=True)
    weights = {key: variable.numpy().astype(np.float16 if key.endswith("kernel") else np.float32)
               for key, variable in self.network.named_variables().items()}
    info = {**self.info, **self._describe(), "class_names": self.class_names, "input": self.inputs.kind}
    if self.codec is not None:
      info["operating_point"] = operating_point or self.operating_point
      info["fingerprint"] = self.codec.fingerprint.hex()
    np.savez_compressed(os.path.join(folder, _WEIGHTS), **weights)
    with open(os.path.join(folder, f"{self.KIND}.json"), "w") as file:
      json.dump(info, file, indent=1)
      file.write("\n")

  def round_weights(self):
    """Rounds the kernels to the float16 that `save` keeps, so that what is measured is what is kept."""
    for key, variable in self.network.named_variables().items():
      if key.endswith("kernel"):
        variable.assign(variable.numpy().astype(np.float16).astype(np.float32))


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
