"""Functional Keras networks from TensorFlow Lite files, with the files' weights: what a graft takes.

No kept converter makes Keras networks of these files (docs/decisions.md). They are read by the schema that comes with TensorFlow.
"""

from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line

# By their numbers in the schema.
_TYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}
_PADDINGS = ("same", "valid")
_LARGEST_OF_RELU = {1: None, 3: 6.0}


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class ResizeLike(tf.keras.layers.Layer):
  """`[maps, others]` -> the maps, bilinearly brought to the height and width of the others, corners on corners."""

  def call(self, inputs):
    return resized_like(*inputs)

  def compute_output_shape(self, input_shape):
    maps, others = input_shape
    return (maps[0], *others[1:3], maps[3])


def resized_like(maps, others):
  """What `ResizeLike` gives."""
  return tf.cast(tf.raw_ops.ResizeBilinear(images=maps, size=tf.shape(others)[1:3], align_corners=True), maps.dtype)


class _Operation(NamedTuple):
  """An operation of a file.

  name: of its layer: what it does, and its place.
  options: as in the schema, such as its strides.
  maps: Keras tensors that it takes.
  constants: arrays that it takes, dequantized.
  shape: of what it gives, in the file.
  earlier: all maps before it.
  """
  name: str
  options: Any
  maps: list
  constants: list
  shape: tuple
  earlier: list


def read(data, name):
  """The network of a TensorFlow Lite file, in floating point.

  Weights are dequantized, and what only rounds is left out. The network of a quantized file takes pixels in 0..255, as the file
  does; that of another takes what its file takes. What makes masks of logits is left out, too: an enlargement to the photo's size
  and the largest class.

  Args:
    data: its bytes.
    name: of the network, and for errors.

  Returns:
    functional network, whose layers are called by their operations and places, such as "conv_2d_5".

  Raises:
    DeepcompError: it is no such file, or has an operation that is not known here.
  """
  from tensorflow.lite.python import schema_py_generated as schema  # pylint: disable=import-outside-toplevel
  kinds = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
  try:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    graph = model.subgraphs[0]
    (given,), (_,) = graph.inputs, graph.outputs
    photo = tuple(graph.tensors[given].shape.tolist()[1:])
  except Exception as error:  # the schema reads any bytes, and fails in many ways  # pylint: disable=broad-except
    raise DeepcompError(f"expected a TensorFlow Lite file of a network with one input and one output. Received: {name} "
                        f"({one_line(error)})") from None
  last = network_input = tf.keras.Input(photo)
  scales, zeros = _quantization(graph.tensors[given])
  if scales is not None:
    last = tf.keras.layers.Rescaling(float(scales[0]), -float(scales[0] * zeros[0]), name="pixels")(network_input)
  maps = {given: last}
  for place, operator in enumerate(graph.operators):
    code = model.operatorCodes[operator.opcodeIndex]
    kind = kinds.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
    operation = _Operation(
        f"{kind.lower()}_{place}", operator.builtinOptions, [maps[number] for number in operator.inputs if number in maps],
        [_constant(model, graph.tensors[number]) for number in operator.inputs if number not in maps and number >= 0],
        tuple(graph.tensors[operator.outputs[0]].shape.tolist()), list(maps.values()))
    if kind == "ARG_MAX" or kind == "RESIZE_BILINEAR" and operation.shape[1:3] == photo[:2]:
      break
    if kind not in _LAYERS:
      raise DeepcompError(f"expected a network of {', '.join(_LAYERS)}. Received: {name}, with {kind} at place {place}")
    try:
      last = maps[operator.outputs[0]] = _activated(operation, _LAYERS[kind](operation))
    except (ValueError, TypeError) as error:
      raise DeepcompError("expected operations as Keras has them. "
                          f"Received: {name}, with {operation.name} from {[tuple(tensor.shape) for tensor in operation.maps]} "
                          f"to {operation.shape} ({one_line(error)})") from None
  return tf.keras.Model(network_input, last, name=name.replace(" ", "_"))


def takes_pixels(network):
  """Whether a network that was read takes pixels in 0..255."""
  return "pixels" in [layer.name for layer in network.layers]


def _quantization(tensor):
  """(scales, zero points) of a tensor of whole numbers that stand for others; (None, None) of another."""
  quantization = tensor.quantization
  if quantization is None or quantization.scale is None:
    return None, None
  scales = np.asarray(quantization.scale, np.float64)
  return scales, np.zeros_like(scales) if quantization.zeroPoint is None else np.asarray(quantization.zeroPoint, np.float64)


def _constant(model, tensor):
  """The array of a constant tensor; float32 where the file has it quantized."""
  stored = np.asarray(model.buffers[tensor.buffer].data, np.uint8).tobytes()
  array = np.frombuffer(stored, _TYPES[tensor.type]).reshape(() if tensor.shape is None else tensor.shape)
  scales, zeros = _quantization(tensor)
  if scales is None:
    return array
  shape = [1] * array.ndim
  if len(scales) > 1:
    shape[tensor.quantization.quantizedDimension] = -1
  return (scales.reshape(shape) * (array - zeros.reshape(shape))).astype(np.float32)


