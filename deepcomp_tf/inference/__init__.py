"""Inference on the representation: from a file's bytes to classes, without a decoder."""

from deepcomp_tf.inference.classifier import Classifier
from deepcomp_tf.inference.segmenter import Segmenter

__all__ = ["Classifier", "Segmenter"]
