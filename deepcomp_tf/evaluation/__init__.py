"""Measuring: rate and distortion, baselines, accuracy, multiply-adds, time."""

from deepcomp_tf.evaluation.complexity import multiply_adds

__all__ = ["multiply_adds"]
