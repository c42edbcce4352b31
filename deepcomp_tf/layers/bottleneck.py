"""The bottleneck residual unit of ResNet and cResNet (appendix A.3)."""

from typing import Optional

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers.batch_norm import batch_norm
from deepcomp_tf.layers.naming import build

STRIDE_PLACES = ("conv1", "conv2")


def convolution(filters, size, strides=1, dilation_rate=1, **kwargs):
  """A convolution as in TF-Slim's ResNets: no bias, "same" geometry whose centers do not depend on the image's size.

  The kernel's edge is odd. With strides above 1, zeros are padded equally on all sides by `fixed_padding` before, so that the
  outputs are those of stride 1 at every `strides`-th position.
  """
  return tf.keras.layers.Conv2D(
      filters, size, strides, padding="valid" if strides > 1 else "same", dilation_rate=dilation_rate, use_bias=False,
      kernel_initializer=tf.keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal"), **kwargs)


def fixed_padding(x, size, strides):
  """Pads `[batch, h, w, c]` for a strided `convolution` of an odd kernel size."""
  if strides == 1 or size == 1:
    return x
  edge = [size // 2, size // 2]
  return tf.pad(x, [[0, 0], edge, edge, [0, 0]])


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Bottleneck(tf.keras.layers.Layer):
  """relu(shortcut(x) + conv1x1(conv3x3(conv1x1(x)))), each convolution batch-normalised (He et al. 2015; Table 3).

  `[batch, h, w, c]` -> `[batch, ceil(h/strides), ceil(w/strides), 4 * filters]`. The shortcut is the identity,
  subsampled where there is a stride; a batch-normalised 1x1 convolution where c is not 4 * filters.

  Args:
    filters: channels of the first two convolutions.
    strides: subsampling.
    dilation_rate: of the 3x3 convolution (atrous, section 5).
    stride_in: which convolution subsamples: "conv1", the first 1x1 (He et al., and what the paper's Table 1 counts),
      or "conv2", the 3x3 (TF-Slim).
    synchronized: see `batch_norm.batch_norm`.
  """

  def __init__(self, filters: int, strides: int = 1, dilation_rate: int = 1, stride_in: str = "conv1", synchronized: bool = False,
               **kwargs):
    super().__init__(**kwargs)
    if stride_in not in STRIDE_PLACES:
      raise DeepcompError(f"`stride_in` must be one of {', '.join(STRIDE_PLACES)}. Received: stride_in={stride_in!r}")
    if filters < 1 or strides < 1 or dilation_rate < 1:
      raise DeepcompError("`filters`, `strides` and `dilation_rate` must be at least 1. Received: "
                          f"filters={filters}, strides={strides}, dilation_rate={dilation_rate}")
    if strides > 1 and dilation_rate > 1 and stride_in == "conv2":
      raise DeepcompError("the 3x3 convolution cannot have both a stride and a dilation rate. Received: "
                          f"strides={strides}, dilation_rate={dilation_rate}")
    self.filters, self.strides, self.dilation_rate, self.stride_in = filters, strides, dilation_rate, stride_in
    self.synchronized = synchronized
    first, second = (strides, 1) if stride_in == "conv1" else (1, strides)
    self.conv1, self.bn1 = self._pair("conv1", "bn1", filters, 1, first)
    self.conv2, self.bn2 = self._pair("conv2", "bn2", filters, 3, second, dilation_rate)
    self.conv3, self.bn3 = self._pair("conv3", "bn3", 4 * filters, 1)
    self.projection = self.bn_projection = None

  def _pair(self, name, norm_name, *args):
    """A convolution and its batch normalization."""
    return (convolution(*args, dtype=self.dtype_policy, name=name),
            batch_norm(self.synchronized, dtype=self.dtype_policy, name=norm_name))

  def build(self, input_shape):
    channels = input_shape[-1]
    if channels != 4 * self.filters:
      self.projection, self.bn_projection = self._pair(
          "projection", "bn_projection", 4 * self.filters, 1, self.strides)
    for layer, inner in ((self.conv1, channels), (self.bn1, self.filters), (self.conv2, self.filters),
                         (self.bn2, self.filters), (self.conv3, self.filters), (self.bn3, 4 * self.filters),
                         (self.projection, channels), (self.bn_projection, 4 * self.filters)):
      if layer is not None:
        build(layer, inner)
    super().build(input_shape)

  def call(self, x, training: Optional[bool] = None) -> tf.Tensor:
    if self.projection is not None:
      shortcut = self.bn_projection(self.projection(x), training=training)
    else:
      shortcut = x[:, ::self.strides, ::self.strides] if self.strides > 1 else x
    x = tf.nn.relu(self.bn1(self.conv1(x), training=training))
    x = fixed_padding(x, 3, self.strides if self.stride_in == "conv2" else 1)
    x = tf.nn.relu(self.bn2(self.conv2(x), training=training))
    return tf.nn.relu(shortcut + self.bn3(self.conv3(x), training=training))

  def get_config(self):
    return {**super().get_config(), "filters": self.filters, "strides": self.strides,
            "dilation_rate": self.dilation_rate, "stride_in": self.stride_in, "synchronized": self.synchronized}
