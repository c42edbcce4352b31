"""The compression autoencoder (section 3.1, appendix A.1)."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from deepcomp_tf import keras_version
from deepcomp_tf import layers
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers import naming

# Fixed per-channel statistics of ImageNet's training pixels, on the 0..255 scale.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_DEVIATION = (58.395, 57.12, 57.375)

ENTROPIES = ("pooled", "per_channel", "context")


class _Half(tf.keras.Model):
  """What encoder and decoder share: three 5x5 convolutions, and three residual units of 128 channels between them.

  Subclasses make `conv1`, `conv2`, `conv3` and `units`, and say in `_in_order` how they follow each other.
  """

  def __init__(self, channels: int, **kwargs):
    super().__init__(**kwargs)
    if channels < 1:
      raise DeepcompError(f"`channels` must be at least 1. Received: channels={channels}")
    self.channels = channels

  def _convolution(self, name, filters, transpose=False, **kwargs):
    """The network's 5x5 convolution of stride 2, down or (transposed) up."""
    layer = tf.keras.layers.Conv2DTranspose if transpose else tf.keras.layers.Conv2D
    return layer(filters, 5, strides=2, padding="same", kernel_initializer="he_normal", name=name,
                 **{"dtype": self.dtype_policy, **kwargs})

  def _residual_units(self):
    return [layers.ResidualUnit(128, dtype=self.dtype_policy, name=f"unit{i + 1}") for i in range(3)]

  def build(self, input_shape):
    channels = input_shape[-1]
    for layer in self._in_order:
      naming.build(layer, channels)
      channels = layer.filters
    tf.keras.layers.Layer.build(self, input_shape)

  def _through(self, x):
    """What the layers make of their input, one after the other."""
    for layer in self._in_order:
      x = layer(x)
    return x

  def named_variables(self):
    """The variables of a built network by names such as `unit1/conv2/kernel`."""
    named = {name: getattr(self, name) for name in ("conv1", "conv2", "conv3")}
    named.update({f"{unit.name}/{name}": getattr(unit, name) for unit in self.units for name in ("conv1", "conv2")})
    return naming.named_variables(named)

  def get_config(self):
    return {"name": self.name, "dtype": self.dtype_policy.name, "channels": self.channels}


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Encoder(_Half):
  """Image to representation, before quantization.

  `[batch, h, w, 3]` pixels in 0..255 -> `[batch, ceil(h/8), ceil(w/8), C]` float32, C being `channels`.

  Two 5x5 convolutions of stride 2 (64 and 128 channels, ReLU), three residual units of 128 channels, and a
  5x5 convolution of stride 2 to C channels without activation. Pixels are normalised inside the model.
  3.56 G multiply-adds at 224x224 with C=32 (section 3.1).
  """

  def __init__(self, channels: int, **kwargs):
    super().__init__(channels, **kwargs)
    self.conv1 = self._convolution("conv1", 64, activation="relu")
    self.conv2 = self._convolution("conv2", 128, activation="relu")
    self.units = self._residual_units()
    self.conv3 = self._convolution("conv3", channels, dtype="float32")

  @property
  def _in_order(self):
    return [self.conv1, self.conv2, *self.units, self.conv3]

  def call(self, image) -> tf.Tensor:
    return self._through((tf.cast(image, tf.float32) - PIXEL_MEAN) / PIXEL_DEVIATION)


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Decoder(_Half):
  """Quantized representation to image: the encoder mirrored, with transposed convolutions.

  `[batch, h, w, C]`, C being `channels`, -> `[batch, 8h, 8w, 3]` float32 pixels on the 0..255 scale, not clipped or rounded.

  3.56 G multiply-adds for 224x224 pixels with C=32. The paper's 2.85 G are what the first transposed
  convolution and the residual units come to.
  """

  def __init__(self, channels: int, **kwargs):
    super().__init__(channels, **kwargs)
    self.conv1 = self._convolution("conv1", 128, transpose=True, activation="relu")
    self.units = self._residual_units()
    self.conv2 = self._convolution("conv2", 64, transpose=True, activation="relu")
    self.conv3 = self._convolution("conv3", 3, transpose=True, dtype="float32")

  @property
  def _in_order(self):
    return [self.conv1, *self.units, self.conv2, self.conv3]

  def call(self, values) -> tf.Tensor:
    return self._through(values) * PIXEL_DEVIATION + PIXEL_MEAN


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

  def mse(self, image) -> tf.Tensor:
    """Mean squared error of Eq. 1, a scalar: that of the global batch, on every replica."""
    return layers.replica_mean(tf.reduce_mean(tf.square(tf.cast(image, tf.float32) - self.reconstruction)))


