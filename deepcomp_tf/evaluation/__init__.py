"""Measuring: rate and distortion, baselines, accuracy, multiply-adds, time."""
