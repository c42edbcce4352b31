"""DeepLab on ResNet-d and cResNet-d (section 5)."""

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from deepcomp_tf import layers
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers.naming import build


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class DeepLab(tf.keras.Model):
  """Semantic segmentation: a dilated backbone and atrous spatial pyramid pooling.

  For a ResNet-d, `[batch, h, w, 3]` centered pixels -> logits `[batch, ceil(h/8), ceil(w/8), num_classes]`; for a
  cResNet-d, the normalised representation `[batch, h, w, C]` -> logits `[batch, h, w, num_classes]`. Either way a
  position of the logits stands for 8x8 pixels.

  Batch normalization keeps the statistics of the classifier that the backbone was trained as, in training too.

  Args:
    backbone: a `ResNet`, `CResNet` or `Graft` with `dilated=True` and `num_classes=None`.
    num_classes: the classes of the logits.
    rates: see `layers.AtrousSpatialPyramidPooling`.
  """

  def __init__(self, backbone, num_classes: int, rates: Sequence[int] = (6, 12, 18, 24), **kwargs):
    super().__init__(**kwargs)
    if not backbone.dilated or backbone.num_classes is not None:
      raise DeepcompError("`backbone` must be dilated and end with its features (num_classes=None). Received: "
                          f"dilated={backbone.dilated}, num_classes={backbone.num_classes}")
    self.backbone, self.num_classes = backbone, num_classes
    self.head = layers.AtrousSpatialPyramidPooling(num_classes, rates, name="head")

  @classmethod
  def from_classifier(cls, network, num_classes, **kwargs):
    """DeepLab on the dilated form of a trained, built `ResNet`, `CResNet` or `Graft`, with its weights."""
    if not network.built:
      raise DeepcompError("expected a network that is built. Received: one without weights")
    return cls(network.for_segmentation(), num_classes, **kwargs)

  def build(self, input_shape):
    if not self.backbone.built:
      build(self.backbone, input_shape[-1])
    build(self.head, self.backbone.feature_channels)
    tf.keras.layers.Layer.build(self, input_shape)

  def call(self, x, training: Optional[bool] = None) -> tf.Tensor:
    del training  # the backbone's statistics stay as they are
    return self.head(tf.cast(self.backbone.features(tf.cast(x, self.compute_dtype), training=False), tf.float32))

  def named_variables(self):
    """The variables of a built network by names such as `backbone/conv3_1/conv2/kernel` and `head/rate6/bias`."""
    named = {f"backbone/{name}": variable for name, variable in self.backbone.named_variables().items()}
    for rate, (kernel, bias) in zip(self.head.rates, self.head.branches):
      named[f"head/rate{rate}/kernel"], named[f"head/rate{rate}/bias"] = kernel, bias
    return named

  def get_config(self):
    return {"name": self.name, "dtype": self.dtype_policy.name, "backbone": tf.keras.utils.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes, "rates": self.head.rates}

  @classmethod
  def from_config(cls, config):
    return cls(**{**config, "backbone": tf.keras.utils.deserialize_keras_object(config["backbone"])})
