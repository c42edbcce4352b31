"""Compression and classification trained together (section 6)."""

from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers.naming import build
from deepcomp_tf.models.compression import CompressionModel
from deepcomp_tf.models.compression import CompressionOutput


class JointOutput(NamedTuple):
  """What `JointModel` returns: a `CompressionOutput`, and the classifier's logits `[batch, num_classes]`."""
  compression: CompressionOutput
  logits: tf.Tensor


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class JointModel(tf.keras.Model):
  """A compression network and a classifier on one quantized representation, as Eq. 2 trains them (Fig. 2 b).

  `[batch, h, w, 3]` pixels in 0..255 -> `JointOutput`. The gradients of both losses reach the encoder.

  Args:
    compression: a `CompressionModel`.
    classifier: a `CResNet`.
    mean, deviation: float32 `[C]` or scalars; the classifier sees the representation minus `mean`, over `deviation`.
  """

  def __init__(self, compression: CompressionModel, classifier, mean=0.0, deviation=1.0, **kwargs):
    super().__init__(**kwargs)
    self.mean, self.deviation = (np.asarray(value, np.float32) for value in (mean, deviation))
    if any(value.shape not in ((), (compression.channels,)) for value in (self.mean, self.deviation)):
      raise DeepcompError(f"`mean` and `deviation` must have a value for each of the {compression.channels} channels. "
                          f"Received: {self.mean.shape} and {self.deviation.shape}")
    self.compression, self.classifier = compression, classifier

  def build(self, input_shape):
    if not self.compression.built:
      build(self.compression, input_shape[-1])
    if not self.classifier.built:
      build(self.classifier, self.compression.channels)
    tf.keras.layers.Layer.build(self, input_shape)

  def named_variables(self):
    """The variables of built networks by names such as `compression/quantizer/centers` and `classifier/logits/bias`."""
    return {f"{part}/{name}": variable for part in ("compression", "classifier")
            for name, variable in getattr(self, part).named_variables().items()}

  def call(self, image, training: Optional[bool] = None) -> JointOutput:
    output = self.compression(image, training=training)
    return JointOutput(output, self.logits_of(output.values, training))

  def logits_of(self, values, training=None):
    """The classifier's logits of a quantized representation, or of crops of it, `[batch, h, w, C]`."""
    return self.classifier((values - self.mean) / self.deviation, training=training)

  def get_config(self):
    return {"name": self.name, "dtype": self.dtype_policy.name,
            "compression": tf.keras.utils.serialize_keras_object(self.compression),
            "classifier": tf.keras.utils.serialize_keras_object(self.classifier),
            "mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

  @classmethod
  def from_config(cls, config):
    parts = {name: tf.keras.utils.deserialize_keras_object(config[name]) for name in ("compression", "classifier")}
    return cls(**{**config, **parts})
