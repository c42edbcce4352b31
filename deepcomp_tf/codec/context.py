"""Context model of the symbols, in integers only.

Each symbol is coded with a probability table, out of a few dozen. The symbols decoded before choose which, by
predictions of its value and of its deviation, both linear with fixed integer coefficients. Nothing here depends on
floating-point rounding (sums of integers below 2^24 are exact in float32 in any order), so every machine chooses the same
tables.

Order. Each channel's map is coded coarse to fine in seven passes: the grid of every 8th position, then, per
halving of the grid, the positions amid four known diagonal neighbours, then those amid four known cross
neighbours. Channel c runs one pass behind channel c-1: in stage t the pairs (channel c, pass t-c) are coded
together, channels + 6 stages in all. Of the earlier channels a symbol thus sees the same position and what is
known around it.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from deepcomp_tf.errors import DeepcompError

# Per pass: grid spacing, where on that grid its positions lie, and how far its nearest known neighbours are.
PASSES = (
    (8, ((0, 0),), 8),
    (8, ((4, 4),), 4), (8, ((0, 4), (4, 0)), 4),
    (4, ((2, 2),), 2), (4, ((0, 2), (2, 0)), 2),
    (2, ((1, 1),), 1), (2, ((0, 1), (1, 0)), 1),
)

# Predictions are in units of 1/ONE of a symbol.
_ONE_BITS = 10
ONE = 1 << _ONE_BITS

# Neighbourhoods are kept for the last few map sizes, and only of maps of at most this many positions.
CACHED_SIZES = 2
CACHED_POSITIONS = 8192

# Counts of a table sum to this, so that its probabilities are exact in floating point.
TABLE_TOTAL = 1 << 20

# No symbol costs less than -log2(1 - 2^-10) = 0.0014 bits. That bounds the symbols that a payload can hold.
LARGEST_COUNT = TABLE_TOTAL - (TABLE_TOTAL >> 10)
SMALLEST_COST = 0.0014

# Of the four nearest known neighbours, the pairs whose difference tells of edges.
SPREAD_PAIRS = ((0, 3), (1, 2), (0, 1), (0, 2), (1, 3), (2, 3))


def own_offsets(pass_index):
  """Offsets (dy, dx) of known symbols in the same channel, nearest first; the first four surround the position."""
  unit = PASSES[pass_index][2]
  if pass_index == 0:
    return []
  if pass_index % 2:
    near = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    far = [(dy, dx) for dy in (-3, -1, 1, 3) for dx in (-3, -1, 1, 3) if abs(dy) + abs(dx) == 4]
  else:
    near = [(-1, 0), (0, -1), (0, 1), (1, 0)]
    far = [(dy, dx) for dy in (-2, -1, 1, 2) for dx in (-2, -1, 1, 2) if abs(dy) + abs(dx) == 3]
    far += [(-3, 0), (0, -3), (0, 3), (3, 0)]
  return [(dy * unit, dx * unit) for dy, dx in near + far]


def earlier_offsets(pass_index):
  """Offsets (dy, dx) looked at in earlier channels, the position itself first."""
  units = sorted({1, PASSES[pass_index][2]})
  around = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
  return [(0, 0)] + [(dy * unit, dx * unit) for unit in units for dy, dx in around]


@functools.lru_cache(maxsize=8)
def positions(height, width):
  """Per pass, the rows and columns `[n]` of its positions on a map of `height` x `width`."""
  result = []
  for spacing, starts, _ in PASSES:
    grids = [np.meshgrid(np.arange(y, height, spacing), np.arange(x, width, spacing), indexing="ij")
             for y, x in starts]
    result.append(tuple(np.concatenate([grid[axis].ravel() for grid in grids]) for axis in (0, 1)))
  return result


def passes_of(height, width):
  """`[height * width]` int32: the pass that codes each position."""
  passes = np.empty(height * width, np.int32)
  for index, (rows, columns) in enumerate(positions(height, width)):
    passes[rows * width + columns] = index
  return passes


def neighbours(rows, columns, dy, dx, height, width):
  """Flat positions at an offset from given ones.

  A neighbour outside of the map is mirrored at the edge; where its mirror image is outside, too, the position
  itself takes its place (it is not known yet and counts as 0).
  """
  return _mirrored(rows, dy, height) * width + _mirrored(columns, dx, width)


def _mirrored(at, offset, size):
  if not offset:
    return at
  there = np.abs(at + offset)
  there = np.where(there >= size, 2 * (size - 1) - there, there)
  return np.where((there < 0) | (there >= size), at, there)


class Predictor(NamedTuple):
  """Integer coefficients of a (channel, pass); M symbols are looked at, K magnitudes are formed.

  features: M triples (channel, dy, dx).
  mean: `[M]`; the value's prediction is (mean . features + mean_bias) / ONE.
  differences: K pairs (i, j) of features, j = -1 for none; the magnitudes are |feature i - feature j|.
  scale: `[K]`; the deviation's prediction is (scale . magnitudes + scale_bias) / ONE.
  """
  features: list
  mean: list
  mean_bias: int
  differences: list
  scale: list
  scale_bias: int


class ContextModel:
  """Predictors and probability tables of an operating point.

  Symbols are 0..num_symbols-1; the predictors see them minus `origin`, the symbol of the center nearest to 0,
  so that what is not known counts as the commonest symbol.

  Args:
    num_symbols: L, the number of centers.
    origin: a symbol.
    predictors: `[C][7]` of `Predictor`, by channel and pass.
    thresholds: ascending ints; a deviation's bin is the number of thresholds at most as large.
    tables: `[len(thresholds) + 1, fractions, 2L - 1]` int, counts of the symbol minus the prediction's
      integer part, which sum to TABLE_TOTAL. The second axis is the prediction's fractional part.
  """

  def __init__(self, num_symbols, origin, predictors, thresholds, tables):
    self.num_symbols = num_symbols
    self.origin = origin
    self.channels = len(predictors)
    self.predictors = predictors
    self.thresholds = np.asarray(thresholds, np.float32)
    self.tables = np.asarray(tables, np.int64)
    self.fractions = self.tables.shape[1]
    expected = (len(thresholds) + 1, self.fractions, 2 * num_symbols - 1)
    if self.tables.shape != expected:
      raise DeepcompError(f"`tables` must have the shape {expected}. Received: {self.tables.shape}")
    if (self.tables < 1).any() or (self.tables > LARGEST_COUNT).any() or (self.tables.sum(-1) != TABLE_TOTAL).any():
      raise DeepcompError(f"counts of a table must be in 1..{LARGEST_COUNT} and sum to {TABLE_TOTAL}")
    if ONE % self.fractions:
      raise DeepcompError(f"the number of fractions must divide {ONE}. Received: {self.fractions}")
    self._compiled = [[self._compile(p, channel) for p in passes] for channel, passes in enumerate(predictors)]
    # Where the features of each (channel, pass) lie on maps of a size.
    self._indices = functools.lru_cache(CACHED_SIZES)(lambda height, width: {})

  def _compile(self, predictor, channel):
    """Checks a predictor and turns it into arrays."""
    largest = max(self.origin, self.num_symbols - 1 - self.origin)
    for bound in (sum(map(abs, predictor.mean)) * largest + abs(predictor.mean_bias),
                  sum(map(abs, predictor.scale)) * 2 * largest + abs(predictor.scale_bias)):
      if bound >= 1 << 24:
        raise DeepcompError("a predictor's coefficients are too large to be exact in float32")
    if any(not 0 <= source <= channel for source, _, _ in predictor.features):
      raise DeepcompError("a predictor looks at a later channel")
    matrix = np.zeros([len(predictor.differences), len(predictor.features)], np.float32)
    for row, (i, j) in enumerate(predictor.differences):
      matrix[row, i] = 1.0
      if j >= 0:
        matrix[row, j] = -1.0
    return (predictor.features, np.asarray(predictor.mean, np.float32), np.float32(predictor.mean_bias),
            matrix, np.asarray(predictor.scale, np.float32), np.float32(predictor.scale_bias))

  def to_arrays(self):
    """The model as a dict of integer arrays, for `from_arrays`."""
    flat = [predictor for passes in self.predictors for predictor in passes]
    return {
        "symbols": np.array([self.num_symbols, self.origin], np.int32),
        "features": np.array([f for p in flat for f in p.features], np.int32).reshape(-1, 3),
        "differences": np.array([d for p in flat for d in p.differences], np.int32).reshape(-1, 2),
        "mean": np.array([m for p in flat for m in p.mean], np.int32),
        "scale": np.array([s for p in flat for s in p.scale], np.int32),
        "predictors": np.array([(len(p.features), len(p.differences), p.mean_bias, p.scale_bias) for p in flat], np.int32),
        "thresholds": self.thresholds.astype(np.int32),
        "tables": self.tables.astype(np.int32),
    }

  @classmethod
  def from_arrays(cls, arrays):
    rows = {key: iter(arrays[key].tolist()) for key in ("features", "differences", "mean", "scale")}
    take = lambda key, count: list(itertools.islice(rows[key], count))
    flat = [Predictor(list(map(tuple, take("features", features))), take("mean", features), mean_bias,
                      list(map(tuple, take("differences", differences))), take("scale", differences), scale_bias)
            for features, differences, mean_bias, scale_bias in arrays["predictors"].tolist()]
    count = len(PASSES)
    return cls(*arrays["symbols"].tolist(), [flat[i:i + count] for i in range(0, len(flat), count)],
               arrays["thresholds"].tolist(), arrays["tables"])

  @functools.cached_property
  def costs(self):
    """Bits of each entry of the tables: float `[tables, 2L - 1]`, the first two axes of `tables` as one."""
    return -np.log2(self.tables.reshape(-1, self.tables.shape[-1]) / TABLE_TOTAL)

  def values_of(self, symbols):
    """Symbols `[h, w, C]` minus `origin`, in the order of their positions in `[C, h, w]`: int32 `[C h w]`."""
    return symbols.transpose(2, 0, 1).astype(np.int32).ravel() - self.origin

  def entries_of(self, symbols):
    """The tables that code symbols `[h, w, C]`, and their places in these: indices into `costs`, both `[C h w]`."""
    values = self.values_of(symbols)
    chosen, places = np.empty(values.size, np.int64), np.empty(values.size, np.int64)

    def code(positions, tables, bases):
      chosen[positions], places[positions] = tables, values[positions] - bases + self.num_symbols - 1
      return values[positions]

    self.run(*symbols.shape[:2], code)
    return chosen, places

  def run(self, height, width, code):
    """Goes through all symbols of a `[height, width, C]` map in coding order.

    Args:
      height, width: size of the map.
      code: function of (positions, tables, bases), `[n]` each, that returns the `[n]` symbols minus `origin`.
        positions are flat indices into `[C, height, width]`, tables are flat indices into `tables`' first two
        axes, and bases are what the table's middle entry stands for, minus `origin`.

    Returns:
      float32 `[C, height, width]`, the symbols minus `origin`.
    """
    area = height * width
    known = np.zeros(self.channels * area, np.float32)
    places = [rows * width + columns for rows, columns in positions(height, width)]
    indices = self._indices(height, width)
    for stage in range(self.channels + len(PASSES) - 1):
      parts = []
      for channel in range(max(0, stage - len(PASSES) + 1), min(self.channels, stage + 1)):
        index = stage - channel
        if places[index].size:
          parts.append((places[index] + channel * area,
                        *self._predict(known, indices, height, width, channel, index)))
      if parts:
        where, means, scales = (np.concatenate(part) for part in zip(*parts))
        known[where] = code(where, *self._choose(means, scales))
    return known.reshape(self.channels, height, width)

  def _predict(self, known, indices, height, width, channel, index):
    """Predictions of the values and deviations of a (channel, pass), in units of 1/ONE."""
    features, mean, mean_bias, differences, scale, scale_bias = self._compiled[channel][index]
    rows, columns = positions(height, width)[index]
    if not features:
      return np.full(rows.size, mean_bias), np.full(rows.size, scale_bias)
    gathered = indices.get((channel, index))
    if gathered is None:
      gathered = np.stack([neighbours(rows, columns, dy, dx, height, width) + source * height * width
                           for source, dy, dx in features])
      if height * width <= CACHED_POSITIONS:
        indices[channel, index] = gathered
    seen = known.take(gathered)
    return mean @ seen + mean_bias, scale @ np.abs(differences @ seen) + scale_bias

  def _choose(self, means, scales):
    """Tables and bases for predictions."""
    means = means.astype(np.int32) + ONE // 2
    bases = np.minimum(np.maximum(means >> _ONE_BITS, -self.origin), self.num_symbols - 1 - self.origin)
    fractions = (means & (ONE - 1)) // (ONE // self.fractions)
    return np.searchsorted(self.thresholds, scales, side="right") * self.fractions + fractions, bases
