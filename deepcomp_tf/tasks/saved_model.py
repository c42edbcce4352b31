"""SavedModels of networks of the representation, as TensorFlow Serving loads them."""

import os
import tempfile

import tensorflow as tf

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError


def export(task, folder):
  """Writes a SavedModel of a `base.Task` of the representation, see `base.Task.export_saved_model`.

  Its signature `serving_default` takes `representation`, float32 `[batch, h, w, C]` as `Codec.representation` gives it, the
  signature `symbols` takes `symbols`, uint8 `[batch, h, w, C]` as `Codec.symbols`. Both give what the task says. Every output
  has the batch dimension, since Serving refuses rows and batches where one has not; so what the answers mean is in an asset,
  `assets/classes.json`: of a classifier `class_names` in the order of the outputs, of a segmenter also their ids and colours.
  """
  inputs = task.inputs
  if inputs.kind != "representation":
    raise DeepcompError(f"expected a {task.KIND} of the representation. Received: one of {inputs.kind} pixels")
  module = tf.Module()
  module.network, module.quantizer = task.network, inputs.codec.model.quantizer

  @tf.function(input_signature=[tf.TensorSpec([None, None, None, inputs.channels], tf.float32, "representation")])
  def from_representation(representation):
    return task.served(inputs.normalize(representation))

  @tf.function(input_signature=[tf.TensorSpec([None, None, None, inputs.channels], tf.uint8, "symbols")])
  def from_symbols(symbols):
    return task.served(inputs(symbols))

  module.from_representation, module.from_symbols = from_representation, from_symbols
  with tempfile.TemporaryDirectory() as temporary:
    path = os.path.join(temporary, "classes.json")
    files.write_json(path, task.labels())
    module.classes = tf.saved_model.Asset(path)
    tf.saved_model.save(module, folder, {"serving_default": from_representation, "symbols": from_symbols})
