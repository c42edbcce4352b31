"""Image understanding from deep compression without decoding (Torfason et al., ICLR 2018), for TensorFlow 2."""

from deepcomp_tf import evaluation
from deepcomp_tf import layers
from deepcomp_tf import models
from deepcomp_tf import operating_points
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.inference.classifier import Classifier
from deepcomp_tf.inference.segmenter import Segmenter

__version__ = "0.1.0"
