"""Inference on the representation: from a file's bytes to classes, without a decoder."""

from deepcomp_tf.inference.classifier import Classifier

__all__ = ["Classifier"]
