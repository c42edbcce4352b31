"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6 (Tan and Le 2019; TensorFlow's `lite` variants)."""

import math

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers.batch_norm import BatchNormalization

# Factor on the channels, on the repeats of the inner stages, and the edge of the photos it was trained on.
VARIANTS = {
    "EfficientNet-Lite0": (1.0, 1.0, 224),
    "EfficientNet-Lite1": (1.0, 1.1, 240),
    "EfficientNet-Lite2": (1.1, 1.2, 260),
    "EfficientNet-Lite3": (1.2, 1.4, 280),
    "EfficientNet-Lite4": (1.4, 1.8, 300),
}

# Repeats, kernel, stride, expansion and channels of the stages.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
           (1, 3, 1, 6, 320))
_STEM, _HEAD = 32, 1280


def efficientnet_lite(name="EfficientNet-Lite0", num_classes=1000, size=None):
  """A functional network: float32 `[batch, size, size, 3]` pixels, (0..255 - 127) / 128 -> logits `[batch, num_classes]`.

  EfficientNet-Lite0 has 4.65 M parameters and takes 385 M multiply-adds at 224x224. Its layers are named `stem`,
  `block1_expand`, `block1_depthwise`, `block1_project` and so on, with batch normalizations such as `block1_expand_bn`,
  and `block3_add`, `head`, `pool`, `logits`. `name` is one of `VARIANTS`, `size` by default that of its training.
  """
  if name not in VARIANTS:
    raise DeepcompError(f"`name` must be one of {', '.join(VARIANTS)}. Received: {name!r}")
  width, depth, default_size = VARIANTS[name]
  size = size or default_size

  def normalized(x, name, activation=True):
    x = BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)
    return tf.keras.layers.ReLU(6.0, name=f"{name}_relu6")(x) if activation else x

  def convolution(x, filters, name, kernel=1, strides=1, activation=True):
    x = tf.keras.layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal",
                               name=name)(x)
    return normalized(x, name, activation)

  pixels = tf.keras.Input([size, size, 3], name="pixels")
  x, number = convolution(pixels, _STEM, "stem", 3, 2), 0
  for stage, (repeats, kernel, strides, expansion, filters) in enumerate(_STAGES):
    if 0 < stage < len(_STAGES) - 1:
      repeats = math.ceil(repeats * depth)
    filters = _multiple_of_8(filters * width)
    for repeat in range(repeats):
      number += 1
      block, before, stride = f"block{number}", x, strides if repeat == 0 else 1
      if expansion > 1:
        x = convolution(x, x.shape[-1] * expansion, f"{block}_expand")
      x = tf.keras.layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, depthwise_initializer="he_normal",
                                          name=f"{block}_depthwise")(x)
      x = normalized(x, f"{block}_depthwise")
      x = convolution(x, filters, f"{block}_project", activation=False)
      if repeat:
        x = tf.keras.layers.Add(name=f"{block}_add")([x, before])
  x = convolution(x, _HEAD, "head")
  x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
  x = tf.keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
  return tf.keras.Model(pixels, x, name=name.lower().replace("-", "_"))


def _multiple_of_8(channels):
  rounded = max(8, int(channels + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * channels else rounded
