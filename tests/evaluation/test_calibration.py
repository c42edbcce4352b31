"""How far probabilities can be believed, and the temperature that mends them."""

import numpy as np
import pytest
from scipy import special

from deepcomp_tf.evaluation import calibration


def test_temperature_of_examples_that_were_drawn_with_one():
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 3, [20_000, 5])
  probabilities = special.softmax(logits / 1.7, axis=1)
  truth = (rng.random([len(logits), 1]) > np.cumsum(probabilities, axis=1)).sum(axis=1)
  assert calibration.fit_temperature(logits, truth) == pytest.approx(1.7, rel=0.05)
  right = probabilities.argmax(axis=1) == truth
  assert calibration.calibration_error(probabilities.max(axis=1), right) < 0.01
  assert calibration.calibration_error(special.softmax(logits, axis=1).max(axis=1), right) > 0.05


def test_error_by_hand():
  """Two of four right where 0.9 was said, all of two where 0.65 was: (4 * 0.4 + 2 * 0.35) / 6."""
  probabilities, right = np.array([0.9] * 4 + [0.65] * 2), np.array([True, True, False, False, True, True])
  assert calibration.calibration_error(probabilities, right) == pytest.approx((4 * 0.4 + 2 * 0.35) / 6)
