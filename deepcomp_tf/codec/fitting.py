"""Fits a `ContextModel` to the symbols of training photos.

Least squares all through: the mean of a symbol on its best few known neighbours (chosen greedily), then the
magnitude of what is left on magnitudes of neighbours and of their differences, then both again with every
symbol weighted by its expected deviation. Coefficients are rounded to integers, and only then are the tables
counted, so that they fit the integer model.
"""

import collections

import numpy as np

from deepcomp_tf.codec import context
from deepcomp_tf.errors import DeepcompError

MEAN_FEATURES = 14
SCALE_FEATURES = 12
SAMPLES = 20_000
FRACTIONS = 8
BINS = 40

# Smallest and largest threshold of the deviation's bins, in symbols.
_THRESHOLDS = (0.004, 24.0)


def fit(maps, num_symbols, origin, seed=0, progress=lambda iterable: iterable):
  """The `ContextModel` that fits best.

  Args:
    maps: list of uint8 `[h, w, C]`, symbols of whole photos.
    num_symbols: L.
    origin: the symbol of the center nearest to 0.
    seed: of the choice of samples.
    progress: wraps the iterable over channels, for example in `tqdm.tqdm`.
  """
  if not maps:
    raise DeepcompError("expected symbols of at least one photo to fit a context model to. Received: none")
  rng = np.random.default_rng(seed)
  channels = maps[0].shape[-1]
  samples = [_Samples(maps, origin, index, rng) for index in range(len(context.PASSES))]
  predictors = [[sample.fit(channel) for sample in samples] for channel in progress(range(channels))]
  thresholds = np.unique(np.round(np.geomspace(*_THRESHOLDS, BINS - 1) * context.ONE).astype(int)).tolist()
  # The tables do not matter for the contexts: start from flat ones, count, replace.
  model = context.ContextModel(num_symbols, origin, predictors, thresholds,
                               _flat_tables(len(thresholds) + 1, FRACTIONS, num_symbols))
  counts = np.zeros(model.tables.size, np.int64)
  for symbols in maps:
    counts += np.bincount(np.ravel_multi_index(model.entries_of(symbols), model.costs.shape), minlength=counts.size)
  tables = np.stack([_smooth(c) for c in counts.reshape(model.tables.shape)])
  return context.ContextModel(num_symbols, origin, predictors, thresholds, tables)


def flat_model(channels, num_symbols, origin):
  """A context model that predicts nothing and holds all symbols equally likely."""
  nothing = context.Predictor([], [], 0, [], [], 0)
  return context.ContextModel(num_symbols, origin, [[nothing] * len(context.PASSES)] * channels, [],
                              _flat_tables(1, 1, num_symbols))


