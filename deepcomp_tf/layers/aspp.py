"""Atrous spatial pyramid pooling, the head of DeepLab (section 5; Chen et al. 2016)."""

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError


@tf.keras.saving.register_keras_serializable(package="deepcomp_tf")
class AtrousSpatialPyramidPooling(tf.keras.layers.Layer):
  """The sum of 3x3 atrous convolutions of several rates, each with a bias: features -> class logits.

  `[batch, h, w, c]` -> float32 `[batch, h, w, num_classes]`. No batch normalization and no image pooling, as in
  DeepLab v2 for ResNets.

  Args:
    num_classes: channels of the output.
    rates: dilation rates of the branches.
  """

  def __init__(self, num_classes, rates=(6, 12, 18, 24), **kwargs):
    super().__init__(**{"dtype": "float32", **kwargs})
    if num_classes < 1 or not rates or min(rates) < 1:
      raise DeepcompError("`num_classes` and every one of `rates` must be at least 1. "
                          f"Received: num_classes={num_classes}, rates={tuple(rates)}")
    self.num_classes, self.rates = num_classes, tuple(rates)
    self.branches = [
        tf.keras.layers.Conv2D(num_classes, 3, padding="same", dilation_rate=rate, dtype=self.dtype,
                               kernel_initializer=tf.keras.initializers.RandomNormal(stddev=0.01), name=f"rate{rate}")
        for rate in self.rates]

  def call(self, x):
    return tf.add_n([branch(x) for branch in self.branches])

  def get_config(self):
    return {**super().get_config(), "num_classes": self.num_classes, "rates": self.rates}
