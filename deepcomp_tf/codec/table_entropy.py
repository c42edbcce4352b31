"""What an operating point's tables charge for a representation, with a gradient: the rate that files really pay."""

import functools

import numpy as np
import tensorflow as tf

from deepcomp_tf.codec import context

# By about this much a deviation changes when a symbol that it is predicted from changes by 1.
_STEP = context.ONE / 4


class TableEntropy:
  """The differentiable twin of `codec.context.ContextModel`: bits of the symbols, exactly those of `EntropyCoder.bits`.

  The forward pass takes the nearest centers, the same integer predictions and the same tables. The backward pass takes a cost
  that is linear between a symbol and the next of its table, at the place of z between their centers: the mean of what rounding
  costs when noise, uniform over a step, is added to z before. An entry's influence on the symbols that are predicted from it is
  in the gradient, too: a prediction that moves up is an entry that moves down, and the predicted deviation acts by the
  difference between the tables on both sides of that which is taken.

  Args:
    context_model: a `ContextModel`.
    centers: float `[L]`, ascending.
  """

  def __init__(self, context_model, centers):
    self._model, self._centers = context_model, np.asarray(centers, np.float32)
    costs = context_model.costs.reshape(context_model.tables.shape)
    # How much more a symbol costs where the predicted deviation is a little larger, by unit of deviation.
    thresholds = np.asarray(context_model.thresholds, np.float64)
    middles = np.sqrt(np.maximum([*thresholds[:1] / 2, *thresholds], 1.0) * np.maximum([*thresholds, *thresholds[-1:] * 2], 1.0))
    larger, smaller = middles + _STEP, np.maximum(middles - _STEP, 0.0)
    rises = np.zeros_like(costs)
    if len(thresholds):
      at = lambda scales: np.stack([_interpolate(scale, middles, costs) for scale in scales])
      rises = (at(larger) - at(smaller)) / (larger - smaller)[:, None, None]
    self._costs, self._rises = costs.astype(np.float32), rises.astype(np.float32)

  def positions(self, z):
    """Where entries lie among the centers: 0..L-1, float32, linear between neighbouring centers.

    The gradient goes on beyond the outermost centers.
    """
    z = tf.cast(z, tf.float32)
    gaps = np.diff(self._centers)
    below = tf.searchsorted(tf.constant(self._centers[1:-1]), tf.reshape(z, [-1]), side="right")
    below = tf.reshape(below, tf.shape(z))
    exact = tf.cast(below, tf.float32) + (z - tf.gather(self._centers, below)) / tf.gather(gaps, below)
    return exact + tf.stop_gradient(tf.clip_by_value(exact, 0.0, len(self._centers) - 1.0) - exact)

  def __call__(self, z):
    """Bits of each map: float `[batch, h, w, C]` before quantization -> float32 `[batch]`. h and w are static."""
    _, height, width, channels = z.shape
    terms = _terms(self._model, height, width)
    positions = self.positions(z)
    symbols = tf.stop_gradient(_nearest(tf.cast(z, tf.float32), self._centers))
    low, high = -self._model.origin, self._model.num_symbols - 1 - self._model.origin
    flat = lambda x: tf.reshape(tf.transpose(x, [3, 1, 2, 0]), [channels * height * width, -1])
    values, places = flat(symbols) + low, flat(positions) + low  # [N, batch]

    # The tables that a file takes, in exact integers.
    means, scales = terms.predict(values)
    means = tf.cast(means, tf.int32) + context.ONE // 2
    bases = tf.clip_by_value(tf.bitwise.right_shift(means, 10), low, high)
    fractions = tf.bitwise.bitwise_and(means, context.ONE - 1) // (context.ONE // self._model.fractions)
    bins = tf.reshape(tf.searchsorted(tf.constant(self._model.thresholds), tf.reshape(scales, [-1]), side="right"),
                      tf.shape(scales))
    tables = bins * self._model.fractions + fractions
    last = 2 * self._model.num_symbols - 2
    look_up = lambda table, entries: tf.gather(tf.reshape(table, [-1]), tables * (last + 1) + entries)
    offsets = self._model.num_symbols - 1 - bases
    entries = tf.cast(values, tf.int32) + offsets
    costs = look_up(self._costs, entries)

    # What they would charge for a little more or less.
    below = tf.clip_by_value(tf.cast(tf.floor(tf.stop_gradient(places)), tf.int32), low, high - 1) + offsets
    slopes = tf.stop_gradient(look_up(self._costs, below + 1) - look_up(self._costs, below))
    rises = tf.stop_gradient(look_up(self._rises, entries))
    soft_means, soft_scales = terms.predict(places)
    change = slopes * (places - soft_means / context.ONE) + rises * soft_scales
    return tf.reduce_sum(tf.stop_gradient(costs) + (change - tf.stop_gradient(change)), axis=0)


