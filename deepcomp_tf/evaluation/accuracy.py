"""Top-1 and top-5 accuracy of classification networks."""

import tensorflow as tf


def evaluate(network, crops, examples, batch_size, labels=None):
  """Accuracy of a network on the center crops of a set.

  Args:
    network: function of (float32 input, training) that returns logits.
    crops: `data.classification.Crops`.
    examples: `data.classification.Examples`.
    batch_size: examples at a time.
    labels: None, or int `[classes of the set]`: the network's label for each of the set's.

  Returns:
    dict of top_1, top_5 and cross_entropy (nats) over all examples that can be decoded, and their number `examples`.
  """
  top_1 = tf.keras.metrics.SparseCategoricalAccuracy()
  top_5 = tf.keras.metrics.SparseTopKCategoricalAccuracy(5)
  cross_entropy = tf.keras.metrics.SparseCategoricalCrossentropy(from_logits=True)

  batches = crops.evaluation_batches(examples, batch_size)

  @tf.function(input_signature=[batches.element_spec[0]], jit_compile=False)
  def forward(stored):
    return network(crops.on_device(stored), training=False)

  count = 0
  for stored, truth in batches:
    logits = forward(stored)
    if labels is not None:
      truth = tf.gather(labels, truth)
    for metric in (top_1, top_5, cross_entropy):
      metric.update_state(truth, logits)
    count += int(truth.shape[0])
  return {"top_1": float(top_1.result()), "top_5": float(top_5.result()),
          "cross_entropy": float(cross_entropy.result()), "examples": count}
