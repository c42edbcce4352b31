"""Compiled kernels of the entropy coder: the context model of `context.py` and constriction's range coder, as loops.

What `context.ContextModel.run` and constriction do for one stage at a time in numpy is done here for whole files, by
numba, outside of Python's lock: the same order, predictors and tables, so the same bytes. `CompiledCoder`
(`compiled.py`) prepares what the kernels take; nothing else calls them. Importing this file imports numba, and the first
call of a kernel compiles it, which takes seconds. They are serial and allocate nothing: threads are outside.

**The map.** The symbols minus the origin, int32. A row of a channel holds its even columns, then its odd ones, each
with PAD / 2 columns on either side that repeat what is mirrored at the edge. The positions of the two finest passes, three
quarters of all, then lie side by side, and so do all their neighbours at one offset: a block of BLOCK positions is
predicted by loops over unit strides, which become vector instructions. Lanes of a block beyond the end of a row
hold something, and what becomes of them is not looked at. Positions of the coarser passes, and of maps narrower than
the PAD, have their neighbours copied to the map's tail first, a block for each.

**The range coder** is that of constriction 0.4 and 0.5 (bamler-lab/constriction, `stream/queue.rs`): 32-bit words, a
64-bit state, probabilities of 24 bits. The decoder needs of its state only `range` and the distance of its point from
the lower end of the range.
"""

from typing import NamedTuple

import numba
import numpy as np

from deepcomp_tf.codec import context

# Positions that are predicted together, and columns beyond either edge that a row holds.
BLOCK = 16
PAD = 4

# Terms of a prediction are summed this many at a time, thresholds compared: lists of them are filled up to multiples.
TERMS = 4

# What becomes of a file.
GOOD, INVALID, OUT_OF_RANGE, LEFT_OVER = range(4)

PRECISION = 24
_PASSES = len(context.PASSES)
_SPACINGS = np.array([spacing for spacing, _, _ in context.PASSES], np.int64)
_STARTS = np.array([(starts * 2)[:2] for _, starts, _ in context.PASSES], np.int64)
_NUM_STARTS = np.array([len(starts) for _, starts, _ in context.PASSES], np.int64)
_ONE, _ONE_BITS = context.ONE, context.ONE.bit_length() - 1
_HALF_PAD = PAD // 2
_U24, _U32 = np.uint64(PRECISION), np.uint64(32)
_WORD = np.uint64(1 << 32)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


class ModelArrays(NamedTuple):
  """A `ContextModel` as the kernels read it. A part is a (channel, pass); P = 7 C of them, in that order.

  channels, low, high: C, and the least and the largest symbol minus the origin.
  reach: no feature is further away than this, in rows or columns.
  fraction_shift: log2(ONE / fractions).
  parts: int64 `[P, 9]`: first and last + 1 of its features, of its mean's terms and of its scale's terms; bias of the
    mean and of the scale; its features' farthest column.
  features: int64 `[., 3]`, channel, dy, dx.
  mean_features: int64, places among the part's features, where the number of features means 0; mean_weights: int32.
  scale_features: int64 `[., 2]`, likewise; scale_weights: int32.
  thresholds: int32; table_steps: number of tables a threshold stands for.
  cumulative: uint32 `[tables, 2L]`, in units of 2^-24.
  """
  channels: int
  low: int
  high: int
  reach: int
  fraction_shift: int
  parts: np.ndarray
  features: np.ndarray
  mean_features: np.ndarray
  mean_weights: np.ndarray
  scale_features: np.ndarray
  scale_weights: np.ndarray
  thresholds: np.ndarray
  table_steps: int
  cumulative: np.ndarray


class Scratch(NamedTuple):
  """Memory of one thread, for maps of up to `positions` positions a channel; see `compiled.make_scratch`."""
  map: np.ndarray
  truth: np.ndarray
  rows: np.ndarray
  columns: np.ndarray
  sources: np.ndarray
  offsets: np.ndarray
  means: np.ndarray
  scales: np.ndarray
  bins: np.ndarray
  lanes: np.ndarray
  tables: np.ndarray
  bases: np.ndarray
  places: np.ndarray
  order: np.ndarray
  counts: np.ndarray


def half_row(width):
  """Columns that a row of a map keeps of each parity."""
  return (width >> 1) + PAD + 1


_jit = numba.njit(nogil=True, error_model="numpy")
_half_row = _jit(half_row)


@_jit
def _column(x, half):
  """Where a row holds its column x, -PAD <= x < width + PAD."""
  return (x & 1) * half + (x >> 1) + _HALF_PAD


@_jit
def _mirrored(there, size):
  """As `context._mirrored`, with -1 where the neighbour and its mirror image are outside."""
  there = abs(there)
  if there >= size:
    there = 2 * (size - 1) - there
  return there if 0 <= there < size else -1


