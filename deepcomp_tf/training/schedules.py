"""Learning-rate schedules that Keras does not have."""

import math

import tensorflow as tf


def divided_by_10(learning_rate, epochs, steps_per_epoch):
  """The learning rate divided by 10 after each of some epochs (appendix A.4, A.8): a schedule, or the rate if there are
  none.
  """
  if not epochs:
    return learning_rate
  return tf.keras.optimizers.schedules.PiecewiseConstantDecay(
      [epoch * steps_per_epoch - 1 for epoch in epochs], [learning_rate / 10 ** i for i in range(len(epochs) + 1)])


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class WarmupCosine(tf.keras.optimizers.schedules.LearningRateSchedule):
  """Rises linearly from 0 to `peak` over `warmup` steps, then falls along half a cosine to `peak * final` at `steps`."""

  def __init__(self, peak, steps, warmup=0, final=0.01):
    self.peak, self.steps, self.warmup, self.final = peak, steps, warmup, final

  def __call__(self, step):
    step = tf.cast(step, tf.float32)
    rise = tf.minimum(1.0, (step + 1.0) / max(1.0, self.warmup))
    progress = tf.clip_by_value((step - self.warmup) / max(1.0, self.steps - self.warmup), 0.0, 1.0)
    fall = self.final + (1.0 - self.final) * 0.5 * (1.0 + tf.cos(math.pi * progress))
    return self.peak * rise * fall

  def get_config(self):
    return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup, "final": self.final}
