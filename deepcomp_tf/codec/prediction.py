"""Compiled prediction: the context model of `context.py` as loops over whole files.

What `context.ContextModel.run` does for one stage at a time in numpy is done here by numba, outside of Python's lock, with the
same order, predictors and tables. `kernels.py` calls it between the symbols that it codes; `layout.py` says how a map lies in
memory.
"""

import numpy as np

from deepcomp_tf.codec import context
from deepcomp_tf.codec import layout

PASSES = len(context.PASSES)
_SPACINGS = np.array([spacing for spacing, _, _ in context.PASSES], np.int64)
_STARTS = np.array([(starts * 2)[:2] for _, starts, _ in context.PASSES], np.int64)
_NUM_STARTS = np.array([len(starts) for _, starts, _ in context.PASSES], np.int64)
_ONE, _ONE_BITS = context.ONE, context.ONE.bit_length() - 1


@layout.jit
def _mirrored(there, size):
  """As `context._mirrored`, with -1 where the neighbour and its mirror image are outside."""
  there = abs(there)
  if there >= size:
    there = 2 * (size - 1) - there
  return there if 0 <= there < size else -1


@layout.jit
def start(model, scratch, height, width):
  """An unknown map, and where its rows and columns lie."""
  pitch, plane, channel = layout.geometry(height, width)
  for i in range(height + 2 * model.reach):
    there = _mirrored(i - model.reach, height)
    scratch.rows[i] = layout.place_of(there, pitch, 2 * plane) if there >= 0 else -1
  for i in range(width + 2 * model.reach):
    there = _mirrored(i - model.reach, width)
    scratch.columns[i] = layout.place_of(there, 1, plane) if there >= 0 else -1
  for i in range(model.channels * channel + layout.VECTOR + scratch.means.size):
    scratch.map[i] = 0


@layout.inlined
def _weigh(model, scratch, part, lanes):
  """Means and scales of `lanes` positions, whose features' values begin at `offsets`."""
  known, offsets, means, scales = scratch.map, scratch.offsets, scratch.means, scratch.scales
  mean_bias, scale_bias = np.int32(model.parts[part, 6]), np.int32(model.parts[part, 7])
  for j in range(lanes):
    means[j] = mean_bias
    scales[j] = scale_bias
  for k in range(model.parts[part, 2], model.parts[part, 3], layout.TERMS):
    a, b = offsets[model.mean_features[k]], offsets[model.mean_features[k + 1]]
    c, d = offsets[model.mean_features[k + 2]], offsets[model.mean_features[k + 3]]
    wa, wb = model.mean_weights[k], model.mean_weights[k + 1]
    wc, wd = model.mean_weights[k + 2], model.mean_weights[k + 3]
    for j in range(lanes):
      u = np.uint64(j)
      means[u] += wa * known[a + u] + wb * known[b + u] + wc * known[c + u] + wd * known[d + u]
  for k in range(model.parts[part, 4], model.parts[part, 5], 2):
    a, b = offsets[model.scale_features[k, 0]], offsets[model.scale_features[k, 1]]
    c, d = offsets[model.scale_features[k + 1, 0]], offsets[model.scale_features[k + 1, 1]]
    wa, wc = model.scale_weights[k], model.scale_weights[k + 1]
    for j in range(lanes):
      u = np.uint64(j)
      scales[u] += (wa * np.int32(abs(np.int32(known[a + u] - known[b + u])))
                    + wc * np.int32(abs(np.int32(known[c + u] - known[d + u]))))


