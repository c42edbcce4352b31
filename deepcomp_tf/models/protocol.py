"""What a network must have, so that tasks, training and stored folders can use it: `Network`, and its form for segmentation.

`ResNet`, `CResNet`, `Graft` and `Backbone` are `Network`s. What `DeepLab` takes are `Features`, which `for_segmentation` makes.
`tests/models/test_protocol.py` checks all of it of each of them.
"""

from typing import Protocol
from typing import runtime_checkable


@runtime_checkable
class Network(Protocol):
  """A Keras model from centered pixels `[batch, h, w, 3]`, or the normalised representation `[batch, h, w, C]`, to float32 logits
  `[batch, num_classes]`; of any size.

  architecture: str, what people call it, such as "cResNet-51"; `blueprint()["network"]`.
  num_classes: int.
  built: whether it has its variables.
  last_layer: the dense layer that gives the logits.
  """
  architecture: str
  num_classes: int
  built: bool

  def __call__(self, x, training=None):
    """The logits."""

  def vectors(self, x, training=None):
    """What the last layer sees, float32 `[batch, channels]`: the mean of its features over the photo."""

  def named_variables(self):
    """Dict of its variables by names that stay, whatever Keras calls them; those of kernels end with "kernel"."""

  def blueprint(self):
    """What `from_blueprint` needs, besides the classes: a dict for JSON,
    by which `models.from_blueprint` tells networks apart."""

  @classmethod
  def from_blueprint(cls, blueprint, num_classes, dilated=False):
    """The network, not built, of a `blueprint`, which raises a DeepcompError where it has no such form.

    With `num_classes` None it ends with its features; `dilated` as of `Features`.
    """

  def for_segmentation(self):
    """`Features` with the same weights, of a network that is built; a DeepcompError where it has no such form."""

  def get_config(self):
    """Keras' own, by which it is saved and loaded there."""


@runtime_checkable
class Features(Protocol):
  """The dilated form of a `Network`, without classes: one position of its features stands for 8x8 pixels.

  Attributes beside those of `Network`, with num_classes None:
    dilated: True.
    feature_channels: int.
  """
  architecture: str
  num_classes: None
  built: bool
  dilated: bool
  feature_channels: int

  def features(self, x, training=None):
    """Input of a `Network` -> `[batch, ceil(h/s), ceil(w/s), feature_channels]`; s is 8 for pixels, 1 for the representation."""

  def named_variables(self):
    """As of `Network`."""

  def blueprint(self):
    """As of `Network`."""