def rate_distortion(mse, bits_per_symbol, beta, target_entropy):
  """Eq. 1: MSE + beta * max(H - H_t, 0), of the MSE on the 0..255 scale and bits per symbol.

  The trade-off beta is 600 at 0.0983 bpp, 150 at 0.635 bpp (appendix A.8), H_t 0.8 and 1.265 bits per symbol.
  """
  return mse + beta * tf.maximum(bits_per_symbol - target_entropy, 0.0)


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class CompressionModel(tf.keras.Model):
  """Encoder, quantizer, entropy and decoder, as Eq. 1 trains them.

  `[batch, h, w, 3]` pixels in 0..255 -> `CompressionOutput`. For training, h and w are multiples of 8; other
  sizes give a reconstruction that is larger by the padding.

  `compile(optimizer, beta=..., target_entropy=...)` and `fit(images)` train it for Eq. 1; `evaluate` gives the same
  figures: loss, mse, bits_per_symbol. `experiments.train_compression` does more: it resumes, starts from the KLT, and ends
  in an operating point.

  Args:
    channels: C, 8, 16 and 32 for the paper's three operating points.
    num_centers: L.
    temperature: sigma of the quantizer.
    centers: initial centers, see `layers.Quantizer`.
    entropy: what H is: "pooled", the paper's single histogram; "per_channel", a histogram for each channel;
      "context", the entropy given the neighbours (`layers.ContextEntropy`).
    centers_l2: see `layers.Quantizer`.
  """

  def __init__(self, channels: int, num_centers: int = 6, temperature: float = 1.0, centers: Optional[Sequence[float]] = None,
               entropy: str = "pooled", centers_l2: float = 0.0, **kwargs):
    super().__init__(**kwargs)
    if entropy not in ENTROPIES:
      raise DeepcompError(f"`entropy` must be one of {', '.join(ENTROPIES)}. Received: entropy={entropy!r}")
    self.channels = channels
    self.entropy_kind = entropy
    self.encoder = Encoder(channels, dtype=self.dtype_policy, name="encoder")
    self.quantizer = layers.Quantizer(num_centers, temperature, centers=centers, l2=centers_l2, name="quantizer")
    self.decoder = Decoder(channels, dtype=self.dtype_policy, name="decoder")
    self.entropy = (layers.ContextEntropy(name="entropy") if entropy == "context" else
                    layers.HistogramEntropy(per_channel=entropy == "per_channel", name="entropy"))

  def build(self, input_shape):
    for part, channels in ((self.encoder, input_shape[-1]), (self.decoder, self.channels), (self.entropy, self.channels)):
      naming.build(part, channels)
    tf.keras.layers.Layer.build(self, input_shape)

  def call(self, image) -> CompressionOutput:
    quantized = self.quantizer(self.encoder(image))
    return CompressionOutput(self.decoder(quantized.values), *quantized, self.bits_of(quantized))

  def bits_of(self, quantized, counted=None):
    """H of a batch, a scalar in bits per symbol, of a quantizer's result or a `CompressionOutput`.

    `counted`, bool `[batch]`, says the images whose symbols count; by default all.
    """
    return self.entropy(quantized.values if self.entropy_kind == "context" else quantized.assignments, counted)

  def symbols_of(self, image) -> tf.Tensor:
    """Pixels `[batch, h, w, 3]` -> the symbols that a file holds of them, uint8 `[batch, ceil(h/8), ceil(w/8), C]`."""
    return tf.cast(self.quantizer.symbols(self.encoder(image)), tf.uint8)

  def picture_of(self, symbols) -> tf.Tensor:
    """Symbols uint8 `[batch, h, w, C]` -> the pixels that they decode to, uint8 `[batch, 8h, 8w, 3]`."""
    return tf.cast(tf.clip_by_value(tf.round(self.decoder(self.quantizer.values(symbols))), 0.0, 255.0), tf.uint8)

  def compile(self, optimizer="adam", *, beta, target_entropy, **kwargs):
    """Sets what `fit` minimises: Eq. 1 with this beta and H_t, see `rate_distortion`; `optimizer` is Keras', or its name.

    The rest is of `tf.keras.Model.compile`, but losses and metrics, which are Eq. 1's.
    """
    if not self.built:
      self.build([None, None, None, 3])
    super().compile(optimizer=optimizer, **kwargs)
    self.optimizer.build(self.trainable_variables)
    self._beta, self._target_entropy = float(beta), float(target_entropy)
    # Not an attribute that Keras sees, which would count the means among the model's weights.
    self.__dict__["_means"] = [tf.keras.metrics.Mean(name=name) for name in ("loss", "mse", "bits_per_symbol")]

  def get_compile_config(self):
    if getattr(self, "optimizer", None) is None:
      return None
    return {
        "optimizer": tf.keras.utils.serialize_keras_object(self.optimizer), "beta": self._beta,
        "target_entropy": self._target_entropy}

  def compile_from_config(self, config):
    self.compile(**{**config, "optimizer": tf.keras.utils.deserialize_keras_object(config["optimizer"])})

  @property
  def metrics(self):
    return self.__dict__.get("_means", [])

  def train_step(self, data):
    with tf.GradientTape() as tape:
      figures = self._figures(data)
      # Every replica has the figures of the global batch; the optimizer sums their gradients.
      scaled = figures[0] * keras_version.loss_scale(self.optimizer) / tf.distribute.get_strategy().num_replicas_in_sync
    variables = self.trainable_variables
    keras_version.apply_scaled_gradients(self.optimizer, tape.gradient(scaled, variables), variables)
    return self._update(figures)

  def test_step(self, data):
    return self._update(self._figures(data))

  def _figures(self, data):
    """Eq. 1 and its parts, scalars, of a step's data: images, which are their own targets; labels beside them are not used."""
    images = data[0] if isinstance(data, (tuple, list)) else data
    output = self(images, training=True)
    mse = output.mse(images)
    loss = rate_distortion(mse, output.bits_per_symbol, self._beta, self._target_entropy)
    return [loss + tf.add_n(self.losses) if self.losses else loss, mse, output.bits_per_symbol]

  def _update(self, figures):
    for mean, figure in zip(self.metrics, figures):
      mean.update_state(figure)
    return {mean.name: mean.result() for mean in self.metrics}

  def named_variables(self):
    """The variables of a built network by names such as `encoder/unit1/conv2/kernel` and `quantizer/centers`."""
    parts = [self.encoder, self.decoder] + [self.entropy] * (self.entropy_kind == "context")
    return {"quantizer/centers": self.quantizer.centers, **{
        f"{part.name}/{name}": variable for part in parts for name, variable in part.named_variables().items()}}

  def get_config(self):
    quantizer = self.quantizer.get_config()
    return {"name": self.name, "dtype": self.dtype_policy.name, "channels": self.channels,
            "num_centers": quantizer["num_centers"], "temperature": quantizer["temperature"],
            "centers": quantizer["centers"], "centers_l2": quantizer["l2"], "entropy": self.entropy_kind}
