"""Symbols to bytes and back: the context model drives constriction's range coder.

There are two forms, which give the same bytes and the same symbols. The numpy form in this file is the one to read,
and runs at once. The compiled form (`compiled.py`) is ten times as fast, works on several files at a time
and outside of Python's lock, but takes seconds to compile, once a process. So a process begins with numpy, and compiles
when what it has coded has taken about as long as compiling does (WORTH_COMPILING), or when `warm_up` is called.
"""

from typing import NamedTuple

import constriction
import numpy as np

from deepcomp_tf.codec import context
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError

_WORD = np.dtype("<u4")

# Symbols that a process codes before it compiles the kernels.
WORTH_COMPILING = 12_000_000

_coded = 0

# The messages of `kernels.INVALID`, OUT_OF_RANGE and LEFT_OVER.
_DAMAGES = (None, "the payload is not one of the coder", "a decoded symbol is out of range",
            "data is left over behind the last symbol")


def warm_up():
  """Compiles the kernels now: for benchmarks, and for services that will read many files and must not halt later."""
  global _coded
  _coded = WORTH_COMPILING
  from deepcomp_tf.codec import fitting
  coder = EntropyCoder(fitting.flat_model(1, 2, 0), compiled=True)
  coder.decode(coder.encode(np.zeros([1, 1, 1], np.uint8)), 1, 1)


def _compiling_pays(count):
  """Whether to use the kernels for `count` more symbols."""
  global _coded
  if _coded < WORTH_COMPILING:
    _coded += count
  return _coded >= WORTH_COMPILING


class Job(NamedTuple):
  """A payload to decode, and which part of its map to keep.

  top, left, rows, columns: the window, within the map of height x width positions.
  begin: where it goes among the symbols of the batch.
  """
  payload: bytes
  height: int
  width: int
  top: int
  left: int
  rows: int
  columns: int
  begin: int


