"""Whole networks for pixels, cut in two: what grafts are compared with."""

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.models import pretrained
from deepcomp_tf.models import surgery
from deepcomp_tf.models import tflite
from deepcomp_tf.models.compression import PIXEL_MEAN
from deepcomp_tf.representation import STRIDE


class CutNetwork(tf.keras.Model):
  """The remainder of a cut network for pixels and the statistics of its maps: what `Graft` and `Backbone` share.

  `whole` is the backbone, a functional network, `cut` the name of the layer that it is cut behind, None for `find_cut`'s;
  `dilated` and `classes` are as of `remainder_of`.

  Attributes:
    source: the backbone's name or JSON, to rebuild it from.
    segments: whether it gives logits at every position of its maps, each in the middle of 8x8 pixels, in place of a photo's.
    remainder: the functional network behind the cut.
    mean, deviation: float32 `[channels]`, of the backbone's maps at the cut over photos.
  """

  def __init__(self, source, whole, cut, dilated=False, classes=True, **kwargs):
    super().__init__(**kwargs)
    self.source, self.cut = source, cut or surgery.find_cut(whole)
    self.remainder = surgery.remainder_of(whole, self.cut, dilated, classes, self.dtype_policy)
    self.num_classes = self.remainder.output_shape[-1] if classes else None
    self.segments = classes and len(self.remainder.output_shape) == 4
    self.mean, self.deviation = (
        self.add_weight(name=name, shape=[self.remainder.input_shape[-1]], initializer=start, trainable=False, dtype="float32")
        for name, start in (("mean", "zeros"), ("deviation", "ones")))

  def set_statistics(self, mean, deviation):
    """Sets the mean and the deviation of the backbone's maps at the cut, float `[channels]` each, over photos."""
    self.mean.assign(mean)
    self.deviation.assign(deviation)

  def standardized(self, maps):
    """The backbone's maps at the cut -> what `maps` gives or, in a graft, aims at: less their mean, over their deviation."""
    return (tf.cast(maps, tf.float32) - self.mean) / self.deviation

  def behind(self, maps, training=None):
    """What the remainder makes of `maps`: logits, or features where there are no classes."""
    return self.logits(self.as_they_are(maps), training)

  def as_they_are(self, maps):
    """The reverse of `standardized`, in the type that the remainder computes in."""
    deviation, mean = (tf.cast(variable, tf.float32) for variable in (self.deviation, self.mean))
    return tf.cast(maps * deviation + mean, self.compute_dtype)

  def logits(self, maps, training=None):
    """What the remainder makes of the backbone's maps at the cut, as they are."""
    if not self.segments:
      return self.remainder(maps, training=training)
    height, width = tf.shape(maps)[1], tf.shape(maps)[2]
    # Strided convolutions keep corners on corners where sizes are odd: else the last row or column is there twice. (Behind `tf.pad`
    # LiteRT does not know how many channels there are.)
    maps = tf.concat([maps, maps[:, height - 1 + height % 2:]], axis=1)
    maps = tf.concat([maps, maps[:, :, width - 1 + width % 2:]], axis=2)
    found = tflite.resized_like(self.remainder(maps, training=training), maps)
    return found[:, :height, :width]

  def vectors(self, x, training=None):
    """What the last layer sees of the network's input, float32 `[batch, feature_channels]`."""
    return self.vectors_and_logits(self.as_they_are(self.maps(x, training)), training)[0]

  def vectors_and_logits(self, maps, training=None):
    """What the last layer sees of the backbone's maps at the cut, as they are, and what it makes of that, float32."""
    both = tf.keras.Model(self.remainder.input, [self.last_layer.input, self.remainder.output])
    return [tf.cast(found, tf.float32) for found in both(maps, training=training)]

  @property
  def last_layer(self):
    """The dense layer that gives the logits; a DeepcompError where a network ends with another one."""
    return surgery.dense_end(self.remainder, self.architecture)

  def get_config(self):
    return {"name": self.name, "dtype": self.dtype_policy.name, "backbone": self.source, "cut": self.cut,
            "num_classes": self.num_classes}


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Backbone(CutNetwork):
  """A whole network for pixels, for photos of any size: centered pixels `[batch, h, w, 3]` -> logits `[batch, num_classes]`.

  A graft is compared with it: with the network as it is on decoded pixels, or trained on them. It has a graft's methods; its
  first part, the functional network `before` the cut, stands in place of the adapter. The arguments are a `Graft`'s, and
  `preprocessing` of pixels in 0..255, a name for `preprocessing_of`; by default the backbone's name.
  """

  def __init__(self, backbone, cut=None, num_classes=1000, preprocessing=None, **kwargs):
    source, name, whole = pretrained.open_backbone(backbone, num_classes)
    super().__init__(source, whole, cut, **kwargs)
    self.architecture, self.preprocessing = name, preprocessing or source
    if self.preprocessing not in (*pretrained.PREPROCESSINGS, *pretrained.backbone_names()):
      raise DeepcompError(f"`preprocessing` must be one of {', '.join(pretrained.PREPROCESSINGS)}. Received: "
                          f"{self.preprocessing[:50]}")
    self._preprocess = pretrained.preprocessing_of(self.preprocessing)
    # Where the remainder's first layers subsampled the maps, it takes them subsampled.
    self._step = STRIDE // surgery.stride_at(whole, surgery.layer_at(whole, self.cut))
    # A network for photos of 8k+1 pixels has its positions on every eighth pixel.
    # They come to lie in the middle of blocks of 8x8.
    self._margin = (4, 3) if whole.input_shape[1] % STRIDE == 1 else (0, 0)
    # The network itself takes photos of one size.
    self.before = tf.keras.models.clone_model(
        tf.keras.Model(whole.input, whole.get_layer(self.cut).output), input_tensors=tf.keras.Input([None, None, 3]),
        clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": self.dtype_policy}))

  def build(self, input_shape):
    tf.keras.layers.Layer.build(self, input_shape)

  def own_maps(self, x, training=None):
    """Centered pixels -> the maps at the cut, float32."""
    first, last = self._margin
    x = x[:, first:tf.shape(x)[1] - last, first:tf.shape(x)[2] - last]
    maps = self.before(tf.cast(self._preprocess(x + PIXEL_MEAN), self.compute_dtype), training=training)
    return tf.cast(maps[:, ::self._step, ::self._step], tf.float32)

  def maps(self, x, training=None):
    """Centered pixels -> the maps at the cut, less their mean, over their deviation."""
    return self.standardized(self.own_maps(x, training))

  def call(self, x, training=None):
    return self.logits(tf.cast(self.own_maps(x, training), self.compute_dtype), training)

  def take_weights(self, backbone):
    """Copies the weights of a network of the same layers."""
    for part in (self.before, self.remainder):
      surgery.take_layers(part, backbone)

  def named_variables(self):
    """The variables by names such as `before/stem/kernel` and `remainder/head/kernel`."""
    return {"before/mean": self.mean, "before/deviation": self.deviation, **surgery.variables_of("before", self.before),
            **surgery.variables_of("remainder", self.remainder)}

  def blueprint(self):
    """As of `Graft`."""
    return {"network": self.architecture, "backbone": self.source, "cut": self.cut, "preprocessing": self.preprocessing}

  @classmethod
  def from_blueprint(cls, blueprint, num_classes, dilated=False):
    """As of `Graft`."""
    if dilated:
      raise DeepcompError(f"expected a graft or a ResNet to segment with. Received: the whole {blueprint['network']}")
    return cls(blueprint["backbone"], blueprint["cut"], num_classes, blueprint["preprocessing"])

  def for_segmentation(self):
    """Raises a `DeepcompError`: it has no dilated form."""
    return self.from_blueprint(self.blueprint(), None, dilated=True)

  def get_config(self):
    return {**super().get_config(), "preprocessing": self.preprocessing}
