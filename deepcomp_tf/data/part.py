"""The part of each batch that a worker reads: `Part`, and batches dealt out to the replicas of a strategy."""

from typing import NamedTuple

from deepcomp_tf.errors import DeepcompError


class Part(NamedTuple):
  """Part `number` of `parts` equal ones."""
  number: int
  parts: int

  def of(self, count):
    """(begin, end) of this part of `count` things in a row."""
    return count * self.number // self.parts, count * (self.number + 1) // self.parts

  def has(self, number, batch_size):
    """Whether example `number` of a run, an int or a tensor, is in this part of its batch."""
    begin, end = self.of(batch_size)
    return (begin <= number % batch_size) & (number % batch_size < end)


WHOLE = Part(0, 1)


def distribute(strategy, make_dataset, batch_size):
  """Global batches dealt out to the replicas of a `tf.distribute` strategy, of which every worker reads its part.

  `make_dataset` is a function of a `Part` that returns the data set of that part of every batch. The batch size must divide among
  the replicas.
  """
  replicas = strategy.num_replicas_in_sync
  if batch_size % replicas:
    raise DeepcompError(f"expected a batch size that is a multiple of the {replicas} replicas. Received: {batch_size}")
  if replicas == 1:
    return make_dataset(WHOLE)
  return strategy.distribute_datasets_from_function(
      lambda context: make_dataset(Part(context.input_pipeline_id, context.num_input_pipelines))
      .rebatch(batch_size // replicas))
