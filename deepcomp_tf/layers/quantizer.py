"""Scalar quantization to learned centers with a soft gradient (section 3.1 and appendix A.1)."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from deepcomp_tf.errors import DeepcompError


class Quantized(NamedTuple):
  """What `Quantizer` returns for z of shape `[..., C]`.

  values: `[..., C]` float32, the nearest center; the gradient is that of the soft value.
  symbols: `[..., C]` int32, index of the nearest center, 0..L-1.
  assignments: `[..., C, L]` float32, one-hot of the symbols; the gradient is that of the soft assignment.
  """
  values: tf.Tensor
  symbols: tf.Tensor
  assignments: tf.Tensor


@tf.keras.utils.register_keras_serializable(package="deepcomp_tf")
class Quantizer(tf.keras.layers.Layer):
  """Replaces every entry of the representation by the nearest of L learned centers c_1..c_L.

  The soft assignment of an entry z is phi = softmax_j(-temperature * (z - c_j)^2) and its soft value is
  sum_j phi_j c_j (Agustsson et al. 2017). The forward pass yields the nearest center, the backward pass the
  gradient of the soft value (appendix A.1's quantizer, which is hard forward and soft backward).

  The centers are shared by all channels and positions. Computation is in float32 under any mixed-precision
  policy: a symbol must not depend on it.

  Args:
    num_centers: L, at least 2 and at most 256, so that a symbol fits in a byte. The paper does not publish L.
    temperature: sigma of the soft assignment; fixed, above 0.
    centers: initial centers, L ascending numbers; by default L equidistant ones within [-2, 2].
    l2: factor of a penalty l2 * sum(c^2) on the centers; the authors' later code uses 0.05 (TensorFlow's
      `l2_loss` times 0.1).
  """

  def __init__(self, num_centers: int = 6, temperature: float = 1.0, centers: Optional[Sequence[float]] = None, l2: float = 0.0,
               **kwargs):
    kwargs.setdefault("dtype", "float32")
    super().__init__(**kwargs)
    if not 2 <= num_centers <= 256:
      raise DeepcompError(f"`num_centers` must be in 2..256. Received: num_centers={num_centers}")
    if not temperature > 0:
      raise DeepcompError(f"`temperature` must be above 0. Received: temperature={temperature}")
    if centers is None:
      centers = np.linspace(-2.0, 2.0, num_centers)
    centers = [float(c) for c in centers]
    if len(centers) != num_centers or sorted(set(centers)) != centers:
      raise DeepcompError(
          f"`centers` must be num_centers={num_centers} ascending numbers. Received: centers={centers}")
    self.num_centers = num_centers
    self.temperature = temperature
    self.initial_centers = centers
    self.l2 = l2
    self.centers = self.add_weight(
        name="centers", shape=[num_centers], dtype="float32",
        initializer=tf.keras.initializers.Constant(centers),
        regularizer=tf.keras.regularizers.L2(l2) if l2 else None)

  def call(self, z) -> Quantized:
    z = tf.cast(z, tf.float32)
    scores = -self.temperature * tf.square(z[..., tf.newaxis] - self.centers)
    # Flat, since oneDNN's softmax, which TensorFlow takes on some processors, has at most five dimensions.
    flat = tf.nn.softmax(tf.reshape(scores, [-1, self.num_centers]))
    soft = tf.ensure_shape(tf.reshape(flat, tf.shape(scores)), scores.shape)
    soft_values = tf.linalg.matvec(soft, self.centers)
    symbols = self.symbols(z)
    hard = tf.one_hot(symbols, self.num_centers)
    hard_values = tf.gather(self.centers, symbols)
    return Quantized(
        values=_forward_backward(hard_values, soft_values),
        symbols=symbols,
        assignments=_forward_backward(hard, soft))

  def symbols(self, z) -> tf.Tensor:
    """Index of the nearest center for every entry of z (any shape), int32; ties go to the lower center."""
    order = tf.argsort(self.centers, stable=True)
    ordered = tf.gather(self.centers, order)
    middles = (ordered[1:] + ordered[:-1]) / 2.0
    flat = tf.reshape(tf.cast(z, tf.float32), [-1])
    rank = tf.searchsorted(middles, flat, side="left")
    return tf.reshape(tf.gather(order, rank), tf.shape(z))

  def values(self, symbols) -> tf.Tensor:
    """The centers that integer symbols 0..L-1 stand for, float32 of the same shape."""
    return tf.gather(self.centers, tf.cast(symbols, tf.int32))

  def get_config(self):
    return {**super().get_config(), "num_centers": self.num_centers, "temperature": self.temperature,
            "centers": self.initial_centers, "l2": self.l2}


def _forward_backward(forward, backward):
  """A tensor with exactly the value of `forward` and the gradient of `backward`."""
  return tf.stop_gradient(forward) + (backward - tf.stop_gradient(backward))
