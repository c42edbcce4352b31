"""What the tasks train for: small functions; Eq. 1 itself is `models.compression.rate_distortion`."""

import tensorflow as tf

from deepcomp_tf.layers.replicas import replica_mean
from deepcomp_tf.models.compression import rate_distortion


def settled_rate_distortion(mse, bits_per_symbol, beta, target_entropy, weight, step):
  """Eq. 1, or, with a step above 0, its form whose weight of the rate term settles; see `rate_distortion` and `follow_rate`."""
  if not step:
    return rate_distortion(mse, bits_per_symbol, beta, target_entropy)
  return mse + follow_rate(weight, bits_per_symbol, beta, target_entropy, step) * (bits_per_symbol - target_entropy)


def classification(labels, logits):
  """What classifiers are trained for, and how often they are right: dict of cross_entropy, in nats, and top_1, scalars.

  Labels are int64 `[batch]`, logits `[batch, num_classes]`.
  """
  return {"cross_entropy": tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)),
          "top_1": tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, -1), labels), tf.float32))}


def joint(rate_distortion_loss, cross_entropy, gamma):
  """Eq. 2: gamma * (MSE + beta * max(H - H_t, 0)) + cross entropy, of Eq. 1's loss and nats; gamma is 0.001 (appendix A.8)."""
  return gamma * rate_distortion_loss + cross_entropy


def follow_rate(weight, bits_per_symbol, beta, target_entropy, step):
  """Moves the weight of the rate term, a scalar variable, by step * (H - H_t), within 0..beta; gives it, without a gradient.

  Eq. 1 has a kink at H = H_t, and there it ends: any weight between 0 and beta is a subgradient of its rate term.
  Switching between the two from batch to batch makes the rate oscillate; this weight settles.
  """
  moved = weight + step * (tf.stop_gradient(bits_per_symbol) - target_entropy)
  return weight.assign(tf.clip_by_value(moved, 0.0, beta), read_value=True)


def weight_decay(network, factor):
  """TF-Slim's L2 penalty: factor / 2 * sum of squares of all kernels; batch normalization and biases are left out.

  The factor is 1e-4 for classification (appendix A.4). Keras' `l2(x)` has no half.
  """
  kernels = [variable for name, variable in network.named_variables().items() if name.endswith("kernel")]
  return factor * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(kernel)) for kernel in kernels])


def soft_cross_entropy(teacher_logits, logits, temperature):
  """Kullback-Leibler divergence of a network's answers from a teacher's, both softened by a temperature, times its square.

  Hinton et al. 2015. Logits `[batch, num_classes]` -> `[batch]`, in nats; 0 where the answers are the same.
  """
  aim, log_aim = tf.nn.softmax(teacher_logits / temperature), tf.nn.log_softmax(teacher_logits / temperature)
  return temperature ** 2 * tf.reduce_sum(aim * (log_aim - tf.nn.log_softmax(logits / temperature)), axis=-1)


def map_error(network, teacher_maps, maps):
  """Mean squared error of a graft's maps, over the variance of its teacher's; both `[batch, h, w, K]`.

  The network, a `models.Graft` or `models.Backbone`, knows the statistics of the teacher's maps; the graft's are standardized.
  """
  return tf.reduce_mean(tf.math.squared_difference(network.standardized(teacher_maps), maps))


def vector_error(teacher_vectors, vectors):
  """Mean squared error of what the last layer sees, over the variance of its teacher's in the batch;
  both float32 `[batch, K]`."""
  variance = tf.math.reduce_variance(teacher_vectors, axis=0)
  return tf.reduce_mean(tf.math.squared_difference(teacher_vectors, vectors)) / tf.reduce_mean(variance)


def distillation(teacher_logits, logits, temperature):
  """What makes a network answer as its teacher does: dict of divergence, in nats, and agreement of the first classes, scalars."""
  same = tf.equal(tf.argmax(logits, -1), tf.argmax(teacher_logits, -1))
  return {"divergence": tf.reduce_mean(soft_cross_entropy(teacher_logits, logits, temperature)),
          "agreement": tf.reduce_mean(tf.cast(same, tf.float32))}


def masked_cross_entropy(labels, logits, void):
  """Mean cross entropy over the positions whose label is not void; 0 where all are.

  Labels are int `[batch, h, w]`, logits `[batch, h, w, K]`. Under `tf.distribute` the mean over the replicas is that over the
  positions of the global batch.
  """
  counts = labels != void
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(counts, labels, 0), logits)
  counts = tf.cast(counts, losses.dtype)
  return tf.math.divide_no_nan(tf.reduce_sum(losses * counts), replica_mean(tf.reduce_sum(counts)))
