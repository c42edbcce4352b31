"""How often a network answers as a teacher does on the original photo, and what either costs."""

import tensorflow as tf

from deepcomp_tf.evaluation.accuracy import accuracies
from deepcomp_tf.evaluation.accuracy import totals_of
from deepcomp_tf.evaluation.complexity import multiply_adds
from deepcomp_tf.models import Graft
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.tasks import halving


def measure(network, inputs, answers, batch_size=32):
  """Agreement of a graft, or of a whole backbone, with its teacher on whole photos, whose representations are halved where they are
  stored at twice the size.

  Args:
    network: a `models.Graft` or `models.Backbone`.
    inputs: its `codec.inputs.NetworkInput`.
    answers: `data.answers.Answers`.
    batch_size: photos at a time.

  Returns:
    dict as of `of_answers`, with map_error: squared, over the maps' variance.
  """
  def figures_of(stored, maps, logits):
    found = network.maps(halving.input_for(inputs, stored, maps))
    error = tf.math.squared_difference(network.standardized(maps), found)
    return {**_compare(network.behind(found, training=False), logits), "map_error": tf.reduce_mean(error, axis=[1, 2, 3])}

  return _means(figures_of, answers, batch_size)


def costs(network, model, backbone, size):
  """Multiply-adds for a photo of size x size pixels.

  Args:
    network: a `models.Graft`, or a `models.Backbone` on decoded pixels.
    model: the `models.CompressionModel` of its operating point.
    backbone: the `models.Backbone` that it is compared with.
    size: edge of the photo in pixels, a multiple of 8.

  Returns:
    those from symbols to classes, of the decoder, and of the whole backbone.
  """
  symbols = (size // STRIDE, size // STRIDE, model.channels)
  decoder, whole = multiply_adds(model.decoder, symbols), multiply_adds(backbone, (size, size, 3))
  return multiply_adds(network, symbols) if isinstance(network, Graft) else decoder + whole, decoder, whole


def of_answers(answer, answers, batch_size=32):
  """Agreement of another network's answers with a teacher's on whole photos.

  Args:
    answer: function of what `answers` has stored that returns logits.
    answers, batch_size: as of `measure`.

  Returns:
    dict of top_1 (its first class is the teacher's), top_5 (the teacher's is among its first five) and cross_entropy (nats, with
    the teacher's first class), means over the photos, and their number `photos`.
  """
  return _means(lambda symbols, _, logits: _compare(answer(symbols), logits), answers, batch_size)


def _compare(found, teacher_logits):
  """Accuracies by photo; of networks that segment, means over the positions."""
  figures = accuracies(tf.reshape(found, [-1, found.shape[-1]]), tf.reshape(tf.argmax(teacher_logits, axis=-1), [-1]))
  return {name: tf.reduce_mean(tf.reshape(tf.cast(values, tf.float32), [tf.shape(found)[0], -1]), axis=1)
          for name, values in figures.items()}


def _means(figures_of, answers, batch_size):
  @tf.function(jit_compile=False)
  def sums_of(*batch):
    return {name: tf.reduce_sum(tf.cast(values, tf.float64)) for name, values in figures_of(*batch).items()}

  totals = totals_of(sums_of, answers.whole_batches(batch_size))
  return {**{name: total / len(answers) for name, total in totals.items()}, "photos": len(answers)}