class _Terms:
  """A context model's predictions on maps of a fixed size, as sums over gathered entries.

  Entries are numbered as in `ContextModel.run`, N = C h w of them; number N stands for what is not known and counts as 0.
  """

  def __init__(self, model, height, width):
    area, count = height * width, model.channels * height * width
    places, passes = context.positions(height, width), context.passes_of(height, width)
    flat = [predictor for predictors in model.predictors for predictor in predictors]
    most = [max(1, max(sum(map(bool, p.mean)) for p in flat)), max(1, max(sum(map(bool, p.scale)) for p in flat))]
    self._mean_of, self._mean = np.full([count, most[0]], count, np.int32), np.zeros([count, most[0], 1], np.float32)
    self._scale_of = np.full([2, count, most[1]], count, np.int32)
    self._scale = np.zeros([count, most[1], 1], np.float32)
    self._mean_bias, self._scale_bias = np.zeros([count, 1], np.float32), np.zeros([count, 1], np.float32)
    for channel, predictors in enumerate(model.predictors):
      for index, predictor in enumerate(predictors):
        rows, columns = places[index]
        entries = rows * width + columns + channel * area
        seen = []
        for source, dy, dx in predictor.features:
          there = context.neighbours(rows, columns, dy, dx, height, width)
          seen.append(np.where(passes[there] + source < index + channel, there + source * area, count))
        for term, feature in enumerate(np.flatnonzero(predictor.mean)):
          self._mean_of[entries, term], self._mean[entries, term] = seen[feature], predictor.mean[feature]
        for term, difference in enumerate(np.flatnonzero(predictor.scale)):
          for side, feature in enumerate(predictor.differences[difference]):
            self._scale_of[side, entries, term] = seen[feature] if feature >= 0 else count
          self._scale[entries, term] = predictor.scale[difference]
        self._mean_bias[entries], self._scale_bias[entries] = predictor.mean_bias, predictor.scale_bias

  def predict(self, values):
    """`[N, batch]` symbols minus the origin -> predictions of their values and deviations, `[N, batch]` in units of 1/ONE."""
    known = tf.pad(values, [[0, 1], [0, 0]])
    means = tf.reduce_sum(self._mean * tf.gather(known, self._mean_of), axis=1) + self._mean_bias
    differences = tf.abs(tf.gather(known, self._scale_of[0]) - tf.gather(known, self._scale_of[1]))
    return means, tf.reduce_sum(self._scale * differences, axis=1) + self._scale_bias


_terms = functools.lru_cache(maxsize=4)(_Terms)


def _interpolate(x, places, rows):
  """The row of `rows` `[n, ...]` at x, linear between those at ascending `places` `[n]`, and beyond them the first or last."""
  place = np.interp(x, places, np.arange(len(places)))
  below = min(int(place), len(places) - 2)
  return rows[below] + (place - below) * (rows[below + 1] - rows[below])


def _nearest(z, centers):
  """Numbers of the nearest centers, float32; ties go to the lower center."""
  middles = tf.constant((centers[1:] + centers[:-1]) / 2)
  return tf.cast(tf.reshape(tf.searchsorted(middles, tf.reshape(z, [-1]), side="left"), tf.shape(z)), tf.float32)
