"""H(q), the entropy of the symbols' histogram (section 3.1): the paper's measure of rate."""

import math

import tensorflow as tf

from deepcomp_tf.layers.replicas import mean_over_batch


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class HistogramEntropy(tf.keras.layers.Layer):
  """Entropy of the symbols in bits per symbol, from the quantizer's assignments.

  H = -sum_j p_j log2 p_j, where p is the mean of the assignments over batch, positions and channels. With
  the assignments of `Quantizer` the value comes from the hard histogram and the gradient from the soft
  histogram. For a representation with C channels at 1/8 of the image's size, C * H / 64 is the rate in bits
  per pixel. Under `tf.distribute` the histogram is that of the global batch.

  Args:
    per_channel: takes a histogram for each channel and the mean of their entropies, instead of the paper's single
      histogram of all channels.
  """

  def __init__(self, per_channel: bool = False, **kwargs):
    kwargs.setdefault("dtype", "float32")
    super().__init__(**kwargs)
    self.per_channel = per_channel

  def call(self, assignments, counted=None) -> tf.Tensor:
    """The entropy of assignments `[batch, h, w, C, L]`, a scalar in 0..log2(L) bits per symbol.

    `counted`, bool `[batch]`, says the examples whose symbols count; by default all.
    """
    kept = 2 if self.per_channel else 1
    p = tf.reduce_mean(tf.cast(assignments, tf.float32), axis=list(range(1, assignments.shape.rank - kept)))
    p = mean_over_batch(p, counted)
    # 0 log 0 = 0, with a finite gradient for centers that no symbol uses.
    entropy = -tf.reduce_sum(p * tf.math.log(tf.maximum(p, 1e-10)), axis=-1) / math.log(2.0)
    return tf.reduce_mean(entropy)

  def get_config(self):
    return {**super().get_config(), "per_channel": self.per_channel}
