"""How far a classifier's probabilities can be believed, and the temperature that mends them (Guo et al. 2017, "On calibration of
modern neural networks")."""

import numpy as np
from scipy import optimize
from scipy import special

_BINS = 10


def calibration_error(probabilities, right):
  """Expected calibration error: how far, on average, the share of right answers is from what they are said to be, 0..1.

  Args:
    probabilities: float `[n]`, of each example's most probable class.
    right: bool `[n]`, whether that is its class.

  Returns:
    the mean, over ten equal intervals of the probability, weighted by their examples.
  """
  interval = np.minimum((np.asarray(probabilities) * _BINS).astype(int), _BINS - 1)
  return sum(np.mean(interval == number) * abs(np.mean(probabilities[interval == number]) - np.mean(right[interval == number]))
             for number in np.unique(interval))


def fit_temperature(logits, truth):
  """The number that logits are divided by so that the probabilities of the true classes are largest, by their cross entropy.

  Args:
    logits: float `[n, classes]`.
    truth: int `[n]`.
  """
  logits = np.asarray(logits, np.float64)
  cross_entropy = lambda log: -np.mean(
      special.log_softmax(logits / np.exp(log), axis=1)[np.arange(len(truth)), truth])
  return float(np.exp(optimize.minimize_scalar(cross_entropy, bounds=np.log([0.05, 20]), method="bounded").x))
