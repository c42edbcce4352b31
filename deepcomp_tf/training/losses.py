"""The training losses of the paper."""

import tensorflow as tf


def rate_distortion(mse, bits_per_symbol, beta, target_entropy):
  """Eq. 1: MSE + beta * max(H - H_t, 0).

  Args:
    mse: mean squared error on the 0..255 scale.
    bits_per_symbol: H, entropy in bits per symbol.
    beta: trade-off; 600 at 0.0983 bpp, 150 at 0.635 bpp (appendix A.8).
    target_entropy: H_t in bits per symbol; 0.8 and 1.265 there.
  """
  return mse + beta * tf.maximum(bits_per_symbol - target_entropy, 0.0)


def with_value_of(x, value):
  """A tensor with the value of `value` and the gradient of x."""
  return tf.stop_gradient(value) + (x - tf.stop_gradient(x))