@layout.inlined
def _choose(model, scratch, lanes):
  """Tables and bases of `lanes` positions."""
  means, scales, thresholds = scratch.means, scratch.scales, model.thresholds
  tables, bases = scratch.lane_tables, scratch.lane_bases
  for j in range(lanes):
    tables[j] = 0
  for k in range(0, thresholds.size, layout.TERMS):
    a, b, c, d = thresholds[k], thresholds[k + 1], thresholds[k + 2], thresholds[k + 3]
    for j in range(lanes):
      scale = scales[j]
      tables[j] += np.int32(scale >= a) + np.int32(scale >= b) + np.int32(scale >= c) + np.int32(scale >= d)
  low, high, steps = np.int32(model.low), np.int32(model.high), np.int32(model.table_steps)
  shift, half, mask = np.int32(model.fraction_shift), np.int32(_ONE // 2), np.int32(_ONE - 1)
  for j in range(lanes):
    mean = np.int32(means[j] + half)
    bases[j] = min(max(np.int32(mean >> np.int32(_ONE_BITS)), low), high)
    tables[j] = np.int32(tables[j] * steps) + np.int32(np.int32(mean & mask) >> shift)


@layout.inlined
def _gather(model, scratch, part, rows, columns, whole, channel_size, tail):
  """Copies the features' values at the positions of a grid to the tail; `rows` and `columns` are ranges. `whole`: no place in
  `scratch.rows` and `scratch.columns` is -1."""
  known, reach, lanes = scratch.map, model.reach, scratch.means.size
  first, across, step = model.parts[part, 0], len(columns), np.uint64(columns.step)
  for f in range(first, model.parts[part, 1]):
    source, dy, dx = model.features[f, 0], model.features[f, 1], model.features[f, 2]
    at = np.uint64(tail + (f - first + 1) * lanes)
    scratch.offsets[f - first] = at
    begin = columns.start + dx + reach
    for row in rows:
      above = scratch.rows[row + dy + reach]
      if above < 0:
        above = scratch.rows[row + reach]
      above += source * channel_size
      if whole:
        beside = np.uint64(begin)
        for _ in range(across):
          known[at] = known[np.uint64(above + scratch.columns[beside])]
          at += np.uint64(1)
          beside += step
      else:
        for column in columns:
          beside = scratch.columns[column + dx + reach]
          if beside < 0:
            beside = scratch.columns[column + reach]
          known[at] = known[np.uint64(above + beside)]
          at += np.uint64(1)


@layout.jit
def predict(model, scratch, height, width, stage):
  """Tables, bases and places of the symbols of a stage, channel by channel.

  Returns:
    the number of symbols.
  """
  pitch, plane, channel_size = layout.geometry(height, width)
  tail = model.channels * channel_size + layout.VECTOR
  lane_tables, lane_bases = scratch.lane_tables, scratch.lane_bases
  tables, bases, places = scratch.stage_tables, scratch.stage_bases, scratch.stage_places
  whole, count = min(height, width) > model.reach, 0
  for channel in range(max(0, stage - PASSES + 1), min(model.channels, stage + 1)):
    index = stage - channel
    part, spacing = channel * PASSES + index, _SPACINGS[index]
    features = model.parts[part, 1] - model.parts[part, 0]
    direct = spacing == 2 and model.parts[part, 8] <= layout.MARGIN and min(height, width) > layout.MARGIN
    scratch.offsets[features] = np.uint64(tail)
    for start in range(_NUM_STARTS[index]):
      y, x = _STARTS[index, start, 0], _STARTS[index, start, 1]
      if x >= width:
        continue
      across = (width - x + spacing - 1) // spacing
      row_lanes = pitch if direct else across
      rows = max(1, layout.LANES // row_lanes) * spacing
      for top in range(y, height, rows):
        bottom = min(top + rows, height)
        down = (bottom - top + spacing - 1) // spacing
        if direct:
          for f in range(features):
            feature = model.parts[part, 0] + f
            scratch.offsets[f] = np.uint64(
                model.features[feature, 0] * channel_size
                + layout.place_of(top + model.features[feature, 1], pitch, 2 * plane)
                + layout.place_of(x + model.features[feature, 2], 1, plane))
        else:
          _gather(model, scratch, part, range(top, bottom, spacing), range(x, width, spacing), whole, channel_size, tail)
        lanes = ((down - 1) * row_lanes + across + layout.VECTOR - 1) // layout.VECTOR * layout.VECTOR
        _weigh(model, scratch, part, lanes)
        _choose(model, scratch, lanes)
        for i in range(down):
          lane, at = np.uint64(i * row_lanes), np.uint64(count)
          place = channel * channel_size + layout.place_of(top + i * spacing, pitch, 2 * plane) + layout.place_of(x, 1, plane)
          for j in range(across):
            u = np.uint64(j)
            tables[at + u] = lane_tables[lane + u]
            bases[at + u] = lane_bases[lane + u]
            places[at + u] = place + j * (spacing >> 1)
          count += across
  return count


@layout.jit
def sort(scratch, count):
  """Sorts the symbols of a stage by table; those of a table stay in order."""
  ends, tables, total = scratch.ends, scratch.stage_tables, 0
  for table in range(ends.size):
    ends[table] = 0
  for i in range(count):
    ends[tables[i]] += 1
  for table in range(ends.size):
    number = ends[table]
    ends[table] = total
    total += number
  for i in range(count):
    at = ends[tables[i]]
    scratch.bases[at] = scratch.stage_bases[i]
    scratch.places[at] = scratch.stage_places[i]
    ends[tables[i]] = at + 1


@layout.jit
def mirror(model, scratch, height, width, stage):
  """Fills the margins of the channels that a stage added to.

  A fine pass of a channel follows on all of its coarse ones, and later channels come later: only after the last three
  passes are margins read.
  """
  margin, known = min(layout.MARGIN, model.reach), scratch.map
  if min(height, width) <= layout.MARGIN:
    return
  pitch, plane, channel_size = layout.geometry(height, width)
  for channel in range(max(0, stage - PASSES + 1), min(model.channels, stage - PASSES + 4)):
    begin = channel * channel_size
    for i in range(2 * margin):
      x = i - margin if i < margin else width - margin + i
      there, here = begin + layout.place_of(x, 1, plane), begin + scratch.columns[x + model.reach]
      for row in range(height):
        at = scratch.rows[row + model.reach]
        known[np.uint64(there + at)] = known[np.uint64(here + at)]
    for i in range(2 * margin):
      y = i - margin if i < margin else height - margin + i
      there, here = begin + layout.place_of(y, pitch, 2 * plane), begin + scratch.rows[y + model.reach]
      for first in (0, plane):
        to, of = np.uint64(there + first), np.uint64(here + first)
        for j in range(pitch):
          known[to + np.uint64(j)] = known[of + np.uint64(j)]