class EntropyCoder:
  """Codes maps of symbols with the tables of a `ContextModel`.

  Within a stage of the context model the symbols are sorted by table, so that each table is a single call to the
  range coder.

  Args:
    model: a `ContextModel`.
    compiled: whether to use the kernels; None for once that pays.
  """

  def __init__(self, model, compiled=None):
    self.model = model
    self._compile, self._kernels = compiled, None
    tables = model.tables.reshape(-1, model.tables.shape[-1])
    self._middle = model.num_symbols - 1
    # The counts sum to a power of two: as probabilities they are exact, and the coder's rounding leaves them.
    self._distributions = [
        constriction.stream.model.Categorical(table / context.TABLE_TOTAL, perfect=False) for table in tables]

  def _compiled(self, count):
    """The `CompiledCoder` for `count` more symbols, or None where they are better coded by numpy."""
    if self._kernels is None and (_compiling_pays(count) if self._compile is None else self._compile):
      from deepcomp_tf.codec import compiled  # imports numba, which takes a while
      self._kernels = compiled.CompiledCoder(self.model)
    return self._kernels

  def encode(self, symbols):
    """Args: uint8 `[h, w, C]` symbols. Returns: bytes, a multiple of 4 of them."""
    return self.encode_batch([symbols], threads=1)[0]

  def encode_batch(self, maps, threads=None):
    """A list of maps uint8 `[h, w, C]`, of any sizes -> a list of bytes, on so many threads at most; None for all cores."""
    maps = [self._check_symbols(symbols) for symbols in maps]
    kernels = self._compiled(sum(symbols.size for symbols in maps)) if all(symbols.size for symbols in maps) else None
    if kernels is None:
      return [self._encode(symbols) for symbols in maps]
    return kernels.encode([symbols.astype(np.uint8) for symbols in maps], threads)

  def _check_symbols(self, symbols):
    symbols = np.asarray(symbols)
    if symbols.ndim != 3 or symbols.shape[-1] != self.model.channels:
      raise DeepcompError(
          f"`symbols` must have the shape [h, w, {self.model.channels}]. Received: shape={symbols.shape}")
    if not np.issubdtype(symbols.dtype, np.integer):
      raise DeepcompError(f"`symbols` must be integers. Received: dtype={symbols.dtype}")
    if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < self.model.num_symbols:
      raise DeepcompError(f"`symbols` must be in 0..{self.model.num_symbols - 1}. Received: symbols in "
                          f"{int(symbols.min())}..{int(symbols.max())}")
    return symbols

  def _encode(self, symbols):
    values = self.model.values_of(symbols)
    encoder = constriction.stream.queue.RangeEncoder()

    def code(positions, tables, bases):
      coded = values[positions]
      offsets = coded - bases + self._middle
      order, groups = _groups(tables)
      offsets = offsets[order].astype(np.int32)
      for table, begin, end in groups:
        encoder.encode(offsets[begin:end], self._distributions[table])
      return coded

    self.model.run(*symbols.shape[:2], code)
    return encoder.get_compressed().astype(_WORD).tobytes()

  def decode(self, payload, height, width):
    """Args: bytes from `encode`, and the size of the map. Returns: uint8 `[height, width, C]` symbols.

    Raises:
      BitstreamError: the payload is damaged, or of a map of another size.
    """
    self.check(payload, height, width)  # before memory is allocated
    symbols = np.empty([height, width, self.model.channels], np.uint8)
    error, = self.decode_batch([Job(payload, height, width, 0, 0, height, width, 0)], symbols, threads=1)
    if error:
      raise error
    return symbols

  def decode_batch(self, jobs, symbols, threads=None):
    """Decodes a list of `Job`s to their windows in `symbols`, uint8, contiguous, on so many threads at most; None for all cores.

    Returns:
      list of None, or the `BitstreamError` of a job whose payload is damaged; its window holds anything.
    """
    if not symbols.flags.c_contiguous:
      raise DeepcompError("`symbols` must be contiguous, to be written to")
    flat, errors, good = symbols.reshape(-1), [None] * len(jobs), []
    for number, job in enumerate(jobs):
      try:
        self.check(job.payload, job.height, job.width)
        good.append(number)
      except BitstreamError as error:
        errors[number] = error
    kernels = self._compiled(sum(jobs[number].height * jobs[number].width for number in good) * self.model.channels)
    if kernels and good:
      for number, result in zip(good, kernels.decode([jobs[number] for number in good], flat, threads)):
        errors[number] = BitstreamError(f"damaged: {_DAMAGES[result]}") if result else None
      return errors
    for number in good:
      job = jobs[number]
      try:
        decoded = self._decode(job.payload, job.height, job.width)
        window = decoded[job.top:job.top + job.rows, job.left:job.left + job.columns]
        flat[job.begin:job.begin + window.size] = window.reshape(-1)
      except BitstreamError as error:
        errors[number] = error
    return errors

  def check(self, payload, height, width):
    """Raises a BitstreamError where a payload has no whole words, or cannot hold a map of this size."""
    if len(payload) % _WORD.itemsize:
      raise BitstreamError(f"damaged: the payload's {len(payload)} bytes are no multiple of {_WORD.itemsize}")
    count = height * width * self.model.channels
    if count * context.SMALLEST_COST > 8 * len(payload) + 64:
      raise BitstreamError(f"damaged: {len(payload)} bytes cannot hold the {count} symbols of the size it claims")

  def _decode(self, payload, height, width):
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, _WORD).astype(np.uint32))
    low, high = -self.model.origin, self.model.num_symbols - 1 - self.model.origin

    def code(positions, tables, bases):
      order, groups = _groups(tables)
      offsets, values = np.empty(order.size, np.int32), np.empty(order.size, np.int32)
      for table, begin, end in groups:
        offsets[begin:end] = decoder.decode(self._distributions[table], end - begin)
      values[order] = offsets
      values += bases - self._middle
      if values.min() < low or values.max() > high:
        raise BitstreamError("damaged: a decoded symbol is out of range")
      return values

    try:
      values = self.model.run(height, width, code)
    except (AssertionError, ValueError) as error:
      if isinstance(error, BitstreamError):
        raise
      raise BitstreamError(f"damaged: {error}") from None
    if not decoder.maybe_exhausted():
      raise BitstreamError("damaged: data is left over behind the last symbol")
    return (values + self.model.origin).astype(np.uint8).transpose(1, 2, 0)

  def bits(self, symbols):
    """What the tables charge for symbols, in bits, without the coder's overhead."""
    return float(self.model.costs[self.model.entries_of(symbols)].sum())


def _groups(tables):
  """Order that sorts symbols by table, and (table, begin, end) of each run in that order."""
  order = np.argsort(tables.astype(np.uint16), kind="stable")  # a radix sort
  ordered = tables[order]
  begins = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
  ends = np.append(begins[1:], order.size)
  return order, zip(ordered[begins].tolist(), begins.tolist(), ends.tolist())
