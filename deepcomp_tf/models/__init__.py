"""Networks of the paper, composed of `deepcomp_tf.layers`."""

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
           "JointOutput", "ResNet", "from_blueprint"]


def from_blueprint(blueprint, num_classes, dilated=False):
  """A network for inference, not built, by what its `blueprint()` gave; see `ResNet`, `Graft`, `Backbone`."""
  network = Backbone if "preprocessing" in blueprint else Graft if "backbone" in blueprint else ResNet
  return network.from_blueprint(blueprint, num_classes, dilated)