def _activated(operation, maps):
  """What an operation gives, with the activation that is fused to it."""
  activation = getattr(operation.options, "fusedActivationFunction", 0)
  if not activation:
    return maps
  if activation not in _LARGEST_OF_RELU:
    raise ValueError(f"an activation that is not ReLU or ReLU6, but {activation} of the schema")
  return tf.keras.layers.ReLU(_LARGEST_OF_RELU[activation], name=f"{operation.name}_relu")(maps)


def _weighted(make, operation, kernel, maps=None, **arguments):
  """What a layer with these weights makes of an operation's maps."""
  bias = operation.constants[1:]
  layer = make(use_bias=bool(bias), name=operation.name, **arguments)
  maps = layer(operation.maps[0] if maps is None else maps)
  layer.set_weights([kernel, *bias])
  return maps


def _places(options):
  """Strides, padding and dilation of a convolution, as Keras calls them."""
  return {"strides": (options.strideH, options.strideW), "padding": _PADDINGS[options.padding],
          "dilation_rate": (options.dilationHFactor, options.dilationWFactor)}


def _convolution(operation):
  kernel = operation.constants[0]
  return _weighted(tf.keras.layers.Conv2D, operation, kernel.transpose(1, 2, 3, 0), filters=kernel.shape[0],
                   kernel_size=kernel.shape[1:3], groups=operation.maps[0].shape[-1] // kernel.shape[3],
                   **_places(operation.options))


def _depthwise(operation):
  kernel, channels = operation.constants[0], operation.maps[0].shape[-1]
  return _weighted(tf.keras.layers.DepthwiseConv2D, operation, kernel.reshape(*kernel.shape[1:3], channels, -1),
                   kernel_size=kernel.shape[1:3], depth_multiplier=kernel.shape[3] // channels, **_places(operation.options))


def _dense(operation):
  maps, kernel = operation.maps[0], operation.constants[0]
  if len(maps.shape) > 2:
    maps = tf.keras.layers.Flatten(name=f"{operation.name}_flat")(maps)
  return _weighted(tf.keras.layers.Dense, operation, kernel.T, maps, units=kernel.shape[0])


def _pooled(make):
  def apply(operation):
    maps, options = operation.maps[0], operation.options
    size = options.filterHeight, options.filterWidth
    if make is tf.keras.layers.AveragePooling2D and operation.shape[1:3] == (1, 1) and size == tuple(maps.shape[1:3]):
      return tf.keras.layers.GlobalAveragePooling2D(keepdims=True, name=operation.name)(maps)  # of maps of any size
    return make(size, (options.strideH, options.strideW), _PADDINGS[options.padding], name=operation.name)(maps)
  return apply


def _mean(operation):
  if sorted(operation.constants[0].ravel().tolist()) != [1, 2]:
    raise ValueError("a mean over other axes than height and width")
  return tf.keras.layers.GlobalAveragePooling2D(keepdims=operation.options.keepDims, name=operation.name)(operation.maps[0])


def _padded(operation):
  return tf.keras.layers.ZeroPadding2D(operation.constants[0][1:3].tolist(), name=operation.name)(operation.maps[0])


def _resized(operation):
  maps, size = operation.maps[0], operation.shape[1:3]
  if tuple(maps.shape[1:3]) == size:
    return maps
  others = [other for other in operation.earlier if tuple(other.shape[1:3]) == size]
  if not others or not operation.options.alignCorners and tuple(maps.shape[1:3]) != (1, 1):
    raise ValueError("a size that no other maps have, or corners that are not kept")
  return ResizeLike(name=operation.name)([maps, others[-1]])


def _reshaped(operation):
  return tf.keras.layers.Reshape(operation.shape[1:], name=operation.name)(operation.maps[0])


def _same(operation):
  return operation.maps[0]


def _layer(make, **arguments):
  """A layer without weights, of an operation's maps alone."""
  def apply(operation):
    if operation.constants:
      raise ValueError("a constant in place of maps")
    maps = operation.maps
    return make(name=operation.name, **arguments)(maps if len(maps) > 1 else maps[0])
  return apply


_LAYERS = {
    "CONV_2D": _convolution, "DEPTHWISE_CONV_2D": _depthwise, "FULLY_CONNECTED": _dense, "ADD": _layer(tf.keras.layers.Add),
    "MUL": _layer(tf.keras.layers.Multiply), "CONCATENATION": _layer(tf.keras.layers.Concatenate),
    "AVERAGE_POOL_2D": _pooled(tf.keras.layers.AveragePooling2D), "MAX_POOL_2D": _pooled(tf.keras.layers.MaxPooling2D),
    "MEAN": _mean, "PAD": _padded, "RESIZE_BILINEAR": _resized, "RESHAPE": _reshaped, "SQUEEZE": _reshaped,
    "SOFTMAX": _layer(tf.keras.layers.Activation, activation="softmax"),
    "LOGISTIC": _layer(tf.keras.layers.Activation, activation="sigmoid"), "RELU": _layer(tf.keras.layers.ReLU),
    "RELU6": _layer(tf.keras.layers.ReLU, max_value=6.0), "QUANTIZE": _same, "DEQUANTIZE": _same}
