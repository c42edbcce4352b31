"""Networks for pixels that exist elsewhere, by their names or Keras' JSON, and what they make of pixels first."""

import functools
import inspect

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.models import efficientnet
from deepcomp_tf.models import keras_json
from deepcomp_tf.models import surgery

PREPROCESSINGS = ("lite", "caffe", "tf", "torch", "none")


def backbone_names():
  """Names of the backbones that `make_backbone` knows: EfficientNet-Lite and the networks of `tf.keras.applications`."""
  applications = [name for name, _ in inspect.getmembers(tf.keras.applications, callable) if name[0].isupper()]
  return [*efficientnet.VARIANTS, *applications]


def make_backbone(name, num_classes=1000, weights=None):
  """A functional network for pixels, by one of `backbone_names()`, with `num_classes` logits or probabilities.

  `weights` is None, "imagenet" or a path, for networks of `tf.keras.applications`.
  """
  if name in efficientnet.VARIANTS:
    return efficientnet.efficientnet_lite(name, num_classes)
  if name not in backbone_names():
    raise DeepcompError(f"`backbone` must be one of {', '.join(backbone_names())}. Received: {name!r}")
  make, arguments = getattr(tf.keras.applications, name), {"weights": weights, "classes": num_classes}
  network = make(**arguments)
  return network if network.input_shape[1] else make(input_shape=(224, 224, 3), **arguments)


def preprocessing_of(name):
  """The function of float32 pixels in 0..255 that returns what a network takes: one of `PREPROCESSINGS` or `backbone_names()`.

  "lite" is EfficientNet-Lite's, "none" changes nothing, the others are the modes of
  `tf.keras.applications.imagenet_utils.preprocess_input`.
  """
  if name == "lite" or name in efficientnet.VARIANTS:
    return lambda pixels: (pixels - 127.0) / 128.0
  if name == "none":
    return lambda pixels: pixels
  if name in PREPROCESSINGS:
    return functools.partial(tf.keras.applications.imagenet_utils.preprocess_input, mode=name)
  modules = [module for module in vars(tf.keras.applications).values() if hasattr(module, "preprocess_input")
             and hasattr(module, name)]
  return modules[0].preprocess_input


def with_classes(backbone, num_classes):
  """A backbone's name or JSON, of the same network for so many classes."""
  if not backbone.startswith("{"):
    return backbone
  network = keras_json.read(backbone)
  end = surgery.dense_end(network, network.name)
  change = lambda layer: {"units": num_classes} if layer.name == end.name else {}
  return tf.keras.models.clone_model(
      network, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), **change(layer)})).to_json()


def open_backbone(backbone, num_classes):
  """(name or JSON to rebuild a backbone from, its name, the functional network) of either, or of such a network itself.

  `num_classes` is for a backbone that is given by its name.
  """
  if not isinstance(backbone, str):
    return backbone.to_json(), backbone.name, backbone
  if backbone.startswith("{"):
    network = keras_json.read(backbone)
    return backbone, network.name, network
  return backbone, backbone, make_backbone(backbone, num_classes)
