"""Building layers before they are called, and names of variables that are the same under every version of Keras."""

import tensorflow as tf

_ATTRIBUTES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def build(layer, channels):
  """Makes the variables of a layer for `[batch, h, w, channels]`; in a scope, since Keras 2 tells variables by their names."""
  with tf.name_scope(layer.name):
    layer.build([None, None, None, channels])


def copy_weights(source, target):
  """Copies the variables of a built network into another network with the same `named_variables`."""
  weights = source.named_variables()
  for name, variable in target.named_variables().items():
    variable.assign(weights[name])


def named_variables(layers):
  """The variables of built convolutions, dense layers and batch normalizations, by names such as `unit1/conv2/kernel`.

  `layers` is a dict by their names, with None for a layer that a network does not have; the result has its order.
  """
  return {f"{name}/{attribute}": getattr(layer, attribute) for name, layer in layers.items() if layer is not None
          for attribute in _ATTRIBUTES if getattr(layer, attribute, None) is not None}
