"""The context model: order, geometry, exactness, and what its coder reaches."""

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf.codec import context
from deepcomp_tf.codec import fitting
from deepcomp_tf.codec.entropy_coder import EntropyCoder

ORIGIN, SYMBOLS = 20, 41


def smooth_maps(count, channels, shape, seed):
  """Maps whose neighbours and channels depend on each other: rounded averages of noise."""
  rng = np.random.default_rng(seed)
  maps = []
  for _ in range(count):
    noise = rng.normal(size=(shape[0] + 2, shape[1] + 2, channels)).cumsum(axis=2)
    mean = sum(noise[dy:dy + shape[0], dx:dx + shape[1]] for dy in range(3) for dx in range(3)) / 3
    maps.append((np.clip(np.round(2 * mean), -ORIGIN, ORIGIN) + ORIGIN).astype(np.uint8))
  return maps


@pytest.fixture(scope="module")
def model():
  return fitting.fit(smooth_maps(12, 3, (24, 20), 0), SYMBOLS, ORIGIN)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (16, 24)])
def test_every_position_is_in_one_pass(size):
  flat = np.concatenate([rows * size[1] + columns for rows, columns in context.positions(*size)])
  assert sorted(flat) == list(range(size[0] * size[1]))


def test_own_neighbours_are_coded_before():
  passes = np.empty([48, 48], int)
  for index, (rows, columns) in enumerate(context.positions(48, 48)):
    passes[rows, columns] = index
  for index, (rows, columns) in enumerate(context.positions(48, 48)):
    inside = (np.abs(rows - 24) < 12) & (np.abs(columns - 24) < 12)
    for dy, dx in context.own_offsets(index):
      assert (passes[rows[inside] + dy, columns[inside] + dx] < index).all()


def test_neighbours_are_mirrored_at_the_edge():
  rows, columns = np.array([0, 2, 1]), np.array([0, 3, 1])
  assert context.neighbours(rows, columns, -1, 0, 3, 4).tolist() == [4, 7, 1]
  assert context.neighbours(rows, columns, 0, 1, 3, 4).tolist() == [1, 10, 6]
  # Neither the neighbour nor its mirror image is on the map: the position itself.
  assert context.neighbours(np.array([0]), np.array([2]), 1, 0, 1, 4).tolist() == [2]


def test_a_symbol_is_predicted_from_decoded_ones_only(model):
  """Whatever comes later in coding order may change without changing a context."""
  symbols = smooth_maps(1, 3, (18, 11), 5)[0].transpose(2, 0, 1).astype(int).ravel() - ORIGIN
  rng = np.random.default_rng(0)

  def contexts(values):
    seen = []
    def code(positions, tables, bases):
      seen.append((positions, tables, bases))
      return values[positions]
    model.run(18, 11, code)
    return seen

  reference = contexts(symbols)
  for stage in range(len(reference)):
    changed = symbols.copy()
    later = np.concatenate([positions for positions, _, _ in reference[stage:]])
    changed[later] = rng.integers(-ORIGIN, ORIGIN + 1, later.size)
    for before, after in zip(reference[:stage + 1], contexts(changed)[:stage + 1]):
      for x, y in zip(before, after):
        np.testing.assert_array_equal(x, y)


