"""The entropy coder on compiled kernels: batches of files on several threads (`kernels.py` and `prediction.py` have the
loops)."""

import numpy as np

from deepcomp_tf.codec import context
from deepcomp_tf.codec import kernels
from deepcomp_tf.codec import layout
from deepcomp_tf.threads import in_slices


class CompiledCoder:
  """Codes maps of symbols as `EntropyCoder` does with the same model, bit by bit.

  Args:
    model: a `ContextModel`.
  """

  def __init__(self, model):
    self._model = model_arrays(model)
    self._features = int((self._model.parts[:, 1] - self._model.parts[:, 0]).max())

  def decode(self, jobs, symbols, threads=None):
    """Decodes payloads and keeps a window of each map, see `EntropyCoder.decode_batch`; payloads are multiples of 4 bytes, maps
    at least 1 in size.

    Returns:
      int64 `[len(jobs)]`: `kernels.GOOD`, or another outcome of a file, whose window is left as it is.
    """
    words = np.frombuffer(b"".join(job.payload for job in jobs), "<u4").astype(np.uint32, copy=False)
    ends = np.cumsum([len(job.payload) // 4 for job in jobs])
    files = np.empty([len(jobs), 9], np.int64)
    files[:, 0] = np.concatenate([[0], ends[:-1]])
    files[:, 1] = ends
    files[:, 2:] = [job[1:] for job in jobs]
    results = np.empty(len(jobs), np.int64)
    self._spread(lambda part, scratch: kernels.decode(self._model, scratch, words, files[part], symbols, results[part]),
                 files[:, 2], files[:, 3], threads)
    return results

  def encode(self, maps, threads=None):
    """Payloads of a list of maps, uint8 `[h, w, C]` of symbols below L, h and w at least 1."""
    if not maps:
      return []
    symbols = np.concatenate([symbols.reshape(-1) for symbols in maps])
    files = np.empty([len(maps), 4], np.int64)
    files[:, 1:3] = [symbols.shape[:2] for symbols in maps]
    counts = files[:, 1] * files[:, 2] * self._model.channels
    files[:, 0] = np.cumsum(counts) - counts
    files[:, 3] = files[:, 0] + kernels.SEAL * np.arange(len(maps))
    words = np.empty(symbols.size + kernels.SEAL * len(maps), np.uint32)
    sizes = np.empty(len(maps), np.int64)
    self._spread(lambda part, scratch: kernels.encode(self._model, scratch, symbols, files[part], words, sizes[part]),
                 files[:, 1], files[:, 2], threads)
    return [words[begin:begin + size].astype("<u4").tobytes() for begin, size in zip(files[:, 3], sizes)]

  def _spread(self, work, heights, widths, threads):
    """Calls `work` for slices of the files on several threads, each with its memory."""
    in_slices(lambda part: work(part, self._make_scratch(heights[part], widths[part])), heights.size, threads)

  def _make_scratch(self, heights, widths):
    """The `layout.Scratch` for maps of these sizes."""
    model, vector = self._model, layout.VECTOR
    sides = [layout.plane_side(sides) for sides in (heights, widths)]
    size = 4 * model.channels * int((sides[0] * sides[1]).max())
    positions = int((heights * widths).max())
    lanes = -(-max(layout.LANES, int(widths.max()), int(sides[1].max())) // vector) * vector
    ints = lambda count: np.empty(count, np.int32)
    return layout.Scratch(
        map=ints(size + vector + (self._features + 1) * lanes), truth=ints(size),
        rows=np.empty(int(heights.max()) + 2 * model.reach, np.int64),
        columns=np.empty(int(widths.max()) + 2 * model.reach, np.int64),
        offsets=np.empty(self._features + 1, np.uint64),
        means=ints(lanes), scales=ints(lanes), lane_tables=ints(lanes), lane_bases=ints(lanes),
        stage_tables=ints(positions), stage_bases=ints(positions), stage_places=np.empty(positions, np.int64),
        bases=ints(positions), places=np.empty(positions, np.int64), ends=np.empty(model.cumulative.shape[0], np.int64))


def cumulative_counts(counts):
  """What constriction's Categorical (perfect=False) makes of tables of counts that sum to TABLE_TOTAL: int `[..., n]` -> uint32
  `[..., n + 1]`, 0 to 2^24.

  Each of the n symbols has 2^-24, and the rest is shared out in proportion, rounded down cumulatively. In
  floating point that is exact for such tables.
  """
  size = counts.shape[-1]
  ends = np.concatenate([np.zeros([*counts.shape[:-1], 1], np.int64), np.cumsum(counts, -1, dtype=np.int64)], -1)
  free = (1 << kernels.PRECISION) - size
  return (ends * free // context.TABLE_TOTAL + np.arange(size + 1)).astype(np.uint32)


def model_arrays(model):
  """A `ContextModel` as `layout.ModelArrays`."""
  parts, features, means, scales = [], [], [], []
  for predictor in (predictor for passes in model.predictors for predictor in passes):
    zero = len(predictor.features)
    part = [len(features), len(features) + zero, len(means)]
    features += predictor.features
    means += [(feature, weight) for feature, weight in enumerate(predictor.mean) if weight]
    means += [(zero, 0)] * (-len(means) % layout.TERMS)
    part += [len(means), len(scales)]
    # A feature minus itself counts as the feature, as in the reference's matrix.
    scales += [(i % zero, j if 0 <= j != i else zero, weight)
               for (i, j), weight in zip(predictor.differences, predictor.scale)]
    scales += [(zero, zero, 0)] * (-len(scales) % layout.TERMS)
    distance = max((max(abs(dy), abs(dx)) for _, dy, dx in predictor.features), default=0)
    parts.append(part + [len(scales), predictor.mean_bias, predictor.scale_bias, distance])
  features = np.array(features, np.int64).reshape(-1, 3)
  means, scales = np.array(means, np.int64).reshape(-1, 2), np.array(scales, np.int64).reshape(-1, 3)
  most = np.iinfo(np.int32).max
  thresholds = np.minimum(model.thresholds.astype(np.float64), most).astype(np.int32)
  thresholds = np.append(thresholds, np.full(-thresholds.size % layout.TERMS, most, np.int32))
  return layout.ModelArrays(
      channels=model.channels, low=-model.origin, high=model.num_symbols - 1 - model.origin,
      reach=int(np.abs(features[:, 1:]).max(initial=0)), fraction_shift=(context.ONE // model.fractions).bit_length() - 1,
      parts=np.array(parts, np.int64), features=features,
      mean_features=np.ascontiguousarray(means[:, 0]), mean_weights=means[:, 1].astype(np.int32),
      scale_features=np.ascontiguousarray(scales[:, :2]), scale_weights=scales[:, 2].astype(np.int32),
      thresholds=thresholds, table_steps=model.fractions,
      cumulative=cumulative_counts(model.tables.reshape(-1, model.tables.shape[-1])))
