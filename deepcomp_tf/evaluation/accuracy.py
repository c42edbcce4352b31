"""Top-1 and top-5 accuracy of classification networks."""

import numpy as np
import tensorflow as tf

from deepcomp_tf.data.part import distribute
from deepcomp_tf.errors import DeepcompError


def evaluator(network, crops, examples, batch_size, labels=None, strategy=None):
  """A function that measures the accuracy of a network on the center crops of a set; traced once, called as often as wanted.

  A strategy's replicas share the examples.

  Args:
    network: function of (float32 input, training) that returns logits.
    crops: `data.crops.Crops`.
    examples: `data.classification.Examples`.
    batch_size: examples at a time, of all replicas together.
    labels: None, or int `[classes of the set]`: the network's label for each of the set's.
    strategy: of `tf.distribute`; None for a single device.

  Returns:
    function without arguments that returns a dict of top_1, top_5 and cross_entropy (nats) over all examples that can be
    decoded, and their number `examples`. It raises a DeepcompError where none can be decoded.
  """
  def figures_of(stored, truth, counted):
    del counted
    logits = network(crops.on_device(stored), training=False)
    return accuracies(logits, truth if labels is None else tf.gather(labels, truth))

  return means_over(figures_of, crops, examples, batch_size, strategy)


def predictions(network, crops, examples, batch_size):
  """What a network answers on the center crops of a set.

  Arguments are as of `evaluator`. Returns the logits of each example that can be decoded, float32 `[n, classes]`, and the
  examples' labels in the set, int `[n]`.
  """
  @tf.function(jit_compile=False)
  def logits(stored):
    return tf.cast(network(crops.on_device(stored), training=False), tf.float32)

  answers = [(logits(stored).numpy(), truth.numpy()) for stored, truth in crops.evaluation_batches(examples, batch_size)
             if tf.size(truth)]
  if not answers:
    raise DeepcompError(f"expected examples of {examples.source.name} that can be decoded. Received: none")
  return tuple(map(np.concatenate, zip(*answers)))


def by_class(best, truth):
  """Figures of each class: list of dicts of examples, top_1, top_5, and taken_for, dict of int by other classes, the most first.

  Args:
    best: int `[n, k]`, a network's classes of each example, the most probable first.
    truth: int `[n]`, its label among the network's classes.

  Returns:
    dict of these by the classes that there are examples of.
  """
  figures = {}
  for label in sorted(set(truth.tolist())):
    answers = best[truth == label]
    others, counts = np.unique(answers[:, 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    figures[label] = {
        "examples": len(answers), "top_1": float(np.mean(answers[:, 0] == label)),
        "top_5": float(np.mean(np.any(answers == label, axis=1))),
        "taken_for": {int(others[k]): int(counts[k]) for k in order if others[k] != label}}
  return figures


def accuracies(logits, truth):
  """Logits `[batch, num_classes]` and labels `[batch]` -> dict of top_1, top_5 and cross_entropy, `[batch]` each."""
  return {"top_1": tf.math.in_top_k(truth, logits, 1), "top_5": tf.math.in_top_k(truth, logits, 5),
          "cross_entropy": tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)}


def means_over(figures_of, crops, examples, batch_size, strategy=None):
  """A function that measures the means of figures over the center crops of a set.

  Args:
    figures_of: function of a batch as it is stored, its labels, and which of its examples count (bool `[batch]`; the others
      fill it up), that returns a dict of figures, `[batch]` each.
    crops, examples, batch_size, strategy: as of `evaluator`.

  Returns:
    function without arguments that returns a dict of the means, and the number of `examples`.
  """
  strategy = strategy or tf.distribute.get_strategy()

  def replica_sums(stored, truth, counted):
    figures = {**figures_of(stored, truth, counted), "examples": counted}
    return {name: tf.reduce_sum(tf.where(counted, tf.cast(values, tf.float64), 0.0)) for name, values in figures.items()}

  @tf.function(jit_compile=False)
  def sums_of(stored, truth, counted):
    sums = strategy.run(replica_sums, args=(stored, truth, counted))
    return {name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for name, value in sums.items()}

  batches = distribute(strategy, lambda part: _part_of_batches(crops, examples, batch_size, part), batch_size)

  def measure():
    totals = totals_of(sums_of, batches)
    count = int(totals.pop("examples", 0))
    if not count:
      raise DeepcompError(f"expected examples of {examples.source.name} that can be decoded. Received: none")
    return {**{name: total / count for name, total in totals.items()}, "examples": count}

  return measure


def totals_of(sums_of, batches):
  """The sums over all batches of a function's dict of scalars, a dict of floats."""
  totals = {}
  for batch in batches:
    totals = {name: totals.get(name, 0.0) + float(value) for name, value in sums_of(*batch).items()}
  return totals


def _part_of_batches(crops, examples, batch_size, part):
  """A worker's part of the batches, all of them filled up: (stored, labels, which examples count)."""
  size = batch_size // part.parts

  def fill(stored, truth):
    count = tf.shape(truth)[0]
    times = tf.concat([tf.ones([count - 1], tf.int32), [size - count + 1]], 0)
    filled = lambda x: tf.ensure_shape(tf.repeat(x, times, axis=0), [size, *x.shape[1:]])
    return tf.nest.map_structure(filled, stored), filled(truth), tf.range(size) < count

  full = lambda dataset: dataset.filter(lambda _, truth: tf.size(truth) > 0).map(fill)
  batches = full(crops.evaluation_batches(examples, batch_size, part))
  # Where a worker has none left and others do, it takes the first ones, which do not count.
  others = full(crops.evaluation_batches(examples, size)).take(1).repeat()
  nothing = lambda stored, truth, counted: (stored, truth, tf.zeros_like(counted))
  return batches.concatenate(others.map(nothing)).take(-(-len(examples) // batch_size))
