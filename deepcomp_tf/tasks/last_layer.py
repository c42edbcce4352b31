"""Teaching a network's last layer other classes: `fit`."""

import numpy as np
import tensorflow as tf

BATCH = 1024


def fit(layer, vectors, labels, steps=600, learning_rate=0.01, weight_decay=0.01, seed=0):
  """Trains a dense layer alone: a softmax regression, by Adam, on all vectors or on `BATCH` of them at a time.

  Args:
    layer: the network's `last_layer`, built, which is changed.
    vectors: float32 `[n, channels]`, what the layer sees of each photo. They are brought to a mean square of 1,
      so that the settings serve any network.
    labels: int `[n]`.
    steps: of Adam, at a learning rate that falls along a cosine.
    weight_decay: of the layer's kernel, in units of the scaled vectors.
    seed: of the order of the vectors.

  Returns:
    the loss at the end, in nats.
  """
  scale = 1.0 / max(float(np.sqrt(np.mean(np.square(vectors, dtype=np.float64)))), 1e-9)
  kernel, bias = (tf.Variable(tf.zeros(weight.shape)) for weight in layer.get_weights())
  optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(learning_rate, steps))
  optimizer.build([kernel, bias])

  @tf.function(jit_compile=False)
  def step(x, truth):
    with tf.GradientTape() as tape:
      errors = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, x @ kernel + bias)
      loss = tf.reduce_mean(errors) + weight_decay * tf.nn.l2_loss(kernel)
    optimizer.apply_gradients(zip(tape.gradient(loss, [kernel, bias]), [kernel, bias]))
    return loss

  x, truth = tf.constant(vectors * np.float32(scale)), tf.constant(labels, tf.int64)
  order, count = np.random.default_rng(seed), len(vectors)
  for _ in range(steps):
    chosen = order.choice(count, BATCH, replace=False) if count > BATCH else None
    loss = step(x, truth) if chosen is None else step(tf.gather(x, chosen), tf.gather(truth, chosen))
  layer.set_weights([kernel.numpy() * scale, bias.numpy()])
  return float(loss)
