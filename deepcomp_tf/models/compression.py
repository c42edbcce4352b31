"""The compression autoencoder (section 3.1, appendix A.1)."""

from typing import NamedTuple

import tensorflow as tf

from deepcomp_tf import layers
from deepcomp_tf.errors import DeepcompError

# Fixed per-channel statistics of ImageNet's training pixels, on the 0..255 scale.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_DEVIATION = (58.395, 57.12, 57.375)

# The representation is this many times smaller than the image in both directions.
STRIDE = 8

ENTROPIES = ("pooled", "per_channel", "context")


@tf.keras.saving.register_keras_serializable(package="deepcomp_tf")
class Encoder(tf.keras.Model):
  """Image to representation, before quantization.

  `[batch, h, w, 3]` pixels in 0..255 -> `[batch, ceil(h/8), ceil(w/8), C]` float32.

  Two 5x5 convolutions of stride 2 (64 and 128 channels, ReLU), three residual units of 128 channels, and a
  5x5 convolution of stride 2 to C channels without activation. Pixels are normalised inside the model.
  3.56 G multiply-adds at 224x224 with C=32 (section 3.1).

  Args:
    channels: C.
  """

  def __init__(self, channels, **kwargs):
    super().__init__(**kwargs)
    if channels < 1:
      raise DeepcompError(f"`channels` must be at least 1. Received: channels={channels}")
    self.channels = channels
    self.conv1 = _convolution(64, name="conv1", activation="relu")
    self.conv2 = _convolution(128, name="conv2", activation="relu")
    self.units = [layers.ResidualUnit(128, name=f"unit{i + 1}") for i in range(3)]
    self.conv3 = _convolution(channels, name="conv3", dtype="float32")

  def call(self, image):
    x = (tf.cast(image, tf.float32) - PIXEL_MEAN) / PIXEL_DEVIATION
    x = self.conv2(self.conv1(x))
    for unit in self.units:
      x = unit(x)
    return self.conv3(x)

  def get_config(self):
    return {"name": self.name, "channels": self.channels}


@tf.keras.saving.register_keras_serializable(package="deepcomp_tf")
class Decoder(tf.keras.Model):
  """Quantized representation to image: the encoder mirrored, with transposed convolutions.

  `[batch, h, w, C]` -> `[batch, 8h, 8w, 3]` float32 pixels on the 0..255 scale, neither clipped nor rounded.

  3.56 G multiply-adds for 224x224 pixels with C=32. The paper's 2.85 G are those of the first transposed
  convolution and the residual units alone.

  Args:
    channels: C.
  """

  def __init__(self, channels, **kwargs):
    super().__init__(**kwargs)
    if channels < 1:
      raise DeepcompError(f"`channels` must be at least 1. Received: channels={channels}")
    self.channels = channels
    self.conv1 = _convolution(128, name="conv1", activation="relu", transpose=True)
    self.units = [layers.ResidualUnit(128, name=f"unit{i + 1}") for i in range(3)]
    self.conv2 = _convolution(64, name="conv2", activation="relu", transpose=True)
    self.conv3 = _convolution(3, name="conv3", dtype="float32", transpose=True)

  def call(self, values):
    x = self.conv1(values)
    for unit in self.units:
      x = unit(x)
    return self.conv3(self.conv2(x)) * PIXEL_DEVIATION + PIXEL_MEAN

  def get_config(self):
    return {"name": self.name, "channels": self.channels}


class CompressionOutput(NamedTuple):
  """What `CompressionModel` returns.

  reconstruction: `[batch, 8*ceil(h/8), 8*ceil(w/8), 3]` pixels on the 0..255 scale, as the decoder gives them.
  values, symbols, assignments: as in `layers.Quantized`.
  bits_per_symbol: scalar, the entropy H of Eq. 1.
  """
  reconstruction: tf.Tensor
  values: tf.Tensor
  symbols: tf.Tensor
  assignments: tf.Tensor
  bits_per_symbol: tf.Tensor


@tf.keras.saving.register_keras_serializable(package="deepcomp_tf")
class CompressionModel(tf.keras.Model):
  """Encoder, quantizer, entropy and decoder, as Eq. 1 trains them.

  `[batch, h, w, 3]` pixels in 0..255 -> `CompressionOutput`. For training, h and w are multiples of 8; other
  sizes give a reconstruction that is larger by the padding.

  Args:
    channels: C, 8, 16 and 32 for the paper's three operating points.
    num_centers: L.
    temperature: sigma of the quantizer.
    centers: initial centers, see `layers.Quantizer`.
    entropy: what H is: "pooled", the paper's one histogram; "per_channel", one histogram per channel;
      "context", the entropy given the neighbours (`layers.ContextEntropy`).
    centers_l2: see `layers.Quantizer`.
  """

  def __init__(self, channels, num_centers=6, temperature=1.0, centers=None, entropy="pooled", centers_l2=0.0,
               **kwargs):
    super().__init__(**kwargs)
    if entropy not in ENTROPIES:
      raise DeepcompError(f"`entropy` must be one of {', '.join(ENTROPIES)}. Received: entropy={entropy!r}")
    self.channels = channels
    self.entropy_kind = entropy
    self.encoder = Encoder(channels, name="encoder")
    self.quantizer = layers.Quantizer(num_centers, temperature, centers=centers, l2=centers_l2, name="quantizer")
    self.decoder = Decoder(channels, name="decoder")
    self.entropy = (layers.ContextEntropy(name="entropy") if entropy == "context" else
                    layers.HistogramEntropy(per_channel=entropy == "per_channel", name="entropy"))

  def call(self, image):
    quantized = self.quantizer(self.encoder(image))
    bits = self.entropy(quantized.values if self.entropy_kind == "context" else quantized.assignments)
    return CompressionOutput(self.decoder(quantized.values), *quantized, bits)

  def get_config(self):
    quantizer = self.quantizer.get_config()
    return {"name": self.name, "channels": self.channels, "num_centers": quantizer["num_centers"],
            "temperature": quantizer["temperature"], "centers": quantizer["centers"],
            "centers_l2": quantizer["l2"], "entropy": self.entropy_kind}


def _convolution(filters, transpose=False, **kwargs):
  """The network's 5x5 convolution of stride 2, down or (transposed) up."""
  layer = tf.keras.layers.Conv2DTranspose if transpose else tf.keras.layers.Conv2D
  return layer(filters, 5, strides=2, padding="same", kernel_initializer="he_normal", **kwargs)
