"""Networks of the paper, composed of `deepcomp_tf.layers`."""

from deepcomp_tf.models.compression import CompressionModel
from deepcomp_tf.models.compression import CompressionOutput
from deepcomp_tf.models.compression import Decoder
from deepcomp_tf.models.compression import Encoder

__all__ = ["CompressionModel", "CompressionOutput", "Decoder", "Encoder"]
