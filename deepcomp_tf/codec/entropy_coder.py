"""Symbols to bytes and back: the context model drives constriction's range coder."""

import constriction
import numpy as np

from deepcomp_tf.codec import context
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError

_WORD = np.dtype("<u4")


class EntropyCoder:
  """Codes maps of symbols with the tables of a `ContextModel`.

  Within a stage of the context model the symbols are sorted by table, so that each table is one call to the
  range coder.
  """

  def __init__(self, model):
    self.model = model
    tables = model.tables.reshape(-1, model.tables.shape[-1])
    self._middle = model.num_symbols - 1
    # The counts sum to a power of two: as probabilities they are exact, and the coder's rounding leaves them.
    self._distributions = [
        constriction.stream.model.Categorical(table / context.TABLE_TOTAL, perfect=False) for table in tables]

  def encode(self, symbols):
    """Args: uint8 `[h, w, C]` symbols. Returns: bytes, a multiple of 4 of them."""
    symbols = np.asarray(symbols)
    if symbols.ndim != 3 or symbols.shape[-1] != self.model.channels:
      raise DeepcompError(
          f"`symbols` must have the shape [h, w, {self.model.channels}]. Received: shape={symbols.shape}")
    if symbols.size and int(symbols.max()) >= self.model.num_symbols:
      raise DeepcompError(
          f"`symbols` must be below {self.model.num_symbols}. Received: a symbol of {int(symbols.max())}")
    values = symbols.transpose(2, 0, 1).astype(np.int32).ravel() - self.model.origin
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
      BitstreamError: the payload is not one of a map of this size.
    """
    if len(payload) % _WORD.itemsize:
      raise BitstreamError(f"damaged: the payload's {len(payload)} bytes are no multiple of {_WORD.itemsize}")
    count = height * width * self.model.channels
    if count * context.SMALLEST_COST > 8 * len(payload) + 64:
      raise BitstreamError(f"damaged: {len(payload)} bytes cannot hold the {count} symbols of the size it claims")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, _WORD).astype(np.uint32))
    low, high = -self.model.origin, self.model.num_symbols - 1 - self.model.origin

    def code(positions, tables, bases):
      order, groups = _groups(tables)
      offsets = np.empty(order.size, np.int32)
      for table, begin, end in groups:
        offsets[begin:end] = decoder.decode(self._distributions[table], end - begin)
      values = np.empty(order.size, np.int32)
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
    costs = -np.log2(self.model.tables.reshape(-1, self.model.tables.shape[-1]) / context.TABLE_TOTAL)
    values = symbols.transpose(2, 0, 1).astype(np.int32).ravel() - self.model.origin
    total = 0.0

    def code(positions, tables, bases):
      nonlocal total
      total += costs[tables, values[positions] - bases + self._middle].sum()
      return values[positions]

    self.model.run(*symbols.shape[:2], code)
    return total


def _groups(tables):
  """Order that sorts symbols by table, and (table, begin, end) of each run in that order."""
  order = np.argsort(tables.astype(np.uint16), kind="stable")  # a radix sort
  ordered = tables[order]
  begins = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
  ends = np.append(begins[1:], order.size)
  return order, zip(ordered[begins].tolist(), begins.tolist(), ends.tolist())
