"""Multiply-adds of a network, counted from its convolutions and matrix products."""

from collections.abc import Sequence

from etils import epy

from deepcomp_tf.errors import DeepcompError

with epy.lazy_imports():  # the command's flags name what is measured before TensorFlow is imported
  import tensorflow as tf


def multiply_adds(model, input_shape: Sequence[int]) -> int:
  """Multiply-adds of one forward pass through convolutions, transposed convolutions and dense layers.

  They are what the paper's tables call FLOPs. Biases, activations, normalisation and pooling are not counted;
  products with a padding of zeros are. The network is traced, not run.

  Args:
    model: a Keras model or layer, or another function of one tensor.
    input_shape: shape of one input without the batch, for example (224, 224, 3).

  Returns:
    int.

  Raises:
    DeepcompError: an operation's shape is not known from the input's.
  """
  if not getattr(model, "built", True):
    model.build([1, *input_shape])  # variables that are made while a function is traced take several times as long
  traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(
      tf.TensorSpec([1, *input_shape], tf.float32))
  total = 0
  for operation in traced.graph.get_operations():
    if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
      positions, kernel = operation.outputs[0].shape, operation.inputs[1].shape
    elif operation.type == "Conv2DBackpropInput":  # a transposed convolution
      positions, kernel = operation.inputs[2].shape, operation.inputs[1].shape
    elif operation.type == "MatMul":
      positions, kernel = operation.outputs[0].shape, operation.inputs[1].shape
    else:
      continue
    if not positions.is_fully_defined():
      raise DeepcompError(f"expected a network whose shapes follow from {input_shape}. Received: {operation.name} "
                          f"of shape {positions}")
    total += positions[:-1].num_elements() * kernel.num_elements()
  return int(total)
