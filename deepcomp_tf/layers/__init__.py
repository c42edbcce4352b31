"""Keras layers of the paper, one concept a file."""

from deepcomp_tf import keras_version  # whose errors come before Keras' own  # pylint: disable=unused-import
from deepcomp_tf.layers.aspp import AtrousSpatialPyramidPooling
from deepcomp_tf.layers.batch_norm import batch_norm
from deepcomp_tf.layers.bottleneck import Bottleneck
from deepcomp_tf.layers.context_entropy import ContextEntropy
from deepcomp_tf.layers.entropy import HistogramEntropy
from deepcomp_tf.layers.quantizer import Quantized
from deepcomp_tf.layers.quantizer import Quantizer
from deepcomp_tf.layers.replicas import replica_mean
from deepcomp_tf.layers.residual import ResidualUnit

__all__ = ["AtrousSpatialPyramidPooling", "Bottleneck", "ContextEntropy", "HistogramEntropy", "Quantized", "Quantizer",
           "ResidualUnit", "batch_norm", "replica_mean"]
