"""Compiled kernels of the entropy coder: constriction's range coder between the predictions of `prediction.py`, as loops.

Whole files are coded by numba, outside of Python's lock, to the same bytes as by `EntropyCoder`'s numpy form. `CompiledCoder`
(`compiled.py`) prepares what the kernels take; nothing else calls them. Importing this file imports numba, and the first
call of a kernel compiles it, which takes seconds. They are serial and allocate nothing: threads are outside.

**The range coder** is that of constriction 0.4 and 0.5 (bamler-lab/constriction, `stream/queue.rs`): 32-bit words, a
64-bit state, probabilities of 24 bits. The decoder needs of its state only `range` and the distance of its point from
the lower end of the range.
"""

import numpy as np

from deepcomp_tf.codec import layout
from deepcomp_tf.codec import prediction

# An encoder writes at most a word for each symbol, and this many at the end.
SEAL = 2

# Outcomes of decoding a file.
GOOD, INVALID, OUT_OF_RANGE, LEFT_OVER = range(4)

PRECISION = 24

_U24, _U32 = np.uint64(PRECISION), np.uint64(32)
_WORDS = np.uint64(1 << 32)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


@layout.jit
def _word(words, at):
  """A word of a payload, behind which there are zeros."""
  return np.uint64(words[at]) if at < words.size else np.uint64(0)


@layout.inlined
def _decode_file(model, scratch, words, height, width):
  """Decodes a file to the map; returns its outcome."""
  prediction.start(model, scratch, height, width)
  cumulative, map_ = model.cumulative, scratch.map
  middle = (cumulative.shape[1] - 2) // 2
  distance, extent, at = _word(words, 0) << _U32 | _word(words, 1), _FULL, 2
  for stage in range(model.channels + prediction.PASSES - 1):
    prediction.sort(scratch, prediction.predict(model, scratch, height, width, stage))
    begin = 0
    for table in range(scratch.ends.size):
      end = scratch.ends[table]
      if begin == end:
        continue
      # The nearest symbols are the likeliest.
      least, most = np.uint64(cumulative[table, middle]), np.uint64(cumulative[table, middle + 1])
      for k in range(begin, end):
        scale = extent >> _U24
        if distance >= scale << _U24:
          return INVALID
        # The search ends: cumulative goes from 0 to 2^24.
        symbol, left, right = middle, scale * least, scale * most
        while distance >= right:
          symbol += 1
          left = right
          right = scale * np.uint64(cumulative[table, symbol + 1])
        while distance < left:
          symbol -= 1
          right = left
          left = scale * np.uint64(cumulative[table, symbol])
        value = symbol - middle + scratch.bases[k]
        if value < model.low or value > model.high:
          return OUT_OF_RANGE
        map_[scratch.places[k]] = value
        distance -= left
        extent = right - left
        if extent < _WORDS:
          extent <<= _U32
          distance = distance << _U32 | _word(words, at)
          at += 1
      begin = end
    prediction.mirror(model, scratch, height, width, stage)
  # As constriction's `maybe_exhausted`: all words are read, and the point is where an encoder may have left it.
  if at >= words.size and (extent == _FULL or distance < np.uint64((1 << 33) - 1)):
    return GOOD
  return LEFT_OVER


@layout.jit
def decode(model, scratch, words, files, symbols, results):
  """Decodes files and keeps a window of each.

  Args:
    model, scratch: see there.
    words: uint32, the payloads of all files.
    files: int64 `[n, 9]`: a file's first word and its last + 1, height and width of its map, top, left, height and
      width of its window, and where in `symbols` that goes.
    symbols: uint8, receives `[height, width, C]` of each window.
    results: int64 `[n]`, receives the outcomes; windows of files that are not GOOD are left as they are.
  """
  for n in range(files.shape[0]):
    height, width = files[n, 2], files[n, 3]
    results[n] = _decode_file(model, scratch, words[files[n, 0]:files[n, 1]], height, width)
    if results[n] != GOOD:
      continue
    pitch, plane, channel_size = layout.geometry(height, width)
    at = files[n, 8]
    for row in range(files[n, 4], files[n, 4] + files[n, 6]):
      for column in range(files[n, 5], files[n, 5] + files[n, 7]):
        place = layout.place_of(row, pitch, 2 * plane) + layout.place_of(column, 1, plane)
        for channel in range(model.channels):
          symbols[at + channel] = np.uint8(scratch.map[channel * channel_size + place] - model.low)
        at += model.channels


@layout.jit
def _flush(words, size, inverted, first, carried):
  """Writes the words held back until it was known whether the lower end of the range would carry into them."""
  words[size] = np.uint32(first + np.uint64(1)) if carried else np.uint32(first)
  for k in range(1, inverted):
    words[size + k] = np.uint32(0) if carried else np.uint32(0xFFFFFFFF)
  return size + inverted


@layout.inlined
def _encode_file(model, scratch, words, height, width):
  """Encodes `truth`; returns how many words were written."""
  prediction.start(model, scratch, height, width)
  cumulative, map_ = model.cumulative, scratch.map
  middle = (cumulative.shape[1] - 2) // 2
  lower, extent, size = np.uint64(0), _FULL, 0
  inverted, first = 0, np.uint64(0)
  for stage in range(model.channels + prediction.PASSES - 1):
    prediction.sort(scratch, prediction.predict(model, scratch, height, width, stage))
    begin = 0
    for table in range(scratch.ends.size):
      end = scratch.ends[table]
      for k in range(begin, end):
        place = scratch.places[k]
        value = scratch.truth[place]
        map_[place] = value
        symbol = value - scratch.bases[k] + middle
        scale = extent >> _U24
        left, right = np.uint64(cumulative[table, symbol]), np.uint64(cumulative[table, symbol + 1])
        extent = scale * (right - left)
        new_lower = lower + scale * left
        if inverted and new_lower + extent > new_lower:
          size = _flush(words, size, inverted, first, new_lower < lower)
          inverted = 0
        lower = new_lower
        if extent < _WORDS:
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
      begin = end
    prediction.mirror(model, scratch, height, width, stage)
  point = lower + (_WORDS - np.uint64(1))
  if inverted:
    size = _flush(words, size, inverted, first, point < lower)
  words[size] = np.uint32(point >> _U32)
  size += 1
  if (lower + extent) >> _U32 == point >> _U32:
    words[size] = 0
    size += 1
  return size


@layout.jit
def encode(model, scratch, symbols, files, words, sizes):
  """Encodes maps.

  Args:
    model, scratch: see there.
    symbols: uint8, `[height, width, C]` of all maps, one after another, below L.
    files: int64 `[n, 4]`: where in `symbols` a map begins, its height and width (at least 1), and where in `words` its
      payload goes, which has room for a word a symbol and SEAL more.
    words: uint32, receives the payloads.
    sizes: int64 `[n]`, receives their sizes in words.
  """
  for n in range(files.shape[0]):
    height, width = files[n, 1], files[n, 2]
    pitch, plane, channel_size = layout.geometry(height, width)
    at = files[n, 0]
    for row in range(height):
      for column in range(width):
        place = layout.place_of(row, pitch, 2 * plane) + layout.place_of(column, 1, plane)
        for channel in range(model.channels):
          scratch.truth[channel * channel_size + place] = np.int32(symbols[at + channel]) + np.int32(model.low)
        at += model.channels
    sizes[n] = _encode_file(model, scratch, words[files[n, 3]:], height, width)
