"""Keras networks from JSON that somebody else may have written: layers that run code from the JSON are refused.

Keras 2 has layers that call any function of TensorFlow by its name, also a function that downloads a file; older versions of
Keras 3 import any module that is named. A network that is stored as a folder is data, and is checked before Keras sees it.
"""

import json

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.keras_version import KERAS_3

# Layers of Keras that have functions, files or other networks' code in them.
_WITH_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup",
              "TextVectorization")

# The modules of Keras 2 and 3 that networks consist of. Older versions wrote no module for Keras' layers.
_MODULES = tuple(f"{keras}.{part}" for keras in ("keras", "keras.src") for part in (
    "activations", "applications", "constraints", "dtype_policies", "engine", "initializers", "layers", "mixed_precision",
    "models", "ops", "regularizers")) + ("tensorflow.python.ops.init_ops",)

# Functions of TensorFlow that Keras 2 makes layers of, by how their names begin, or their whole names.
_FUNCTIONS = ("__operators__.", "math.", "nn.", "image.", "linalg.")
_PLAIN_FUNCTIONS = ("cast", "clip_by_value", "concat", "expand_dims", "gather", "identity", "pad", "reshape", "reverse", "shape",
                    "split", "squeeze", "stack", "tile", "transpose", "unstack", "where")


def read(text):
  """The Keras network that a JSON text describes, by Keras 2 or 3; a ValueError where it is no network.

  Raises:
    DeepcompError: it has layers that run code, or that are neither Keras' nor registered.
  """
  described = json.loads(text)
  _check(described)
  try:
    return tf.keras.models.model_from_json(json.dumps(_for_this_keras(described)))
  except (TypeError, KeyError, AttributeError) as error:  # what Keras makes of a config that it cannot use
    raise ValueError(one_line(error)) from None


def _for_this_keras(network):
  """JSON of a functional network of one input and one output that the other Keras wrote, as the installed one reads it; of its own
  only what older versions do not know is left out, where it says nothing.

  Layers are those that both have. Keras 3 tells a layer's inputs as arguments of a call, Keras 2 as lists of names. How weights
  begin is left out: they are set behind this.
  """
  by_keras_3 = str(network.get("module")).startswith("keras.src.models")
  if network.get("class_name") != "Functional":
    return network
  for layer in network["config"]["layers"]:
    if layer["config"].get("quantization_config", "none given") is None:  # of dense layers; only the newest Keras 3 know it
      del layer["config"]["quantization_config"]
  if by_keras_3 == KERAS_3:
    return network
  for layer in network["config"]["layers"]:
    settings = layer["config"] = {name: value for name, value in layer["config"].items() if not name.endswith("_initializer")}
    if KERAS_3 and layer["class_name"] == "DepthwiseConv2D":
      settings.pop("groups", None)
    if not KERAS_3:
      if "batch_shape" in settings:
        settings["batch_input_shape"] = settings.pop("batch_shape")
        settings.pop("optional", None)
      if isinstance(settings.get("dtype"), dict):
        settings["dtype"] = settings["dtype"]["config"]["name"]
      layer["inbound_nodes"] = list(map(_node_of_keras_2, layer["inbound_nodes"]))
  for name in ("input_layers", "output_layers"):
    ends = network["config"][name]
    end, = ends if isinstance(ends[0], list) else [ends]  # a ValueError of several
    network["config"][name] = end if KERAS_3 else [end]
  kept = {name: network[name] for name in ("class_name", "config")}
  return {**kept, "module": "keras.src.models.functional"} if KERAS_3 else kept


def _node_of_keras_2(node):
  """A call of a layer on a tensor, or on a list of them."""
  tensors, = node["args"]
  given = {name: value for name, value in node["kwargs"].items() if value is not None}
  return [[*tensor["config"]["keras_history"], given] for tensor in (tensors if isinstance(tensors, list) else [tensors])]


def _check(value):
  """Refuses a part of the JSON that would make Keras run other code than its networks'."""
  if isinstance(value, list):
    for entry in value:
      _check(entry)
  elif isinstance(value, dict):
    if "class_name" in value and not _is_known(value):
      raise DeepcompError("expected a network of Keras' own layers, and of no function or file. Received: one with "
                          f"{value.get('module') or 'keras'}.{value['class_name']}")
    for entry in value.values():
      _check(entry)


def _is_known(entry):
  name, module, config = entry["class_name"], entry.get("module"), entry.get("config")
  if not isinstance(name, str) or "." in name or name in _WITH_CODE:
    return False
  registered = entry.get("registered_name")
  if isinstance(registered, str) and ">" in registered and tf.keras.utils.get_registered_object(registered):
    return True  # by a program that runs already
  function = config.get("function") if isinstance(config, dict) else None
  if function is not None and not (isinstance(function, str) and (
      function.startswith(_FUNCTIONS) or function in _PLAIN_FUNCTIONS)):
    return False
  if module == "builtins":
    return name == "function" and isinstance(config, str) and hasattr(tf.keras.activations, config)
  return module in (None, "keras") or isinstance(module, str) and any(
      module == known or module.startswith((f"{known}.", f"{known}_")) for known in _MODULES)
