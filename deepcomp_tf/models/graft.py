"""Grafts: networks for pixels whose first part is replaced by an adapter from the representation."""

from typing import Optional

import tensorflow as tf

from deepcomp_tf import layers
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers import naming
from deepcomp_tf.models import pretrained
from deepcomp_tf.models import surgery
from deepcomp_tf.models.backbone import CutNetwork


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Graft(CutNetwork):
  """An adapter and the remainder of a network for pixels: normalised `[batch, h, w, C]` -> logits `[batch, num_classes]`.

  The paper's cResNets are a ResNet without its root and conv2_x (section 4.2), trained from scratch. Here a trained network keeps
  its weights behind the cut; a 3x3 convolution, `units` residual units of `filters` channels and a 1x1 convolution, at an eighth
  of the photo's size, replace what was before it.

  Args:
    backbone: a name for `pretrained.make_backbone`, a Keras functional network that ends with logits or a softmax, or its
      `to_json()`.
    cut: name of the layer of the backbone that the adapter replaces, with all before it; by default `surgery.find_cut`'s.
    filters: channels of the adapter's residual units.
    units: how many there are.
    num_classes: of a backbone that is given by its name; None for a graft that ends with its features.
    dilated: whether the strides behind the cut become dilation rates, for segmentation: output stride 1. Depthwise kernels
      behind the cut are not trained then.
    bottleneck: channels within the adapter's units, which are narrower there, see `layers.ResidualUnit`; None: they are not.
  """

  def __init__(self, backbone, cut: Optional[str] = None, filters: int = 128, units: int = 8, num_classes: Optional[int] = 1000,
               dilated: bool = False, bottleneck: Optional[int] = 48, **kwargs):
    if filters < 1 or units < 0 or (bottleneck is not None and bottleneck < 1):
      raise DeepcompError("`filters` and, where it is given, `bottleneck` must be at least 1 and `units` at least 0. Received: "
                          f"filters={filters}, units={units}, bottleneck={bottleneck}")
    source, name, whole = pretrained.open_backbone(backbone, num_classes or 1000)
    super().__init__(source, whole, cut, dilated, classes=num_classes is not None, **kwargs)
    self.architecture = f"graft of {name}"
    self.filters, self.units, self.bottleneck, self.dilated = filters, units, bottleneck, dilated
    self.feature_channels = self.remainder.output_shape[-1]
    policy = {"dtype": self.dtype_policy}
    self.first = tf.keras.layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal",
                                        name="first", **policy)
    self.residual_units = [layers.ResidualUnit(filters, bottleneck, name=f"unit{number + 1}", **policy)
                           for number in range(units)]
    self.last = tf.keras.layers.Conv2D(self.remainder.input_shape[-1], 1, name="last", **policy)

  def build(self, input_shape):
    naming.build(self.first, input_shape[-1])
    for layer in (*self.residual_units, self.last):
      naming.build(layer, self.filters)
    tf.keras.layers.Layer.build(self, input_shape)

  def maps(self, x, training=None):
    """What the adapter makes of the representation: the backbone's maps at the cut, less their mean, over their deviation."""
    del training
    x = self.first(tf.cast(x, self.compute_dtype))
    for unit in self.residual_units:
      x = unit(x)
    return tf.cast(self.last(x), tf.float32)

  def call(self, x, training=None):
    return self.behind(self.maps(x), training)

  features = call

  def take_weights(self, backbone):
    """Copies the weights behind the cut of a network of the same layers."""
    surgery.take_layers(self.remainder, backbone)

  def for_segmentation(self):
    """The dilated form without classes, with the same weights, as `DeepLab` takes it."""
    dilated = self.from_blueprint(self.blueprint(), None, dilated=True)
    naming.build(dilated, self.first.kernel.shape[2])
    naming.copy_weights(self, dilated)
    return dilated

  def named_variables(self):
    """The variables of a built graft by names such as `adapter/unit1/conv1/kernel` and `remainder/head/kernel`."""
    units = {f"adapter/{unit.name}/{convolution.name}": convolution
             for unit in self.residual_units for convolution in unit.convolutions}
    named = naming.named_variables({"adapter/first": self.first, **units, "adapter/last": self.last})
    return {**named, "adapter/mean": self.mean, "adapter/deviation": self.deviation,
            **surgery.variables_of("remainder", self.remainder)}

  def blueprint(self):
    """What `from_blueprint` needs, besides the classes, as a dict."""
    return {"network": self.architecture, "backbone": self.source, "cut": self.cut, "filters": self.filters, "units": self.units,
            "bottleneck": self.bottleneck}

  @classmethod
  def from_blueprint(cls, blueprint, num_classes, dilated=False):
    """The graft, not built, of a dict of `blueprint`."""
    return cls(*(blueprint[name] for name in ("backbone", "cut", "filters", "units")), num_classes, dilated,
               blueprint.get("bottleneck"))  # the first grafts have none

  def get_config(self):
    return {**super().get_config(), "filters": self.filters, "units": self.units, "dilated": self.dilated,
            "bottleneck": self.bottleneck}
