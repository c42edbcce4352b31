"""Grafts: a network for pixels whose first part is replaced by an adapter from the representation; and whole such networks."""

import functools
import inspect

import tensorflow as tf

from deepcomp_tf import layers
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.layers.naming import build
from deepcomp_tf.layers.naming import copy_weights
from deepcomp_tf.layers.naming import named_variables
from deepcomp_tf.models import efficientnet
from deepcomp_tf.models import keras_json
from deepcomp_tf.models.compression import PIXEL_MEAN
from deepcomp_tf.representation import STRIDE

PREPROCESSINGS = ("lite", "caffe", "tf", "torch", "none")
_CONVOLUTIONS = (tf.keras.layers.Conv2D, tf.keras.layers.DepthwiseConv2D, tf.keras.layers.SeparableConv2D)


def backbone_names():
  """Names of the backbones that `make_backbone` knows: EfficientNet-Lite and the networks of `tf.keras.applications`."""
  applications = [name for name, one in inspect.getmembers(tf.keras.applications, callable) if name[0].isupper()]
  return [*efficientnet.VARIANTS, *applications]


def make_backbone(name, num_classes=1000, weights=None):
  """A functional network for pixels, by one of `backbone_names()`.

  Args:
    name: one of them.
    num_classes: of its logits or probabilities.
    weights: of `tf.keras.applications` only: None, "imagenet" or a path, as there.
  """
  if name in efficientnet.VARIANTS:
    return efficientnet.efficientnet_lite(name, num_classes)
  if name not in backbone_names():
    raise DeepcompError(f"`backbone` must be one of {', '.join(backbone_names())}. Received: {name!r}")
  make, arguments = getattr(tf.keras.applications, name), {"weights": weights, "classes": num_classes}
  network = make(**arguments)
  return network if network.input_shape[1] else make(input_shape=(224, 224, 3), **arguments)


def preprocessing_of(name):
  """The function of float32 pixels in 0..255 that returns what a network takes.

  Args:
    name: one of `PREPROCESSINGS`: as EfficientNet-Lite has it, as `tf.keras.applications.imagenet_utils.preprocess_input` names
      them, or nothing; or one of `backbone_names()`.
  """
  if name == "lite" or name in efficientnet.VARIANTS:
    return lambda pixels: (pixels - 127.0) / 128.0
  if name == "none":
    return lambda pixels: pixels
  if name in PREPROCESSINGS:
    return functools.partial(tf.keras.applications.imagenet_utils.preprocess_input, mode=name)
  modules = [module for module in vars(tf.keras.applications).values() if hasattr(module, "preprocess_input")
             and hasattr(module, name)]
  return modules[0].preprocess_input