@_jit
def _start(model, scratch, height, width):
  """An unknown map, and where its rows and columns lie; returns where the tail begins."""
  half = _half_row(width)
  pitch = 2 * half
  for i in range(height + 2 * model.reach):
    there = _mirrored(i - model.reach, height)
    scratch.rows[i] = there * pitch if there >= 0 else -1
  for i in range(width + 2 * model.reach):
    there = _mirrored(i - model.reach, width)
    scratch.columns[i] = _column(there, half) if there >= 0 else -1
  tail = model.channels * height * pitch + BLOCK
  for i in range(tail + BLOCK):
    scratch.map[i] = 0
  return tail


@_jit
def _weigh(model, scratch, part):
  """Predicts the block whose features begin at `offsets`: means and scales."""
  map_, offsets, means, scales = scratch.map, scratch.offsets, scratch.means, scratch.scales
  mean_bias, scale_bias = np.int32(model.parts[part, 6]), np.int32(model.parts[part, 7])
  for j in range(BLOCK):
    means[j] = mean_bias
    scales[j] = scale_bias
  for k in range(model.parts[part, 2], model.parts[part, 3], TERMS):
    a, b = offsets[model.mean_features[k]], offsets[model.mean_features[k + 1]]
    c, d = offsets[model.mean_features[k + 2]], offsets[model.mean_features[k + 3]]
    wa, wb = model.mean_weights[k], model.mean_weights[k + 1]
    wc, wd = model.mean_weights[k + 2], model.mean_weights[k + 3]
    for j in range(BLOCK):
      u = np.uint64(j)
      means[u] += wa * map_[a + u] + wb * map_[b + u] + wc * map_[c + u] + wd * map_[d + u]
  for k in range(model.parts[part, 4], model.parts[part, 5], 2):
    a, b = offsets[model.scale_features[k, 0]], offsets[model.scale_features[k, 1]]
    c, d = offsets[model.scale_features[k + 1, 0]], offsets[model.scale_features[k + 1, 1]]
    wa, wc = model.scale_weights[k], model.scale_weights[k + 1]
    for j in range(BLOCK):
      u = np.uint64(j)
      scales[u] += wa * np.int32(abs(np.int32(map_[a + u] - map_[b + u]))) + wc * np.int32(
          abs(np.int32(map_[c + u] - map_[d + u])))


