"""The residual unit of the compression network (appendix A.1), and its narrower form in adapters."""

from typing import Optional

import tensorflow as tf

from deepcomp_tf.layers.naming import build


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class ResidualUnit(tf.keras.layers.Layer):
  """x + conv3x3(relu(conv3x3(x))), with as many channels out as in and no activation after the sum.

  With a bottleneck it is x + conv1x1(relu(conv3x3(relu(conv1x1(x))))), as in a ResNet, but without batch normalization.
  The last convolution starts at zero, so that a new unit is the identity: from a random start the
  network then converges faster (docs/decisions.md).

  Args:
    filters: channels of x and of the sum.
    bottleneck: channels around the 3x3 convolution between two of 1x1; None for two 3x3 convolutions of `filters` channels.
  """

  def __init__(self, filters: int = 128, bottleneck: Optional[int] = None, **kwargs):
    super().__init__(**kwargs)
    self.filters, self.bottleneck = filters, bottleneck
    if bottleneck is None:
      self.conv1 = self._convolution("conv1", filters, 3)
      self.conv2 = self._convolution("conv2", filters, 3, last=True)
      self.conv3 = None
    else:
      self.conv1 = self._convolution("conv1", bottleneck, 1)
      self.conv2 = self._convolution("conv2", bottleneck, 3)
      self.conv3 = self._convolution("conv3", filters, 1, last=True)

  def _convolution(self, name, filters, size, last=False):
    return tf.keras.layers.Conv2D(
        filters, size, padding="same", activation=None if last else "relu", kernel_initializer="zeros" if last else "he_normal",
        dtype=self.dtype_policy, name=name)

  @property
  def convolutions(self):
    """Its two or three convolutions, first to last."""
    return [layer for layer in (self.conv1, self.conv2, self.conv3) if layer is not None]

  def build(self, input_shape):
    channels = self.filters
    for convolution in self.convolutions:
      build(convolution, channels)
      channels = convolution.filters
    super().build(input_shape)

  def call(self, x) -> tf.Tensor:
    inner = x
    for convolution in self.convolutions:
      inner = convolution(inner)
    return x + inner

  def get_config(self):
    return {**super().get_config(), "filters": self.filters, "bottleneck": self.bottleneck}
