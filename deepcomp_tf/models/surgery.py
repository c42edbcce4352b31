"""Cutting functional Keras networks for pixels in two: where, what lies behind, and its weights."""

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.representation import STRIDE

_CONVOLUTIONS = (tf.keras.layers.Conv2D, tf.keras.layers.DepthwiseConv2D, tf.keras.layers.SeparableConv2D)


def find_cut(backbone):
  """Name of the layer of a functional network behind which it is cut by default.

  Its maps have an eighth of the photo's size, and all paths lead through it. Where a network gets to that size by 1x1
  convolutions that subsample, as ResNet-50 does in conv3_1, it is the layer before these, whose strides the graft takes away;
  elsewhere the last of the layers with the fewest channels.
  """
  size = backbone.input_shape[1]
  for wanted in (STRIDE // 2, STRIDE):
    places = [layer for layer in backbone.layers if size and stride_at(backbone, layer) == wanted
              and (wanted == STRIDE or _subsampled_by_1x1(backbone, layer)) and _all_paths_lead_through(backbone, layer.name)]
    if places:
      fewest = min(layer.output.shape[-1] for layer in places)
      return [layer.name for layer in places if layer.output.shape[-1] == fewest][-1]
  raise DeepcompError(f"expected a network whose maps have an eighth of the photo's size at a place that all paths lead "
                      f"through. Received: {backbone.name}, for photos of {size} pixels")


def remainder_of(backbone, cut, dilated=False, classes=True, dtype="float32"):
  """The functional network behind a layer of a functional network, named `cut`, for maps of any size, with new weights.

  Args:
    dilated: whether strides become dilation rates, and depthwise kernels are not trained (docs/decisions.md).
    classes: whether it ends with the backbone's logits, without a softmax, or with the last maps before they are pooled.
    dtype: Keras policy of its layers.

  Raises:
    DeepcompError: there is no such layer, a path leads past it, or its maps have another size.
  """
  at, size = layer_at(backbone, cut), backbone.input_shape[1]
  stride = stride_at(backbone, at)
  subsampled = stride == STRIDE // 2 and _subsampled_by_1x1(backbone, at)
  if stride != STRIDE and not subsampled:
    raise DeepcompError(f"`cut` must be a layer whose maps have an eighth of the photo's size. Received: cut={cut!r}, with maps "
                        f"of {tuple(at.output.shape[1:])} for photos of {size} pixels")
  if not _all_paths_lead_through(backbone, cut):
    raise DeepcompError(f"`cut` must be a layer that all paths lead through. Received: cut={cut!r} of {backbone.name}")
  end = _end_with_logits(backbone)
  if not classes:
    end = [layer for layer in backbone.layers if len(layer.output.shape) == 4 and layer.output.shape[1] > 1][-1]
  behind = tf.keras.Model(at.output, end.output)
  changes = _strides_given_up(behind, at.output if subsampled else None, dilated)
  if classes:
    linear = {"activation": "linear"} if isinstance(end, (tf.keras.layers.Dense, tf.keras.layers.Conv2D)) else {}
    changes.setdefault(end.name, {}).update(dtype="float32", **linear)

  def changed(layer):
    change = {"dtype": dtype, **changes[layer.name]} if layer.name in changes else {}
    return type(layer).from_config({**layer.get_config(), **change})

  try:
    return tf.keras.models.clone_model(behind, input_tensors=tf.keras.Input([None, None, at.output.shape[-1]]),
                                       clone_function=changed)
  except ValueError as error:
    raise DeepcompError(f"expected a network that takes photos of any size behind {cut}. Received: {backbone.name} "
                        f"({one_line(error)})") from None


def _strides_given_up(behind, subsampled, dilated):
  """What changes in the configurations of the layers of `remainder_of`, dicts by the layers' names.

  `subsampled` is the tensor whose 1x1 convolutions lose their strides, or None.
  """
  rates, changes = {}, {}
  for layer in behind.layers:
    if isinstance(layer, tf.keras.layers.InputLayer):
      continue
    inputs, change = tf.nest.flatten(layer.input), {}
    rate = max(rates.get(id(tensor), 1) for tensor in inputs)
    if isinstance(layer, _CONVOLUTIONS):
      if any(tensor is subsampled for tensor in inputs):
        change["strides"] = (1, 1)
      elif dilated:
        change.update(strides=(1, 1), padding="same", dilation_rate=(rate * layer.dilation_rate[0],) * 2)
        rate *= layer.strides[0]
      if dilated and isinstance(layer, tf.keras.layers.DepthwiseConv2D):
        change["trainable"] = False
    elif dilated and isinstance(layer, tf.keras.layers.ZeroPadding2D):
      change["padding"] = ((0, 0), (0, 0))  # the strided convolution behind it pads itself now
    rates[id(layer.output)] = rate
    changes[layer.name] = change
  return changes


def _end_with_logits(network):
  """The last layer of a functional network, or the one before it where the last only activates, as with a softmax."""
  end = network.layers[-1]
  if not isinstance(end, (tf.keras.layers.Activation, tf.keras.layers.Softmax)):
    return end
  return next(layer for layer in network.layers if layer.output is end.input)


def dense_end(network, name):
  """The last layer of a functional network that people call `name`; it must be dense, as other classes take."""
  end = network.layers[-1]
  if not isinstance(end, tf.keras.layers.Dense):
    raise DeepcompError(f"expected a network whose last layer is dense, for other classes. Received: {name}, which ends with "
                        f"{type(end).__name__} {end.name}")
  return end


def take_layers(network, backbone):
  """Copies into a functional network the weights of the layers of the same names of another network."""
  for layer in network.layers:
    if layer.weights:
      layer.set_weights(backbone.get_layer(layer.name).get_weights())


def variables_of(part, network):
  """The variables of a functional network by names such as `part/head/kernel`, the same under every version of Keras."""
  named = {}
  for layer in network.layers:
    for variable in layer.weights:
      name = variable.name.split("/")[-1].split(":")[0]
      if isinstance(layer, tf.keras.layers.DepthwiseConv2D) and name == "depthwise_kernel":
        name = "kernel"  # as Keras 3 calls it
      named[f"{part}/{layer.name}/{name}"] = variable
  return named


def layer_at(backbone, cut):
  """The layer of this name, which must be there."""
  if cut not in [layer.name for layer in backbone.layers]:
    raise DeepcompError(f"`cut` must be a layer of {backbone.name}. Received: cut={cut!r}")
  return backbone.get_layer(cut)


def stride_at(backbone, layer):
  """Pixels of a photo's edge by positions of a layer's maps, rounded up; None where it has no maps of a known size."""
  shape = layer.output.shape
  return -(-backbone.input_shape[1] // shape[1]) if len(shape) == 4 and shape[1] else None


def _subsampled_by_1x1(network, layer):
  """Whether all layers that take a layer's output are 1x1 convolutions of stride 2."""
  consumers = [other for other in network.layers if not isinstance(other, tf.keras.layers.InputLayer)
               and any(tensor is layer.output for tensor in tf.nest.flatten(other.input))]
  return bool(consumers) and all(isinstance(other, tf.keras.layers.Conv2D) and tuple(other.kernel_size) == (1, 1)
                                 and tuple(other.strides) == (2, 2) for other in consumers)


def _all_paths_lead_through(network, name):
  """Whether a functional network's output follows from the output of this layer alone."""
  try:
    tf.keras.Model(network.get_layer(name).output, network.output)
  except (ValueError, KeyError):
    return False
  return True
