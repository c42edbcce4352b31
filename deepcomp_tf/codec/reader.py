"""Reading the symbols of files, one or many at a time, without a neural network: `Reader`."""

from collections.abc import Sequence
import math
from typing import Optional, overload

import numpy as np

from deepcomp_tf.bitstream import Bitstream
from deepcomp_tf.bitstream import FileBytes
from deepcomp_tf.bitstream import known_fingerprints
from deepcomp_tf.codec import container
from deepcomp_tf.codec.entropy_coder import EntropyCoder
from deepcomp_tf.codec.entropy_coder import Job
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import check_errors
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import Errors
from deepcomp_tf.errors import failed
from deepcomp_tf.representation import STRIDE


class Reader:
  """Reads the files of an operating point. It does not import TensorFlow.

  Attributes:
    operating_point: name of the operating point.
    channels: C.
    fingerprint: 3 bytes that files of this operating point bear.

  Args:
    point: an `operating_point.OperatingPoint`.
  """

  def __init__(self, point):
    self.operating_point, self.channels, self.fingerprint = point.name, point.channels, point.fingerprint
    self._centers, self._coder = point.centers, EntropyCoder(point.context_model)

  def open(self, data: FileBytes) -> Bitstream:
    """A file as a `Bitstream` of this operating point.

    Raises:
      BitstreamError: the file is damaged, of another operating point, or larger than `container.MAX_PIXELS`.
      DeepcompError: what is given is not the bytes of a file, but for example a path.
    """
    file = Bitstream(data)
    if file.header.fingerprint != self.fingerprint:
      raise BitstreamError(
          f"of another operating point: expected {self.fingerprint.hex()} ({self.operating_point}), the file says "
          f"{file.header.fingerprint.hex()} (known are {known_fingerprints()})")
    self._coder.check(file.payload, *file.map_size)
    return file

  @overload
  def symbols(self, data: FileBytes, errors: Errors = ..., threads: Optional[int] = ...) -> np.ndarray: ...
  @overload
  def symbols(self, data: Sequence[FileBytes], errors: Errors = ..., threads: Optional[int] = ...) -> list[np.ndarray]: ...

  def symbols(self, data, errors="raise", threads=None):
    """The symbols in a file, or in several.

    Args:
      data: bytes of a file, a `Bitstream`, which keeps them, or a list of these.
      errors: of several, "raise" the DeepcompError of a file that cannot be read, or "return" that in the place of its symbols.
      threads: at most so many decode; None for as many as there are cores.

    Returns:
      uint8 `[ceil(H/8), ceil(W/8), C]`, or a list of such arrays.

    Raises: as `open`.
    """
    check_errors(errors)
    if container.is_one(data):
      return self.symbols([data], threads=1)[0]
    files = container.list_of(data)
    opened, results = self._open_all(files, DeepcompError)
    jobs, end = {}, 0
    for number, file in opened.items():
      results[number] = file.kept
      if file.kept is None:
        rows, columns = file.map_size
        jobs[number] = Job(file.payload, rows, columns, 0, 0, rows, columns, end)
        end += rows * columns * self.channels
    symbols = np.empty(end, np.uint8)
    results.update(self._decode_jobs(jobs, symbols, threads))
    for number, job in jobs.items():
      if results[number] is None:
        size = job.rows, job.columns, self.channels
        found = symbols[job.begin:job.begin + math.prod(size)].reshape(size)
        if opened[number] is files[number]:  # a `Bitstream` that somebody has
          found = opened[number].keep(found.copy() if len(jobs) > 1 else found)
        results[number] = found
    return [failed(results[number], number, len(files), errors) if isinstance(results[number], DeepcompError) else results[number]
            for number in range(len(files))]

  def _open_all(self, files, refused):
    """The `Bitstream`s in a list, and the errors of type `refused` of the others; dicts by their places."""
    opened, errors = {}, {}
    for number, data in enumerate(files):
      try:
        opened[number] = self.open(data)
      except refused as error:
        errors[number] = error
    return opened, errors

  def _decode_jobs(self, jobs, symbols, threads):
    """Decodes a dict of `Job`s. Returns a dict of the errors of those whose files are damaged."""
    errors = self._coder.decode_batch(list(jobs.values()), symbols, threads)
    return {number: error for number, error in zip(jobs, errors) if error}

  def symbols_of(self, files, threads=None):
    """As `symbols` of a list, with errors="return", but with None for files that are damaged, and their `BitstreamError`s in a
    dict beside, by their places in the list. What is no list of bytes is refused."""
    results = self.symbols(container.list_of(files), "return", threads)
    errors = {number: result for number, result in enumerate(results) if isinstance(result, DeepcompError)}
    for error in errors.values():
      if not isinstance(error, BitstreamError):
        raise error
    return [None if number in errors else result for number, result in enumerate(results)], errors

  def crops_of(self, files, size, places=None, threads=None):
    """Crops of the symbols in several files, decoded on several threads straight into a batch.

    Args:
      files: list of bytes.
      size: edge of the crops in positions, of 8x8 pixels.
      places: float `[n, 2]` in [0, 1), where each crop lies from top to bottom and from left to right; None for the center.
      threads: at most so many; None for as many as there are cores.

    Returns:
      uint8 `[n, size, size, C]`, and a list of None for each file that has a crop, else its error: `BitstreamError` where it is
      damaged, `DeepcompError` where it is smaller. Their crops are 0.
    """
    files = container.list_of(files)
    symbols = np.zeros([len(files), size, size, self.channels], np.uint8)
    places = None if places is None else np.asarray(places).tolist()
    opened, errors = self._open_all(files, BitstreamError)
    jobs = {}
    for number, file in opened.items():
      rows, columns = file.map_size
      if min(rows, columns) < size:
        errors[number] = DeepcompError(f"expected a file of at least {STRIDE * size} pixels in both directions. Received: "
                                       f"one of {STRIDE * min(rows, columns)}")
        continue
      if places is None:
        top, left = (rows - size) // 2, (columns - size) // 2
      else:
        top, left = (int(place * (side - size + 1)) for place, side in zip(places[number], (rows, columns)))
      jobs[number] = Job(file.payload, rows, columns, top, left, size, size, number * symbols[0].size)
    damaged = self._decode_jobs(jobs, symbols, threads)
    symbols[list(damaged)] = 0
    return symbols, list(map((errors | damaged).get, range(len(files))))

  def representation(self, data: FileBytes) -> np.ndarray:
    """The quantized representation in a file: bytes -> float32 `[ceil(H/8), ceil(W/8), C]`; errors are those of `symbols`."""
    return self._centers[self.symbols(data)]

  def estimated_bits(self, symbols: np.ndarray) -> float:
    """Bits by the paper's measure: the number of symbols times the entropy of their pooled histogram."""
    counts = np.bincount(symbols.ravel())
    p = counts[counts > 0] / symbols.size
    return float(-(p * np.log2(p)).sum() * symbols.size)
