"""Atrous spatial pyramid pooling, the head of DeepLab (section 5; Chen et al. 2016)."""

from collections.abc import Sequence

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class AtrousSpatialPyramidPooling(tf.keras.layers.Layer):
  """The sum of 3x3 atrous convolutions of several rates, each with a bias: features -> class logits.

  `[batch, h, w, c]` -> float32 `[batch, h, w, num_classes]`. No batch normalization and no image pooling, as in
  DeepLab v2 for ResNets.

  Args:
    num_classes: channels of the output.
    rates: dilation rates of the branches.
  """

  def __init__(self, num_classes: int, rates: Sequence[int] = (6, 12, 18, 24), **kwargs):
    super().__init__(**{"dtype": "float32", **kwargs})
    if num_classes < 1 or not rates or min(rates) < 1 or len(set(rates)) < len(rates):
      raise DeepcompError("`num_classes` and every one of `rates` must be at least 1, the rates different. "
                          f"Received: num_classes={num_classes}, rates={tuple(rates)}")
    self.num_classes, self.rates = num_classes, tuple(rates)

  def build(self, shape):
    self.branches = [
        (self.add_weight(name=f"rate{rate}_kernel", shape=[3, 3, shape[-1], self.num_classes],
                         initializer=tf.keras.initializers.RandomNormal(stddev=0.01)),
         self.add_weight(name=f"rate{rate}_bias", shape=[self.num_classes], initializer="zeros"))
        for rate in self.rates]
    super().build(shape)

  def call(self, x) -> tf.Tensor:
    return tf.add_n([atrous_convolution(x, tf.convert_to_tensor(kernel), rate) + bias
                     for rate, (kernel, bias) in zip(self.rates, self.branches)])

  def get_config(self):
    return {**super().get_config(), "num_classes": self.num_classes, "rates": self.rates}


def atrous_convolution(x, kernel, rate):
  """A 3x3 atrous convolution of `[batch, h, w, c]`, kernel `[3, 3, c, k]`, padded with zeros to `[batch, h, w, k]`.

  One product for all nine taps, whose parts are then shifted to their places, `rate` apart, and added. `tf.nn.convolution` goes
  through space-to-batch instead, whose padding is several times as large as a small map at the rates of the pooling.
  """
  height, width = tf.shape(x)[1], tf.shape(x)[2]
  channels = kernel.shape[-1]
  taps = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [1, 1, -1, 9 * channels])
  parts = []
  for number, part in enumerate(tf.split(tf.nn.conv2d(x, taps, 1, "VALID"), 9, axis=-1)):
    # Result[y, x] takes part[y + down, x + right].
    down, right = (tap * rate for tap in (number // 3 - 1, number % 3 - 1))
    above, below = tf.minimum(max(-down, 0), height), tf.minimum(max(down, 0), height)
    before, after = tf.minimum(max(-right, 0), width), tf.minimum(max(right, 0), width)
    inside = part[:, below:height - above, after:width - before]
    parts.append(tf.pad(inside, [[0, 0], [above, below], [before, after], [0, 0]]))
  total = tf.add_n(parts)
  total.set_shape([*x.shape[:-1], channels])  # without an operation, which LiteRT would not have
  return total
