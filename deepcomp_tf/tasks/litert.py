"""LiteRT (TensorFlow Lite) files of networks of the representation, for phones and small machines."""

import os
import tempfile

from etils import epy

from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf.errors import DeepcompError

with epy.lazy_imports():  # the command knows the ending before TensorFlow is imported
  import tensorflow as tf
  from tensorflow.python.framework import convert_to_constants  # pylint: disable=no-name-in-module

EXTENSION = ".tflite"


def export(task, path, overwrite=False):
  """Writes a LiteRT file of a `base.Task` of the representation, see `base.Task.export_litert`.

  Its signature `symbols` takes `symbols`, uint8 `[batch, h, w, C]` of any size, as `Codec.symbols` gives them, and gives what the
  task says. What the answers mean is in a JSON file beside it, with .json in place of .tflite, as in a SavedModel's assets.
  """
  path, inputs = os.fspath(path), task.inputs
  if inputs.kind != "representation":
    raise DeepcompError(f"expected a {task.KIND} of the representation. Received: one of {inputs.kind} pixels")
  if not path.endswith(EXTENSION):
    raise DeepcompError(f"expected a file that ends in {EXTENSION}. Received: {path}")
  labels_path = path.removesuffix(EXTENSION) + ".json"
  outputs.check([path, labels_path], overwrite)

  data = convert(lambda symbols: task.served_by_litert(inputs(symbols)),
                 tf.TensorSpec([None, None, None, inputs.channels], tf.uint8, "symbols"))
  outputs.write(path, data, overwrite)
  files.write_json(labels_path, task.labels())


def convert(function, specification):
  """The bytes of the LiteRT file of a function of a tensor that gives a dict of tensors.

  Its signature is `symbols`, of the specification's name.
  """
  # The converter leaves variables without values, so the weights become constants before, and outputs their names again after.
  traced = tf.function(function, input_signature=[specification], jit_compile=False).get_concrete_function()
  constant, names = convert_to_constants.convert_variables_to_constants_v2(traced), sorted(traced.structured_outputs)
  module = tf.Module()
  module.answers = tf.function(lambda symbols: dict(zip(names, constant(symbols))), input_signature=[specification])
  with tempfile.TemporaryDirectory() as folder:
    tf.saved_model.save(module, folder, {"symbols": module.answers})
    return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["symbols"]).convert()