def test_predictions_equal_integer_arithmetic(model):
  """float32 sums of the model against the same sums in Python's integers."""
  symbols = smooth_maps(1, 3, (9, 8), 6)[0].transpose(2, 0, 1).astype(int) - ORIGIN
  done = np.zeros(symbols.size, bool)
  places = context.positions(9, 8)

  def code(positions, tables, bases):
    for position, table, base in zip(positions.tolist(), tables.tolist(), bases.tolist()):
      channel, place = divmod(position, 72)
      index = next(i for i, (r, c) in enumerate(places) if place in (r * 8 + c).tolist())
      p = model.predictors[channel][index]
      row, column = np.array([place // 8]), np.array([place % 8])
      seen = []
      for source, dy, dx in p.features:
        at = source * 72 + int(context.neighbours(row, column, dy, dx, 9, 8)[0])
        seen.append(int(symbols.ravel()[at]) if done[at] else 0)
      mean = sum(m * s for m, s in zip(p.mean, seen)) + p.mean_bias + context.ONE // 2
      scale = p.scale_bias + sum(
          k * abs(seen[i] - (seen[j] if j >= 0 else 0)) for k, (i, j) in zip(p.scale, p.differences))
      assert base == min(max(mean // context.ONE, -ORIGIN), SYMBOLS - 1 - ORIGIN)
      fraction = mean % context.ONE * model.fractions // context.ONE
      assert table == sum(scale >= t for t in model.thresholds.tolist()) * model.fractions + fraction
    done[positions] = True
    return symbols.ravel()[positions]

  model.run(9, 8, code)
  assert done.all()


def test_coder_round_trip_and_size(model):
  coder = EntropyCoder(model)
  for shape in ((1, 1), (1, 7), (5, 2), (24, 20), (40, 33)):
    for symbols in smooth_maps(2, 3, shape, 9):
      payload = coder.encode(symbols)
      np.testing.assert_array_equal(coder.decode(payload, *shape), symbols)
      # The range coder ends within two words of what the tables charge.
      assert -32 <= 8 * len(payload) - coder.bits(symbols) <= 96


def test_contexts_save_bits(model):
  """Fewer bits than each map's own histograms per channel, which know the map."""
  coder = EntropyCoder(model)
  for symbols in smooth_maps(3, 3, (24, 20), 77):
    own = 0.0
    for channel in range(3):
      counts = np.bincount(symbols[..., channel].ravel())
      counts = counts[counts > 0]
      own -= (counts * np.log2(counts / counts.sum())).sum()
    assert coder.bits(symbols) < 0.85 * own


def test_any_symbols_can_be_coded(model):
  """Symbols unlike all that the tables were fitted to cost more, but decode."""
  coder = EntropyCoder(model)
  rng = np.random.default_rng(3)
  for symbols in (rng.integers(0, SYMBOLS, [11, 9, 3]), np.zeros([6, 6, 3], int), np.full([3, 17, 3], SYMBOLS - 1)):
    symbols = symbols.astype(np.uint8)
    np.testing.assert_array_equal(coder.decode(coder.encode(symbols), *symbols.shape[:2]), symbols)


def test_arrays_round_trip(model):
  again = context.ContextModel.from_arrays(model.to_arrays())
  symbols = smooth_maps(1, 3, (13, 13), 4)[0]
  assert EntropyCoder(again).encode(symbols) == EntropyCoder(model).encode(symbols)


def test_tables_are_dyadic_and_bounded(model):
  assert (model.tables.sum(axis=-1) == context.TABLE_TOTAL).all()
  assert -np.log2(model.tables.max() / context.TABLE_TOTAL) >= context.SMALLEST_COST


def test_bad_symbols_and_payloads(model):
  coder = EntropyCoder(model)
  with pytest.raises(dc.DeepcompError, match="shape"):
    coder.encode(np.zeros([4, 4, 2], np.uint8))
  with pytest.raises(dc.DeepcompError, match="symbols. must be in 0..40"):
    coder.encode(np.full([4, 4, 3], SYMBOLS, np.uint8))
  payload = coder.encode(np.full([4, 4, 3], ORIGIN, np.uint8))
  with pytest.raises(dc.BitstreamError, match="multiple of 4"):
    coder.decode(payload + b"x", 4, 4)
  with pytest.raises(dc.BitstreamError, match="cannot hold"):
    coder.decode(payload, 4000, 4000)
  with pytest.raises(dc.BitstreamError):
    coder.decode(payload + b"12345678", 4, 4)


def test_bad_models(model):
  arrays = model.to_arrays()
  with pytest.raises(dc.DeepcompError, match="sum to"):
    context.ContextModel.from_arrays({**arrays, "tables": arrays["tables"] + 1})
  with pytest.raises(dc.DeepcompError, match="too large"):
    context.ContextModel.from_arrays({**arrays, "mean": arrays["mean"] * 0 + (1 << 22)})
