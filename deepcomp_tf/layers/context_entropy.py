"""Entropy of the symbols given their neighbours: the rate that a context coder pays."""

import math

import numpy as np
import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers.replicas import mean_over_batch


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class ContextEntropy(tf.keras.layers.Layer):
  """Bits per symbol of a representation whose symbols are predicted from those coded before them.

  A histogram charges every symbol as if nothing were known of its neighbours; the file's context coder
  does not. This layer is a differentiable stand-in for that coder, so that training spends bits where the
  coder will. Channel after channel, in raster order, each entry is predicted linearly from the entries
  before it (a `kernel_size` window, the earlier channels on all sides), its expected deviation linearly
  from their magnitudes; the entry then costs -log2 of the probability that a mixture of two discretized
  logistic distributions gives to its unit interval.

  The centers must be about 1 apart (see `training.klt`). Entries are divided by their channel's deviation
  (`spread`, not trained) before the linear maps, and the parameters are scaled by `GAIN`, so that they follow
  the representation faster than the networks' weights at the same learning rate.
  """

  GAIN = 3.0
  MINIMUM_SCALE = 0.1

  def __init__(self, kernel_size: int = 5, **kwargs):
    kwargs.setdefault("dtype", "float32")
    super().__init__(**kwargs)
    if kernel_size % 2 == 0 or kernel_size < 3:
      raise DeepcompError(f"`kernel_size` must be odd and at least 3. Received: kernel_size={kernel_size}")
    self.kernel_size = kernel_size

  def build(self, input_shape):
    channels = int(input_shape[-1])
    size = self.kernel_size
    mask = np.zeros([size, size, channels, channels], np.float32)
    middle = size // 2
    for earlier in range(channels):
      mask[:, :, earlier, earlier + 1:] = 1.0
      mask[:middle, :, earlier, earlier] = 1.0
      mask[middle, :middle, earlier, earlier] = 1.0
    self._mask = mask
    shape = [size, size, channels, channels]
    self.mean_kernel = self.add_weight(name="mean_kernel", shape=shape, initializer="zeros")
    self.scale_kernel = self.add_weight(name="scale_kernel", shape=shape, initializer="zeros")
    self.scale_bias = self.add_weight(name="scale_bias", shape=[channels], initializer="zeros")
    self.spread = self.add_weight(name="spread", shape=[channels], initializer="ones", trainable=False)
    self.tail = self.add_weight(name="tail", shape=[2, channels], initializer="zeros")
    super().build(input_shape)

  def call(self, values, counted=None) -> tf.Tensor:
    """The entropy of a batch of quantized `[batch, h, w, C]`, a scalar in bits per symbol; `counted`, bool `[batch]`, as of
    `CompressionModel.bits_of`.
    """
    values = tf.cast(values, tf.float32)
    relative = values / self.spread
    mask = tf.constant(self.GAIN * self._mask)
    mean = tf.nn.conv2d(relative, mask * self.mean_kernel, 1, "SAME") * self.spread
    scale = tf.nn.conv2d(tf.abs(relative), mask * self.scale_kernel, 1, "SAME")
    scale = self.MINIMUM_SCALE + self.spread * tf.nn.softplus(scale + self.GAIN * self.scale_bias)
    distance = tf.abs(values - mean)
    share, width = tf.unstack(tf.constant(self.GAIN) * self.tail)
    share = tf.sigmoid(share - 1.5)
    likelihood = ((1.0 - share) * _unit_interval(distance, scale)
                  + share * _unit_interval(distance, scale * (2.0 + tf.nn.softplus(width))))
    bits = -tf.math.log(tf.maximum(likelihood, 1e-9)) / math.log(2.0)
    return mean_over_batch(tf.reduce_mean(bits, axis=[1, 2, 3]), counted)

  def named_variables(self):
    """The variables of a built layer by their names."""
    return {name: getattr(self, name) for name in ("mean_kernel", "scale_kernel", "scale_bias", "spread", "tail")}

  def get_config(self):
    return {**super().get_config(), "kernel_size": self.kernel_size}


def _unit_interval(distance, scale):
  """Probability of the unit interval at `distance` from the mean of a logistic distribution."""
  return tf.sigmoid((0.5 - distance) / scale) - tf.sigmoid((-0.5 - distance) / scale)
