"""Batch normalization as TF-Slim has it: one fused operation, under Keras 2 and Keras 3."""

import tensorflow as tf

from deepcomp_tf.keras_version import KERAS_3

MOMENTUM, EPSILON = 0.997, 1e-5


def batch_norm(synchronized=False, **kwargs):
  """Batch normalization with TF-Slim's settings for ResNets (`resnet_arg_scope`).

  With `synchronized` training takes the statistics of the global batch; by default every replica takes those of its part.
  """
  if synchronized:
    return tf.keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, synchronized=True, **kwargs)
  return BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, **kwargs)


if KERAS_3:

  @tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
  class BatchNormalization(tf.keras.layers.BatchNormalization):
    """Keras 3's batch normalization of `[batch, h, w, c]`, computed by TensorFlow's fused operation.

    Keras 3 takes a product, a sum and a square root apart, which TensorFlow cannot fold into a convolution; Keras 2 fuses
    by itself.
    """

    def call(self, inputs, training=None, mask=None):
      del mask
      training = bool(training and self.trainable)
      statistics = {} if training else {"mean": self.moving_mean, "variance": self.moving_variance}
      result, mean, variance = tf.compat.v1.nn.fused_batch_norm(
          inputs, tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta), epsilon=self.epsilon,
          is_training=training, **{name: tf.convert_to_tensor(value) for name, value in statistics.items()})
      if training:
        for running, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
          running.assign(running * self.momentum + batch * (1.0 - self.momentum))
      return result

else:
  BatchNormalization = tf.keras.layers.BatchNormalization
