"""Networks of the paper, composed of `deepcomp_tf.layers`."""

from deepcomp_tf.layers import naming
from deepcomp_tf.models import pretrained
from deepcomp_tf.models.backbone import Backbone
from deepcomp_tf.models.compression import CompressionModel
from deepcomp_tf.models.compression import CompressionOutput
from deepcomp_tf.models.compression import Decoder
from deepcomp_tf.models.compression import Encoder
from deepcomp_tf.models.deeplab import DeepLab
from deepcomp_tf.models.graft import Graft
from deepcomp_tf.models.joint import JointModel
from deepcomp_tf.models.joint import JointOutput
from deepcomp_tf.models.resnet import CResNet
from deepcomp_tf.models.resnet import ResNet

__all__ = ["Backbone", "CResNet", "CompressionModel", "CompressionOutput", "Decoder", "DeepLab", "Encoder", "Graft", "JointModel",
           "JointOutput", "ResNet", "from_blueprint", "with_classes"]


def from_blueprint(blueprint, num_classes, dilated=False):
  """A network for inference, not built, by what its `blueprint()` gave; see `ResNet`, `Graft`, `Backbone`."""
  network = Backbone if "preprocessing" in blueprint else Graft if "backbone" in blueprint else ResNet
  return network.from_blueprint(blueprint, num_classes, dilated)


def with_classes(network, num_classes, channels):
  """A copy of a trained network for `channels` of input whose last layer is a new one, untrained, for other classes.

  That of a network that does not end with a dense layer is a DeepcompError.
  """
  blueprint, weights = network.blueprint(), network.named_variables()
  if "backbone" in blueprint:
    blueprint["backbone"] = pretrained.with_classes(blueprint["backbone"], num_classes)
  copy = from_blueprint(blueprint, num_classes)
  naming.build(copy, channels)
  new = {id(variable) for variable in copy.last_layer.weights}
  for name, variable in copy.named_variables().items():
    if id(variable) not in new:
      variable.assign(weights[name].numpy())
  return copy