@_jit
def _choose(model, scratch, count):
  """Tables and bases of the block, behind the `count` that the stage has."""
  means, scales, bins = scratch.means, scratch.scales, scratch.bins
  tables, bases = scratch.tables, scratch.bases
  for j in range(BLOCK):
    bins[j] = 0
  for k in range(0, model.thresholds.size, TERMS):
    a, b, c, d = model.thresholds[k], model.thresholds[k + 1], model.thresholds[k + 2], model.thresholds[k + 3]
    for j in range(BLOCK):
      s = scales[j]
      bins[j] += np.int32(s >= a) + np.int32(s >= b) + np.int32(s >= c) + np.int32(s >= d)
  low, high, shift, steps = np.int32(model.low), np.int32(model.high), model.fraction_shift, np.int32(model.table_steps)
  at = np.uint64(count)
  for j in range(BLOCK):
    u = np.uint64(j)
    mean = np.int32(means[u] + np.int32(_ONE // 2))
    bases[at + u] = min(max(np.int32(mean >> _ONE_BITS), low), high)
    tables[at + u] = bins[u] * steps + np.int32((mean & (_ONE - 1)) >> shift)


@_jit
def _direct(model, scratch, part, first_column, row, half, plane, count, positions):
  """Predicts a row of a fine pass, where it lies; `first_column` is where its first position is in a row."""
  reach, rows, offsets = model.reach, scratch.rows, scratch.offsets
  first, last = model.parts[part, 0], model.parts[part, 1]
  for f in range(first, last):
    above = rows[row + model.features[f, 1] + reach]
    if above < 0:
      above = rows[row + reach]
    offsets[f - first] = np.uint64(scratch.sources[f - first] + above)
  own = part // _PASSES * plane + rows[row + reach] + first_column
  for begin in range(0, positions, BLOCK):
    _weigh(model, scratch, part)
    _choose(model, scratch, count)
    lanes = min(BLOCK, positions - begin)
    for j in range(lanes):
      scratch.places[count + j] = own + begin + j
    count += lanes
    for f in range(last - first):
      offsets[f] += np.uint64(BLOCK)
  return count


@_jit
def _gather(model, scratch, part, row, column, plane, lane, tail):
  """Copies the neighbours of a position to a lane of the tail's blocks."""
  reach, map_ = model.reach, scratch.map
  first = model.parts[part, 0]
  for f in range(first, model.parts[part, 1]):
    above = scratch.rows[row + model.features[f, 1] + reach]
    if above < 0:
      above = scratch.rows[row + reach]
    beside = scratch.columns[column + model.features[f, 2] + reach]
    if beside < 0:
      beside = scratch.columns[column + reach]
    map_[tail + (f - first + 1) * BLOCK + lane] = map_[model.features[f, 0] * plane + above + beside]


@_jit
def _predict(model, scratch, height, width, stage, tail):
  """Tables, bases and places of the symbols of a stage, in coding order before they are sorted; returns how many."""
  half = _half_row(width)
  plane = height * 2 * half
  count = 0
  for channel in range(max(0, stage - _PASSES + 1), min(model.channels, stage + 1)):
    index = stage - channel
    part, spacing = channel * _PASSES + index, _SPACINGS[index]
    features = model.parts[part, 1] - model.parts[part, 0]
    direct = spacing == 2 and model.parts[part, 8] <= PAD and width > PAD
    scratch.offsets[features] = np.uint64(tail)
    for start in range(_NUM_STARTS[index]):
      y, x = _STARTS[index, start, 0], _STARTS[index, start, 1]
      if x >= width:
        continue
      if direct:
        for f in range(features):
          feature = model.parts[part, 0] + f
          scratch.sources[f] = model.features[feature, 0] * plane + _column(x + model.features[feature, 2], half)
        for row in range(y, height, 2):
          count = _direct(model, scratch, part, _column(x, half), row, half, plane, count, (width - x + 1) // 2)
        continue
      for f in range(features):
        scratch.offsets[f] = np.uint64(tail + (f + 1) * BLOCK)
      lane = 0
      for row in range(y, height, spacing):
        for column in range(x, width, spacing):
          _gather(model, scratch, part, row, column, plane, lane, tail)
          scratch.places[count + lane] = channel * plane + scratch.rows[row + model.reach] + _column(column, half)
          lane += 1
          if lane == BLOCK:
            _weigh(model, scratch, part)
            _choose(model, scratch, count)
            count += lane
            lane = 0
      if lane:
        _weigh(model, scratch, part)
        _choose(model, scratch, count)
        count += lane
  return count


@_jit
def _sort(model, scratch, count):
  """Sorts the symbols of a stage by table; those of a table stay in order."""
  counts, tables, order = scratch.counts, scratch.tables, scratch.order
  for table in range(model.cumulative.shape[0]):
    counts[table] = 0
  for i in range(count):
    counts[tables[i]] += 1
  total = 0
  for table in range(model.cumulative.shape[0]):
    number = counts[table]
    counts[table] = total
    total += number
  for i in range(count):
    at = counts[tables[i]]
    order[at] = i
    counts[tables[i]] = at + 1


@_jit
def _mirror_edges(model, scratch, height, width, stage):
  """Repeats what a stage added to the map in the columns beyond its edges."""
  half = _half_row(width)
  pitch = 2 * half
  if width <= PAD:
    return
  for channel in range(max(0, stage - _PASSES + 1), min(model.channels, stage + 1)):
    index = stage - channel
    for start in range(_NUM_STARTS[index]):
      for row in range(_STARTS[index, start, 0], height, _SPACINGS[index]):
        at = (channel * height + row) * pitch
        for x in range(1, PAD + 1):
          scratch.map[at + _column(-x, half)] = scratch.map[at + _column(x, half)]
          scratch.map[at + _column(width - 1 + x, half)] = scratch.map[at + _column(width - 1 - x, half)]


@_jit
def _decode_file(model, scratch, words, height, width):
  """Decodes a file to the map; returns what becomes of it."""
  tail = _start(model, scratch, height, width)
  cumulative, map_ = model.cumulative, scratch.map
  middle = (cumulative.shape[1] - 2) // 2
  distance, extent, at = np.uint64(0), _FULL, 0
  for _ in range(2):
    distance <<= _U32
    if at < words.size:
      distance |= np.uint64(words[at])
    at += 1
  for stage in range(model.channels + _PASSES - 1):
    count = _predict(model, scratch, height, width, stage, tail)
    _sort(model, scratch, count)
    for k in range(count):
      i = scratch.order[k]
      table = scratch.tables[i]
      scale = extent >> _U24
      if distance >= scale << _U24:
        return INVALID
      # The nearest symbols are the likeliest. The search ends: cumulative goes from 0 to 2^24.
      symbol = middle
      left = scale * np.uint64(cumulative[table, symbol])
      if distance >= left:
        right = scale * np.uint64(cumulative[table, symbol + 1])
        while distance >= right:
          symbol += 1
          left = right
          right = scale * np.uint64(cumulative[table, symbol + 1])
      else:
        right = left
        while distance < left:
          symbol -= 1
          right = left
          left = scale * np.uint64(cumulative[table, symbol])
      value = symbol - middle + scratch.bases[i]
      if value < model.low or value > model.high:
        return OUT_OF_RANGE
      map_[scratch.places[i]] = value
      distance -= left
      extent = right - left
      if extent < _WORD:
        extent <<= _U32
        distance <<= _U32
        if at < words.size:
          distance |= np.uint64(words[at])
        at += 1
    _mirror_edges(model, scratch, height, width, stage)
  # As constriction's `maybe_exhausted`: all words are read, and the point is where an encoder may have left it.
  if at >= words.size and (extent == _FULL or distance < np.uint64((1 << 33) - 1)):
    return GOOD
  return LEFT_OVER


@_jit
def decode(model, scratch, words, files, symbols, results):
  """Decodes files and keeps a window of each.

  Args:
    model, scratch: see there.
    words: uint32, the payloads of all files.
    files: int64 `[n, 9]`: a file's first word and its last + 1, height and width of its map, top, left, height and
      width of its window, and where in `symbols` that goes.
    symbols: uint8, receives `[height, width, C]` of each window.
    results: int64 `[n]`, receives what becomes of each; windows of those that are not GOOD are left as they are.
  """
  for n in range(files.shape[0]):
    height, width = files[n, 2], files[n, 3]
    results[n] = _decode_file(model, scratch, words[files[n, 0]:files[n, 1]], height, width)
    if results[n] != GOOD:
      continue
    half = _half_row(width)
    at = files[n, 8]
    for row in range(files[n, 4], files[n, 4] + files[n, 6]):
      for column in range(files[n, 5], files[n, 5] + files[n, 7]):
        place = row * 2 * half + _column(column, half)
        for channel in range(model.channels):
          symbols[at + channel] = np.uint8(scratch.map[channel * height * 2 * half + place] - model.low)
        at += model.channels


@_jit
def _flush(words, size, inverted, first, carried):
  """Writes the words held back until it was known whether the lower end of the range would carry into them."""
  words[size] = np.uint32(first + np.uint64(1)) if carried else np.uint32(first)
  for k in range(1, inverted):
    words[size + k] = np.uint32(0) if carried else np.uint32(0xFFFFFFFF)
  return size + inverted


@_jit
def _encode_file(model, scratch, words, height, width):
  """Encodes `truth`; returns how many words were written."""
  tail = _start(model, scratch, height, width)
  cumulative, map_ = model.cumulative, scratch.map
  middle = (cumulative.shape[1] - 2) // 2
  lower, extent, size = np.uint64(0), _FULL, 0
  inverted, first = 0, np.uint64(0)
  for stage in range(model.channels + _PASSES - 1):
    count = _predict(model, scratch, height, width, stage, tail)
    _sort(model, scratch, count)
    for k in range(count):
      i = scratch.order[k]
      table, place = scratch.tables[i], scratch.places[i]
      value = scratch.truth[place]
      map_[place] = value
      symbol = value - scratch.bases[i] + middle
      scale = extent >> _U24
      left, right = np.uint64(cumulative[table, symbol]), np.uint64(cumulative[table, symbol + 1])
      extent = scale * (right - left)
      new_lower = lower + scale * left
      if inverted and new_lower + extent > new_lower:
        size = _flush(words, size, inverted, first, new_lower < lower)
        inverted = 0
      lower = new_lower
      if extent < _WORD:
        extent <<= _U32
        word = lower >> _U32
        lower <<= _U32
        if inverted:
          inverted += 1
        elif lower + extent > lower:
          words[size] = np.uint32(word)
          size += 1
        else:
          inverted, first = 1, word
    _mirror_edges(model, scratch, height, width, stage)
  point = lower + (_WORD - np.uint64(1))
  if inverted:
    size = _flush(words, size, inverted, first, point < lower)
  words[size] = np.uint32(point >> _U32)
  size += 1
  if (lower + extent) >> _U32 == point >> _U32:
    words[size] = 0
    size += 1
  return size


@_jit
def encode(model, scratch, symbols, files, words, sizes):
  """Encodes maps.

  Args:
    model, scratch: see there.
    symbols: uint8, `[height, width, C]` of all maps, one after another, below L.
    files: int64 `[n, 4]`: where in `symbols` a map begins, its height and width (at least 1), and where in `words` its
      payload goes, which has room for a word a symbol and two more.
    words: uint32, receives the payloads.
    sizes: int64 `[n]`, receives their sizes in words.
  """
  for n in range(files.shape[0]):
    height, width = files[n, 1], files[n, 2]
    half = _half_row(width)
    at = files[n, 0]
    for row in range(height):
      for column in range(width):
        place = row * 2 * half + _column(column, half)
        for channel in range(model.channels):
          scratch.truth[channel * height * 2 * half + place] = np.int32(symbols[at + channel]) + np.int32(model.low)
        at += model.channels
    sizes[n] = _encode_file(model, scratch, words[files[n, 3]:], height, width)
