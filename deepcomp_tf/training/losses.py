"""The training losses of the paper; Eq. 1 itself is `models.compression.rate_distortion`."""

import functools

import numpy as np
import tensorflow as tf

from deepcomp_tf.layers.replicas import replica_mean
from deepcomp_tf.models.compression import rate_distortion


def settled_rate_distortion(mse, bits_per_symbol, beta, target_entropy, weight, step):
  """Eq. 1, or, with a step above 0, its form whose weight of the rate term settles.

  Args:
    mse, bits_per_symbol, beta, target_entropy: as of `rate_distortion`.
    weight, step: as of `follow_rate`.
  """
  if not step:
    return rate_distortion(mse, bits_per_symbol, beta, target_entropy)
  return mse + follow_rate(weight, bits_per_symbol, beta, target_entropy, step) * (bits_per_symbol - target_entropy)


def joint(rate_distortion_loss, cross_entropy, gamma):
  """Eq. 2: gamma * (MSE + beta * max(H - H_t, 0)) + cross entropy.

  Args:
    rate_distortion_loss: of Eq. 1.
    cross_entropy: of the classifier, in nats.
    gamma: trade-off; 0.001 (appendix A.8).
  """
  return gamma * rate_distortion_loss + cross_entropy


def follow_rate(weight, bits_per_symbol, beta, target_entropy, step):
  """Moves the weight of the rate term towards where H = H_t: by step * (H - H_t), within 0..beta.

  Eq. 1 has a kink at H = H_t, and there it ends: any weight between 0 and beta is a subgradient of its rate term.
  Switching between the two from batch to batch makes the rate oscillate; this weight settles.

  Args:
    weight: scalar variable, updated.
    bits_per_symbol, beta, target_entropy: as in `rate_distortion`.
    step: per training step.

  Returns:
    the new weight, without a gradient.
  """
  moved = weight + step * (tf.stop_gradient(bits_per_symbol) - target_entropy)
  return weight.assign(tf.clip_by_value(moved, 0.0, beta), read_value=True)


def weight_decay(network, factor):
  """TF-Slim's L2 penalty: factor / 2 * sum of squares of all kernels; batch normalization and biases are left out.

  Args:
    network: one with `named_variables`.
    factor: weight decay, 1e-4 for classification (appendix A.4). Keras' `l2(x)` has no half.
  """
  kernels = [variable for name, variable in network.named_variables().items() if name.endswith("kernel")]
  return factor * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(kernel)) for kernel in kernels])


def soft_cross_entropy(teacher_logits, logits, temperature):
  """Kullback-Leibler divergence of a network's softened answers from a teacher's, times temperature^2 (Hinton et al. 2015).

  Args:
    teacher_logits, logits: `[batch, num_classes]`.
    temperature: that both are divided by.

  Returns:
    `[batch]`, in nats; 0 where the answers are the same.
  """
  aim, log_aim = tf.nn.softmax(teacher_logits / temperature), tf.nn.log_softmax(teacher_logits / temperature)
  return temperature ** 2 * tf.reduce_sum(aim * (log_aim - tf.nn.log_softmax(logits / temperature)), axis=-1)


# Weights of MS-SSIM's scales, the finest first (Wang et al. 2003); of fewer scales, they are divided by their sum.
_MS_SSIM_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _WINDOW_DEVIATION = 11, 1.5

# Correlations of a scale are taken at least at this before they are raised to a power below 1, of which the gradient at 0 is
# infinite.
_SMALLEST_CORRELATION = 1e-3


def smallest_ms_ssim(scales=3):
  """Shorter side in pixels that MS-SSIM of so many scales takes: the window of 11 pixels has to fit into the last."""
  return _WINDOW << (scales - 1)


def ssim_and_ms_ssim(image, target, scales=3):
  """Mean SSIM, and mean MS-SSIM of the finest scales, for crops too small for all five: those of TensorFlow, in half of its time.

  Gaussian windows are products with two banded matrices.

  Args:
    image, target: float `[batch, h, w, 3]` pixels on the 0..255 scale, h and w static, multiples of 2^(scales - 1) and at least
      `smallest_ms_ssim(scales)`.
    scales: 2..5.

  Returns:
    two scalars.
  """
  planes = tf.transpose(tf.stack([image, target]), [0, 1, 4, 2, 3])
  correlations, ssim = [], None
  weights = np.array(_MS_SSIM_SCALES[:scales]) / sum(_MS_SSIM_SCALES[:scales])
  for scale in range(scales):
    if scale:
      shape = planes.shape
      halves = tf.reshape(planes, [2, -1, shape[2], shape[3] // 2, 2, shape[4] // 2, 2])
      planes = tf.ensure_shape(tf.reduce_mean(halves, axis=[4, 6]), [*shape[:3], shape[3] // 2, shape[4] // 2])
    luminance, structure = _similarities(*tf.unstack(planes))
    both = tf.reduce_mean(luminance * structure, axis=[2, 3])
    ssim = both if ssim is None else ssim
    correlations.append(both if scale + 1 == scales else tf.reduce_mean(structure, axis=[2, 3]))
  powers = [tf.maximum(part, _SMALLEST_CORRELATION) ** weight for part, weight in zip(correlations, weights)]
  return tf.reduce_mean(ssim), tf.reduce_mean(functools.reduce(tf.multiply, powers))


def ms_ssim(image, target):
  """The second of `ssim_and_ms_ssim`."""
  return ssim_and_ms_ssim(image, target)[1]


def _similarities(image, target):
  """SSIM's two factors, of luminance and of contrast and structure, for planes `[batch, channels, h, w]`: `[..., h-10, w-10]`."""
  rows, columns = (_window_matrix(side) for side in image.shape[2:])
  blurred = lambda x: tf.linalg.matmul(tf.linalg.matmul(rows, x), columns, transpose_b=True)
  mean, mean_target = blurred(image), blurred(target)
  product, squares = 2.0 * mean * mean_target, tf.square(mean) + tf.square(mean_target)
  luminance = (product + 2.55 ** 2) / (squares + 2.55 ** 2)
  structure = ((2.0 * blurred(image * target) - product + 7.65 ** 2)
               / (blurred(tf.square(image) + tf.square(target)) - squares + 7.65 ** 2))
  return luminance, structure


@functools.lru_cache(maxsize=16)
def _window_matrix(size):
  """`[size - 10, size]`: the Gaussian window of 11 pixels at each of its places."""
  window = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _WINDOW_DEVIATION) ** 2)
  matrix = np.zeros([size - _WINDOW + 1, size], np.float32)
  for place, row in enumerate(matrix):
    row[place:place + _WINDOW] = window / window.sum()
  return matrix


def masked_cross_entropy(labels, logits, void):
  """Mean cross entropy over the positions whose label is not void; 0 where all are.

  Under `tf.distribute` the mean over the replicas is that over the positions of the global batch.

  Args:
    labels: int `[batch, h, w]`.
    logits: `[batch, h, w, K]`.
    void: the label that is left out.
  """
  counts = labels != void
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(counts, labels, 0), logits)
  counts = tf.cast(counts, losses.dtype)
  return tf.math.divide_no_nan(tf.reduce_sum(losses * counts), replica_mean(tf.reduce_sum(counts)))