def _flat_tables(bins, fractions, num_symbols):
  size = 2 * num_symbols - 1
  table = np.full(size, context.TABLE_TOTAL // size)
  table[:context.TABLE_TOTAL % size] += 1
  return np.tile(table, [bins, fractions, 1])


class _Samples:
  """Sampled positions of a pass, over all maps."""

  def __init__(self, maps, origin, pass_index, rng):
    self._pass = pass_index
    self._values = np.concatenate([m.reshape(-1, m.shape[-1]) for m in maps]).T.astype(np.float32) - origin
    self._own = context.own_offsets(pass_index)
    self._earlier = context.earlier_offsets(pass_index)
    sizes = [m.shape[:2] for m in maps]
    total = sum(context.positions(*size)[pass_index][0].size for size in sizes)
    where, start = collections.defaultdict(list), 0
    for height, width in sizes:
      rows, columns = context.positions(height, width)[pass_index]
      kept = rng.random(rows.size) < min(1.0, SAMPLES / max(1, total))
      for offset in {(0, 0), *self._own, *self._earlier}:
        where[offset].append(context.neighbours(rows[kept], columns[kept], *offset, height, width) + start)
      start += height * width
    self._where = {offset: np.concatenate(parts) for offset, parts in where.items()}
    self._passes = np.concatenate([context.passes_of(*size) for size in sizes])

  def fit(self, channel):
    """The `Predictor` of a channel at this pass."""
    target = self._values[channel][self._where[0, 0]]
    candidates = [(channel, dy, dx) for dy, dx in self._own]
    candidates += [(source, dy, dx) for source in range(channel) for dy, dx in self._earlier]
    if not candidates or target.size < 64:
      mean = float(target.mean()) if target.size else 0.0
      scale = float(np.abs(target - mean).mean()) if target.size else 1.0
      return context.Predictor([], [], _fixed(mean), [], [], _fixed(scale))
    seen = np.stack([self._look(channel, *feature) for feature in candidates])
    # Differences among the nearest four, then every candidate's magnitude.
    pairs = [*(context.SPREAD_PAIRS if self._own else ()), *((i, -1) for i in range(len(candidates)))]
    magnitudes = np.stack([np.abs(seen[i] - seen[j]) if j >= 0 else np.abs(seen[i]) for i, j in pairs])
    weights = np.ones_like(target)
    for _ in range(2):
      chosen, mean, mean_bias = _regress(seen, target, weights, MEAN_FEATURES)
      residual = np.abs(target - mean @ seen[chosen] - mean_bias)
      parts, scale, scale_bias = _regress(magnitudes, residual, weights, SCALE_FEATURES, positive=True)
      deviation = np.maximum(scale @ magnitudes[parts] + scale_bias, 0.02 + 0.05 * residual.mean())
      weights = (1.0 / deviation) ** 2
      weights /= weights.mean()
    used = sorted({*chosen, *(k for part in parts for k in pairs[part] if k >= 0)})
    place = {k: i for i, k in enumerate(used)}
    full_mean = np.zeros(len(used))
    full_mean[[place[k] for k in chosen]] = mean
    return context.Predictor(
        features=[candidates[k] for k in used],
        mean=[_fixed(m) for m in full_mean], mean_bias=_fixed(mean_bias),
        differences=[(place[i], place[j] if j >= 0 else -1) for i, j in (pairs[part] for part in parts)],
        scale=[_fixed(s) for s in scale], scale_bias=_fixed(scale_bias))

  def _look(self, channel, source, dy, dx):
    """A feature at the sampled positions: the symbol there, or 0 where it is not known yet."""
    where = self._where[dy, dx]
    # A channel `channel - source` ahead has done as many more passes.
    known = self._passes[where] < self._pass + channel - source
    return np.where(known, self._values[source][where], 0.0).astype(np.float32)


def _regress(features, target, weights, most, positive=False):
  """Weighted least squares on at most `most` of the features, chosen greedily, and a constant: (indices of those chosen, their
  coefficients, the constant)."""
  total = weights.sum()
  center = (features @ weights) / total
  target_center = (target @ weights) / total
  gram = (features * weights) @ features.T / total - np.outer(center, center)
  product = features @ (weights * target) / total - center * target_center
  gram, product = gram.astype(np.float64), product.astype(np.float64)
  size = np.sqrt(np.maximum(np.diag(gram), 1e-12))
  solve = lambda some: np.linalg.solve(gram[np.ix_(some, some)] + 1e-6 * np.diag(size[some] ** 2), product[some])
  usable = np.diag(gram) > 1e-9
  chosen, coefficients = [], np.zeros(0)
  while len(chosen) < min(most, len(features)):
    left = product - gram[:, chosen] @ coefficients
    gain = np.where(usable, (left if positive else np.abs(left)) / size, -np.inf)
    gain[chosen] = -np.inf
    best = int(np.argmax(gain))
    if not gain[best] > 1e-6:
      break
    trial = chosen + [best]
    solution = solve(trial)
    if positive and (solution < 0).any():
      kept = [k for k, s in zip(trial, solution) if s > 0]
      usable[[k for k in trial if k not in kept]] = False
      trial, solution = kept, np.maximum(0.0, solve(kept))
    chosen, coefficients = trial, solution
  return chosen, coefficients, target_center - coefficients @ center[chosen]


def _fixed(x):
  return int(np.round(x * context.ONE))


def _smooth(counts):
  """Integer tables from the counts `[fractions, 2L - 1]` of a deviation's bin.

  A table of few counts leans on its bin's other fractions, and all have the tails of a Laplace distribution.
  """
  size = counts.shape[-1]
  errors = np.arange(size) - size // 2
  pooled = counts.sum(axis=0)
  spread = (pooled @ np.abs(errors) + 0.5) / (pooled.sum() + 1.0)
  laplace = np.exp(-np.abs(errors) / max(spread, 0.05))
  laplace /= laplace.sum()
  pooled = (pooled + 4.0 * laplace) / (pooled.sum() + 4.0)
  p = (counts + 8.0 * pooled) / (counts.sum(axis=-1, keepdims=True) + 8.0)
  tables = 1 + np.floor(p * (context.TABLE_TOTAL - size)).astype(np.int64)
  for table in tables:
    best = np.argmax(table)
    table[best] += context.TABLE_TOTAL - table.sum()
    excess = table[best] - context.LARGEST_COUNT
    if excess > 0:
      _, first, second = np.argsort(np.abs(np.arange(size) - best), kind="stable")[:3]  # the nearest, after `best` itself
      table[[best, first, second]] += -excess, excess - excess // 2, excess // 2
  return tables
