"""What the replicas of a `tf.distribute` strategy exchange, so that they compute as a single device would."""

import tensorflow as tf


def replica_mean(x):
  """Mean of x over the replicas of a strategy, differentiable; x itself outside of a strategy."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return x
  return context.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def mean_over_batch(x, counted=None):
  """Mean of `x` `[batch, ...]` over the examples of the global batch; only over those `counted`, bool `[batch]`, if given."""
  if counted is None:
    return replica_mean(tf.reduce_mean(x, axis=0))
  counted = tf.cast(counted, x.dtype)
  return replica_mean(tf.tensordot(counted, x, 1)) / replica_mean(tf.reduce_sum(counted))


def for_global_batch(make, count):
  """Random numbers for this replica's `count` examples, the same that a single device draws for the whole batch.

  `make` is a function, of a fixed seed, of the number of examples in the global batch that returns `[examples, ...]`; all
  replicas have as many.
  """
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return make(count)
  first = context.replica_id_in_sync_group * count
  return make(context.num_replicas_in_sync * count)[first:first + count]