def find_cut(backbone):
  """Name of the layer of a functional network behind which it is cut by default.

  It is where the maps have an eighth of the photo's size and nothing passes by. Where a network gets there by 1x1
  convolutions that subsample, as ResNet-50 does in conv3_1, it is the layer before these, whose strides the graft takes away;
  elsewhere the last of the layers with the fewest channels.

  Raises:
    DeepcompError: there is no such place.
  """
  size = backbone.input_shape[1]
  places = {1: [], 2: []}  # by the stride that is left to the layers behind
  for layer in backbone.layers:
    shape = layer.output.shape
    if len(shape) == 4 and size:
      for left, found in places.items():
        if shape[1] and -(-size // shape[1]) == STRIDE // left and (left == 1 or _subsampled_by_1x1(backbone, layer)):
          found.append((shape[-1], layer.name))
  for left in (2, 1):
    passed = [(channels, name) for channels, name in places[left] if _nothing_passes_by(backbone, name)]
    if passed:
      fewest = min(channels for channels, _ in passed)
      return [name for channels, name in passed if channels == fewest][-1]
  raise DeepcompError(f"expected a network whose maps have an eighth of the photo's size at some place that all paths lead "
                      f"through. Received: {backbone.name}, for photos of {size} pixels")


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Graft(tf.keras.Model):
  """An adapter and the remainder of a network for pixels: normalised `[batch, h, w, C]` -> logits `[batch, num_classes]`.

  The paper's cResNets are a ResNet without its root and conv2_x (section 4.2), trained from scratch; here a trained network
  keeps its weights behind the cut, and what replaces the rest is one 3x3 convolution, `units` residual units and one 1x1
  convolution at an eighth of the photo's size.

  Args:
    backbone: a name for `make_backbone`, or a Keras functional network that ends with logits or a softmax, or its `to_json()`.
    cut: name of the layer of the backbone that the adapter replaces, with all before it; by default that of `find_cut`.
    filters, units: of the adapter.
    num_classes: of a backbone that is given by its name; None for a graft that ends with its features.
    dilated: whether the strides behind the cut become dilation rates, for segmentation: output stride 1. Depthwise kernels
      behind the cut are not trained then.

  Attributes:
    source: the backbone's name or JSON.
    remainder: the functional network behind the cut.
  """

  def __init__(self, backbone, cut=None, filters=64, units=4, num_classes=1000, dilated=False, **kwargs):
    super().__init__(**kwargs)
    if filters < 1 or units < 0:
      raise DeepcompError(f"`filters` must be at least 1 and `units` at least 0. Received: filters={filters}, units={units}")
    self.source, name, whole = _open(backbone, num_classes or 1000)
    self.architecture = f"graft of {name}"
    self.cut, self.filters, self.units, self.dilated = cut or find_cut(whole), filters, units, dilated
    self.remainder = remainder_of(whole, self.cut, dilated, num_classes is not None, self.dtype_policy)
    self.num_classes = self.remainder.output_shape[-1] if num_classes is not None else None
    self.feature_channels = self.remainder.output_shape[-1]
    map_channels = self.remainder.input_shape[-1]
    policy = {"dtype": self.dtype_policy}
    self.first = tf.keras.layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal",
                                        name="first", **policy)
    self.residual_units = [layers.ResidualUnit(filters, name=f"unit{number + 1}", **policy) for number in range(units)]
    self.last = tf.keras.layers.Conv2D(map_channels, 1, name="last", **policy)
    self.mean, self.deviation = _statistics(self, map_channels)

  def build(self, input_shape):
    build(self.first, input_shape[-1])
    for layer in (*self.residual_units, self.last):
      build(layer, self.filters)
    tf.keras.layers.Layer.build(self, input_shape)

  def maps(self, x, training=None):
    """What the adapter makes of the representation: the backbone's maps at the cut, less their mean, over their deviation."""
    del training
    x = self.first(tf.cast(x, self.compute_dtype))
    for unit in self.residual_units:
      x = unit(x)
    return tf.cast(self.last(x), tf.float32)

  def standardized(self, maps):
    """The backbone's own maps at the cut -> what `maps` aims at."""
    return (tf.cast(maps, tf.float32) - self.mean) / self.deviation

  def behind(self, maps, training=None):
    """What the remainder makes of `maps`: logits, or features where there are no classes."""
    deviation, mean = (tf.cast(variable, tf.float32) for variable in (self.deviation, self.mean))
    return self.remainder(tf.cast(maps * deviation + mean, self.compute_dtype), training=training)

  def call(self, x, training=None):
    return self.behind(self.maps(x), training)

  features = call

  def set_statistics(self, mean, deviation):
    """Sets the mean and the deviation of the backbone's maps at the cut, float `[channels]` each, over photos."""
    self.mean.assign(mean)
    self.deviation.assign(deviation)

  def take_weights(self, backbone):
    """Copies the weights behind the cut of a network of the same layers."""
    take_layers(self.remainder, backbone)

  def for_segmentation(self):
    """The dilated form without classes, with the same weights, as `DeepLab` takes it."""
    dilated = Graft(self.source, self.cut, self.filters, self.units, None, dilated=True)
    build(dilated, self.first.kernel.shape[2])
    copy_weights(self, dilated)
    return dilated

  def named_variables(self):
    """The variables of a built graft by names such as `adapter/unit1/conv1/kernel` and `remainder/head/kernel`."""
    units = {f"adapter/{unit.name}/{name}": getattr(unit, name) for unit in self.residual_units for name in ("conv1", "conv2")}
    named = named_variables({"adapter/first": self.first, **units, "adapter/last": self.last})
    return {**named, "adapter/mean": self.mean, "adapter/deviation": self.deviation, **_variables_of("remainder", self.remainder)}

  def blueprint(self):
    """What `from_blueprint` needs, besides the classes, as a dict."""
    return {"network": self.architecture, "backbone": self.source, "cut": self.cut, "filters": self.filters, "units": self.units}

  @classmethod
  def from_blueprint(cls, blueprint, num_classes, dilated=False):
    """The graft, not built, of a dict of `blueprint`."""
    return cls(*(blueprint[name] for name in ("backbone", "cut", "filters", "units")), num_classes, dilated)

  def get_config(self):
    return {"name": self.name, "dtype": self.dtype_policy.name, "backbone": self.source, "cut": self.cut,
            "filters": self.filters, "units": self.units, "num_classes": self.num_classes, "dilated": self.dilated}


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Backbone(tf.keras.Model):
  """A whole network for pixels, for photos of any size: centered pixels `[batch, h, w, 3]` -> logits `[batch, num_classes]`.

  It is what a graft is compared with: on decoded pixels as it is, or trained on them. It has a graft's methods, with its own
  first part in place of the adapter.

  Args:
    backbone, cut, num_classes: as of `Graft`.
    preprocessing: what becomes of pixels in 0..255 before it, a name for `preprocessing_of`; by default the backbone's own.

  Attributes:
    source, remainder: as of `Graft`.
    before: the functional network up to the cut.
  """

  def __init__(self, backbone, cut=None, num_classes=1000, preprocessing=None, **kwargs):
    super().__init__(**kwargs)
    self.source, self.architecture, whole = _open(backbone, num_classes)
    self.cut, self.preprocessing = cut or find_cut(whole), preprocessing or self.source
    if self.preprocessing not in (*PREPROCESSINGS, *backbone_names()):
      raise DeepcompError(f"`preprocessing` must be one of {', '.join(PREPROCESSINGS)}. Received: {self.preprocessing[:50]}")
    self._preprocess = preprocessing_of(self.preprocessing)
    self.remainder = remainder_of(whole, self.cut, dtype=self.dtype_policy)
    self.num_classes = self.remainder.output_shape[-1]
    # Where the remainder's first layers subsampled the maps, it takes them subsampled.
    self._step = STRIDE // -(-whole.input_shape[1] // layer_at(whole, self.cut).output.shape[1])
    # The network itself takes photos of one size.
    self.before = tf.keras.models.clone_model(
        tf.keras.Model(whole.input, whole.get_layer(self.cut).output), input_tensors=tf.keras.Input([None, None, 3]),
        clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": self.dtype_policy}))
    self.mean, self.deviation = _statistics(self, self.remainder.input_shape[-1])

  def build(self, input_shape):
    tf.keras.layers.Layer.build(self, input_shape)

  def own_maps(self, x, training=None):
    """Centered pixels -> the maps at the cut, float32."""
    maps = self.before(tf.cast(self._preprocess(x + PIXEL_MEAN), self.compute_dtype), training=training)
    return tf.cast(maps[:, ::self._step, ::self._step], tf.float32)

  def maps(self, x, training=None):
    """Centered pixels -> the maps at the cut, less their mean, over their deviation."""
    return self.standardized(self.own_maps(x, training))

  def call(self, x, training=None):
    return self.remainder(tf.cast(self.own_maps(x, training), self.compute_dtype), training=training)

  def take_weights(self, backbone):
    """Copies the weights of a network of the same layers."""
    for part in (self.before, self.remainder):
      take_layers(part, backbone)

  def named_variables(self):
    """The variables by names such as `before/stem/kernel` and `remainder/head/kernel`."""
    return {"before/mean": self.mean, "before/deviation": self.deviation, **_variables_of("before", self.before),
            **_variables_of("remainder", self.remainder)}

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
    return {"name": self.name, "dtype": self.dtype_policy.name, "backbone": self.source, "cut": self.cut,
            "num_classes": self.num_classes, "preprocessing": self.preprocessing}

  standardized, behind, set_statistics = Graft.standardized, Graft.behind, Graft.set_statistics


def _open(backbone, num_classes):
  """What a backbone is rebuilt from, its name, and the functional network; see `Graft`."""
  if not isinstance(backbone, str):
    return backbone.to_json(), backbone.name, backbone
  if backbone.startswith("{"):
    network = keras_json.read(backbone)
    return backbone, network.name, network
  return backbone, backbone, make_backbone(backbone, num_classes)


def _statistics(model, channels):
  """Variables for the mean and the deviation of the maps at the cut."""
  return (model.add_weight(name=name, shape=[channels], initializer=start, trainable=False, dtype="float32")
          for name, start in (("mean", "zeros"), ("deviation", "ones")))


def _variables_of(part, network):
  """The variables of a functional network by names that are the same under every version of Keras."""
  named = {}
  for layer in network.layers:
    for variable in layer.weights:
      own = variable.name.split("/")[-1].split(":")[0]
      if isinstance(layer, tf.keras.layers.DepthwiseConv2D) and own == "depthwise_kernel":
        own = "kernel"  # as Keras 3 calls it
      named[f"{part}/{layer.name}/{own}"] = variable
  return named


def remainder_of(backbone, cut, dilated=False, classes=True, dtype="float32"):
  """The functional network behind a layer of another one, for maps of any size, with weights of its own, not copied.

  Args:
    backbone: functional network.
    cut: name of the layer.
    dilated: see `Graft`.
    classes: whether it ends with the backbone's logits (a softmax at the end is left out) rather than with the last maps
      before they are pooled.
    dtype: Keras policy of its layers.

  Raises:
    DeepcompError: there is no such layer, something passes by it, or its maps have another size.
  """
  at, size = layer_at(backbone, cut), backbone.input_shape[1]
  edge = at.output.shape[1] if len(at.output.shape) == 4 else 0
  subsampled = edge and -(-size // edge) == STRIDE // 2 and _subsampled_by_1x1(backbone, at)
  if not edge or -(-size // edge) != STRIDE and not subsampled:
    raise DeepcompError(f"`cut` must be a layer whose maps have an eighth of the photo's size. Received: cut={cut!r}, with maps "
                        f"of {tuple(at.output.shape[1:])} for photos of {size} pixels")
  if not _nothing_passes_by(backbone, cut):
    raise DeepcompError(f"`cut` must be a layer that all paths lead through. Received: cut={cut!r} of {backbone.name}")
  end = backbone.layers[-1]
  if not classes:
    end = [layer for layer in backbone.layers if len(layer.output.shape) == 4 and layer.output.shape[1] > 1][-1]
  behind = tf.keras.Model(at.output, end.output)
  rates, changes = {id(at.output): 1}, {}
  for layer in behind.layers:
    if isinstance(layer, tf.keras.layers.InputLayer):
      continue
    rate, change = max(rates.get(id(tensor), 1) for tensor in tf.nest.flatten(layer.input)), {}
    if isinstance(layer, _CONVOLUTIONS):
      strides = layer.strides[0]
      if subsampled and any(tensor is at.output for tensor in tf.nest.flatten(layer.input)):
        change["strides"] = (1, 1)
      elif dilated:
        change.update(strides=(1, 1), padding="same", dilation_rate=(rate * layer.dilation_rate[0],) * 2)
        rate *= strides
      if dilated and isinstance(layer, tf.keras.layers.DepthwiseConv2D):
        change["trainable"] = False  # docs/decisions.md
    elif dilated and isinstance(layer, tf.keras.layers.ZeroPadding2D):
      change["padding"] = ((0, 0), (0, 0))  # of the strided convolution behind it, which pads itself now
    rates[id(layer.output)] = rate
    if layer is end and classes:
      change["dtype"] = "float32"
      if isinstance(layer, (tf.keras.layers.Dense, tf.keras.layers.Conv2D, tf.keras.layers.Activation)):
        change["activation"] = "linear"
      elif isinstance(layer, tf.keras.layers.Softmax):
        raise DeepcompError(f"expected a network whose last layer is a dense layer or an activation. Received: {backbone.name}, "
                            "which ends with a layer of its own for the softmax")
    changes[layer.name] = {"dtype": dtype, **change}

  def changed(layer):
    return type(layer).from_config({**layer.get_config(), **changes.get(layer.name, {})})

  try:
    return tf.keras.models.clone_model(behind, input_tensors=tf.keras.Input([None, None, at.output.shape[-1]]),
                                       clone_function=changed)
  except ValueError as error:
    raise DeepcompError(f"expected a network that takes photos of any size behind {cut}. Received: {backbone.name} "
                        f"({one_line(error)})") from None


def take_layers(network, backbone):
  """Copies into a functional network the weights of the layers of the same names of another one."""
  for layer in network.layers:
    if layer.weights:
      layer.set_weights(backbone.get_layer(layer.name).get_weights())


def layer_at(backbone, cut):
  """The layer of this name."""
  if cut not in [layer.name for layer in backbone.layers]:
    raise DeepcompError(f"`cut` must be a layer of {backbone.name}. Received: cut={cut!r}")
  return backbone.get_layer(cut)


def _consumers(network, layer):
  """The layers of a functional network that take the output of one of them."""
  return [other for other in network.layers if not isinstance(other, tf.keras.layers.InputLayer)
          and any(tensor is layer.output for tensor in tf.nest.flatten(other.input))]


def _subsampled_by_1x1(network, layer):
  """Whether all that takes a layer's output are 1x1 convolutions of stride 2."""
  consumers = _consumers(network, layer)
  return bool(consumers) and all(isinstance(one, tf.keras.layers.Conv2D) and tuple(one.kernel_size) == (1, 1)
                                 and tuple(one.strides) == (2, 2) for one in consumers)


def _nothing_passes_by(network, name):
  """Whether a functional network's output follows from the output of one of its layers alone."""
  try:
    tf.keras.Model(network.get_layer(name).output, network.output)
  except (ValueError, KeyError):
    return False
  return True
