"""Keras networks from JSON that somebody else may have written: layers that run code from the JSON are refused.

Keras 2 has layers that call any function of TensorFlow by its name, also a function that downloads a file; older versions of
Keras 3 import any module that is named. A network that is stored as a folder is data, and is checked before Keras sees it.
"""

import json

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line

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
  """The Keras network that a JSON text describes; a ValueError where it is no network.

  Raises:
    DeepcompError: it has layers that run code, or that are neither Keras' nor registered.
  """
  _check(json.loads(text))
  try:
    return tf.keras.models.model_from_json(text)
  except TypeError as error:  # what Keras 3 makes of a config that it cannot use
    raise ValueError(one_line(error)) from None


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
