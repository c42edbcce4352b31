"""ResNet for pixels and cResNet for the compressed representation (section 4, Tables 1 and 3)."""

from typing import Optional

import tensorflow as tf

from deepcomp_tf import layers
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers import bottleneck
from deepcomp_tf.layers import naming

# Units of conv2_x to conv5_x (Table 3). The cResNets lack the root and conv2_x: their input is as large as what
# conv3_x gives, 28x28 for an image of 224x224.
ARCHITECTURES = {
    "ResNet-50": (3, 4, 6, 3),
    "ResNet-71": (3, 4, 13, 3),
    "cResNet-39": (0, 4, 6, 3),
    "cResNet-51": (0, 4, 10, 3),
    "cResNet-72": (0, 4, 17, 3),
}
FILTERS = (64, 128, 256, 512)


class _ResidualNetwork(tf.keras.Model):
  """What `ResNet` and `CResNet` share; `ARCHITECTURES`, of which `architecture` is a key, says how they differ.

  `output_stride` is input positions per position of `features`, in either direction.
  """

  family = None

  def __init__(self, depth: int, num_classes: Optional[int] = 1000, width: float = 1.0, stride_in: str = "conv1",
               dilated: bool = False, synchronized: bool = False, **kwargs):
    architecture = f"{self.family}-{depth}"
    if architecture not in ARCHITECTURES:
      depths = ", ".join(name.split("-")[1] for name in ARCHITECTURES if name.split("-")[0] == self.family)
      raise DeepcompError(f"`depth` must be one of {depths}. Received: depth={depth}")
    if num_classes is not None and num_classes < 1:
      raise DeepcompError(f"`num_classes` must be at least 1 or None. Received: num_classes={num_classes}")
    if width <= 0:
      raise DeepcompError(f"`width` must be positive. Received: width={width}")
    super().__init__(**{"name": architecture.lower().replace("-", ""), **kwargs})
    self.architecture = architecture
    self.depth, self.num_classes, self.width = depth, num_classes, width
    self.stride_in, self.dilated, self.synchronized = stride_in, dilated, synchronized

    units_of = ARCHITECTURES[self.architecture]
    filters_of = [max(8, 8 * round(filters * width / 8)) for filters in FILTERS]
    self.root = self.bn_root = None
    if units_of[0]:
      self.root = bottleneck.convolution(filters_of[0], 7, 2, dtype=self.dtype_policy, name="conv1")
      self.bn_root = bottleneck.batch_norm(synchronized, dtype=self.dtype_policy, name="bn1")
      self.pool = tf.keras.layers.MaxPool2D(3, 2, padding="same", name="pool1")
    self.output_stride = 4 if units_of[0] else 1
    blocks = [(i + 2, filters, units) for i, (filters, units) in enumerate(zip(filters_of, units_of)) if units]
    self.units, rate = [], 1
    for place, (number, filters, units) in enumerate(blocks):
      # He et al. subsample in the first unit of every block but the first, TF-Slim in the last of every but the last.
      subsampling = (0 if place > 0 else None) if stride_in == "conv1" else (
          units - 1 if place < len(blocks) - 1 else None)
      for i in range(units):
        strides, unit_rate = (2 if i == subsampling else 1), rate
        if strides == 2 and dilated and number >= 4 - (stride_in == "conv2"):
          strides, rate = 1, 2 * rate
          if stride_in == "conv1":  # the 3x3 behind the stride that is given up
            unit_rate = rate
        self.output_stride *= strides
        self.units.append(layers.Bottleneck(filters, strides, unit_rate, stride_in, synchronized, dtype=self.dtype_policy,
                                            name=f"conv{number}_{i + 1}"))
    self.logits = None if num_classes is None else tf.keras.layers.Dense(
        num_classes, kernel_initializer=tf.keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal"),
        dtype="float32", name="logits")

  def build(self, input_shape):
    channels = input_shape[-1]
    if self.root is not None:
      naming.build(self.root, channels)
      channels = self.root.filters
      naming.build(self.bn_root, channels)
    for unit in self.units:
      naming.build(unit, channels)
      channels = 4 * unit.filters
    if self.logits is not None:
      with tf.name_scope("logits"):
        self.logits.build([None, channels])
    tf.keras.layers.Layer.build(self, input_shape)

  def features(self, x, training=None):
    """`[batch, h, w, c]` -> `[batch, ceil(h/s), ceil(w/s), 2048 * width]` with s the output stride."""
    if self.root is not None:
      x = self.root(bottleneck.fixed_padding(x, 7, 2))
      x = self.pool(tf.nn.relu(self.bn_root(x, training=training)))
    for unit in self.units:
      x = unit(x, training=training)
    return x

  def call(self, x, training=None):
    if self.logits is None:
      return self.features(tf.cast(x, self.compute_dtype), training=training)
    return self.logits(self.vectors(x, training))

  def vectors(self, x, training=None):
    """What the last layer sees, float32 `[batch, feature_channels]`."""
    return tf.reduce_mean(tf.cast(self.features(tf.cast(x, self.compute_dtype), training=training), tf.float32), axis=[1, 2])

  @property
  def last_layer(self):
    """The dense layer that gives the logits."""
    return self.logits

  def named_variables(self):
    """The variables of a built network, batch normalization's statistics among them, by names such as
    `conv3_1/conv2/kernel`."""
    layers_of = {"conv1": self.root, "bn1": self.bn_root, "logits": self.logits}
    for unit in self.units:
      for name in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "projection", "bn_projection"):
        layers_of[f"{unit.name}/{name}"] = getattr(unit, name)
    return naming.named_variables(layers_of)

  def blueprint(self):
    """What `from_blueprint` needs, besides the classes, as a dict."""
    return {"network": self.architecture, "width": self.width, "stride_in": self.stride_in}

  @classmethod
  def from_blueprint(cls, blueprint, num_classes, dilated=False):
    """The network, not built, of a dict of `blueprint`."""
    return make_network(blueprint["network"], num_classes, blueprint["width"], blueprint["stride_in"], dilated)

  @property
  def feature_channels(self):
    """Channels of `features`."""
    return 4 * self.units[-1].filters

  def for_segmentation(self):
    """The dilated form without classes, with the same weights, as `DeepLab` takes it."""
    dilated = type(self)(self.depth, None, self.width, self.stride_in, dilated=True)
    naming.build(dilated, (self.root or self.units[0].conv1).kernel.shape[2])
    naming.copy_weights(self, dilated)
    return dilated

  def get_config(self):
    return {"name": self.name, "dtype": self.dtype_policy.name, "depth": self.depth, "num_classes": self.num_classes,
            "width": self.width, "stride_in": self.stride_in, "dilated": self.dilated, "synchronized": self.synchronized}


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class ResNet(_ResidualNetwork):
  """ResNet (V1) for pixels: `[batch, h, w, 3]` with the mean subtracted -> logits `[batch, num_classes]`, no softmax.

  3.86 G multiply-adds at depth 50, 5.38 G at 71, for 224x224 pixels (Table 1). TF-Slim's setup: batch
  normalization, initializer, 3x3 pooling with "same" padding.

  Args:
    depth: 50 or 71.
    num_classes: None for a network that ends with its features.
    width: factor on all numbers of channels.
    stride_in: "conv1" subsamples in the first 1x1 convolution of conv3_1, conv4_1 and conv5_1 (Table 3), "conv2"
      in the 3x3 convolution of the last unit of conv2, conv3 and conv4 (TF-Slim).
    dilated: the -d form for segmentation (section 5): output stride 8, with rates 2 and 4 in place of strides.
    synchronized: whether batch normalization in training takes the statistics of the global batch of all replicas; by
      default every replica takes those of its part.
  """

  family = "ResNet"


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class CResNet(_ResidualNetwork):
  """cResNet-k for the representation: normalised `[batch, h, w, C]` -> logits `[batch, num_classes]`, no softmax.

  A ResNet without its root and conv2_x, deeper in conv4_x (section 4.2). 2.95 G multiply-adds at depth 39, 3.83 G at
  51, 5.36 G at 72, for the 28x28 positions of an image of 224x224 (Table 1).

  Args:
    depth: 39, 51 or 72.
    num_classes, width: as of `ResNet`.
    stride_in: as of `ResNet`, in conv4_1 and conv5_1 or in the last units of conv3 and conv4.
    dilated: the -d form for segmentation: output stride 1.
    synchronized: as of `ResNet`.
  """

  family = "cResNet"


def make_network(name, num_classes, width=1.0, stride_in="conv1", dilated=False, synchronized=False):
  """The network of a name such as "cResNet-51", one of `ARCHITECTURES`."""
  if name not in ARCHITECTURES:
    raise DeepcompError(f"`network` must be one of {', '.join(ARCHITECTURES)}. Received: {name!r}")
  family, depth = name.split("-")
  make = {network.family: network for network in (ResNet, CResNet)}[family]
  return make(int(depth), num_classes, width, stride_in, dilated, synchronized)


def takes_representation(name):
  """Whether a network of this name is for the representation rather than for pixels."""
  return name.startswith("cResNet")
