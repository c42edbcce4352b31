"""Optimizers that Keras does not have. The one module that imports tensorflow_addons."""

import tensorflow as tf
import tensorflow_addons as tfa


def two_rates(body, head, learning_rate, head_learning_rate, steps, power=0.9, momentum=0.9, adam=False):
  """SGD, or Adam, with one learning rate for a network's body and another for its head, both falling to 0 as
  (1 - step/steps)^power (appendix A.5).

  Args:
    body, head: built layers or models.
    learning_rate, head_learning_rate: at the start; 0.001 and 0.01 in the paper.
    steps: training steps.
    power, momentum: of the schedule and of SGD.
    adam: whether it is Adam.

  Returns:
    the optimizer, and a dict of its parts to keep in a checkpoint.
  """
  parts = {}
  for name, rate in (("body_optimizer", learning_rate), ("head_optimizer", head_learning_rate)):
    schedule = tf.keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0, power)
    parts[name] = (tf.keras.optimizers.legacy.Adam(schedule) if adam else
                   tf.keras.optimizers.legacy.SGD(schedule, momentum=momentum))
  optimizer = tfa.optimizers.MultiOptimizer([(parts["body_optimizer"], body), (parts["head_optimizer"], head)])
  return optimizer, parts
