"""The residual unit of the compression network (appendix A.1)."""

import tensorflow as tf

from deepcomp_tf.layers.naming import build


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class ResidualUnit(tf.keras.layers.Layer):
  """x + conv3x3(relu(conv3x3(x))), with as many channels out as in and no activation after the sum.

  The second convolution starts at zero, so that a new unit is the identity: from a random start the
  network then converges faster (docs/decisions.md).

  Args:
    filters: channels of x and of both convolutions.
  """

  def __init__(self, filters: int = 128, **kwargs):
    super().__init__(**kwargs)
    self.filters = filters
    self.conv1 = tf.keras.layers.Conv2D(
        filters, 3, padding="same", activation="relu", kernel_initializer="he_normal", dtype=self.dtype_policy, name="conv1")
    self.conv2 = tf.keras.layers.Conv2D(
        filters, 3, padding="same", kernel_initializer="zeros", dtype=self.dtype_policy, name="conv2")

  def build(self, input_shape):
    for convolution in (self.conv1, self.conv2):
      build(convolution, self.filters)
    super().build(input_shape)

  def call(self, x) -> tf.Tensor:
    return x + self.conv2(self.conv1(x))

  def get_config(self):
    return {**super().get_config(), "filters": self.filters}
