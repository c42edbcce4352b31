"""Networks of the paper, composed of `deepcomp_tf.layers`."""

from deepcomp_tf.models.compression import CompressionModel
from deepcomp_tf.models.compression import CompressionOutput
from deepcomp_tf.models.compression import Decoder
from deepcomp_tf.models.compression import Encoder
from deepcomp_tf.models.deeplab import DeepLab
from deepcomp_tf.models.joint import JointModel
from deepcomp_tf.models.joint import JointOutput
from deepcomp_tf.models.resnet import CResNet
from deepcomp_tf.models.resnet import ResNet

__all__ = ["CResNet", "CompressionModel", "CompressionOutput", "Decoder", "DeepLab", "Encoder", "JointModel",
           "JointOutput", "ResNet"]
