"""The bytes of a compressed file, and what is in them: `Bitstream`."""

import functools
import operator
from typing import Union

import numpy as np

from deepcomp_tf import shipped
from deepcomp_tf.codec import container
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec.entropy_coder import EntropyCoder
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE

# What holds the bytes of a file.
FileBytes = Union[bytes, bytearray, memoryview, np.ndarray]


class Bitstream(bytes):
  """The bytes of a compressed file. What they say is read when it is first asked for, and kept.

  Examples:
    >>> file = Bitstream(pathlib.Path("photo.deepcomp").read_bytes())
    >>> file.height, file.width, file.operating_point
    >>> file.symbols                        # uint8 [ceil(H/8), ceil(W/8), C], no neural network

  Whatever takes the bytes of a file takes it. Where a classifier, a segmenter and a codec read the same `Bitstream`, its symbols
  are decoded once.

  Args:
    data: bytes, or what holds them in its memory (`container.bytes_of`). They are not looked at yet.

  Raises:
    DeepcompError: what is given is not bytes, but a path for example.
  """

  kept = None  # the symbols, once they are decoded

  def __new__(cls, data: FileBytes):
    return data if isinstance(data, cls) else super().__new__(cls, container.bytes_of(data))

  def __reduce__(self):
    return type(self), (bytes(self),)

  @functools.cached_property
  def header(self):
    """The `container.Header`. Reading it checks the checksum; a BitstreamError says that the file is damaged, of another format,
    or larger than `container.MAX_PIXELS`."""
    header = container.read_header(self)
    try:
      container.check_pixels(header.height, header.width)
    except DeepcompError as error:
      raise BitstreamError(str(error)) from None
    return header

  height = property(operator.attrgetter("header.height"), doc="Pixels of the photo.")
  width = property(operator.attrgetter("header.width"), doc="Pixels of the photo.")

  @property
  def bits_per_pixel(self) -> float:
    """Of the whole file."""
    return 8 * len(self) / (self.height * self.width)

  @property
  def map_size(self) -> tuple[int, int]:
    """(rows, columns) of the symbols."""
    return -(-self.height // STRIDE), -(-self.width // STRIDE)

  @property
  def payload(self) -> bytes:
    """The bytes behind the header, which hold the symbols."""
    return self[self.header.size:]

  @functools.cached_property
  def operating_point(self) -> str:
    """Name of the shipped operating point that the file is of, or the folder of one in `shipped.search_path`. A BitstreamError
    says that it is of another, or damaged."""
    for name in shipped.all_names(operating_point.KIND):
      if operating_point.fingerprint(name) == self.header.fingerprint:
        return name
    raise BitstreamError(
        f"of an unknown operating point {self.header.fingerprint.hex()}: expected one of {known_fingerprints()}, or one "
        "whose folder is named (--operating_point, in Python `Codec.load`) or is in a folder of DEEPCOMP_PATH")

  @property
  def symbols(self) -> np.ndarray:
    """uint8 `[ceil(H/8), ceil(W/8), C]`, read-only, since they are kept. (Of a point that is not shipped: `Codec.symbols`.)

    Raises: as `operating_point`.
    """
    return self.keep(_coder(self.operating_point).decode(self.payload, *self.map_size)) if self.kept is None else self.kept

  def keep(self, symbols):
    """Keeps the symbols that an operating point's coder decoded from the file, and returns them."""
    symbols.flags.writeable = False
    self.kept = symbols
    return symbols


@functools.lru_cache(maxsize=None)
def _coder(name):
  return EntropyCoder(operating_point.OperatingPoint.load(name).context_model)


def known_fingerprints():
  """Those of the shipped operating points with their names, for errors."""
  return ", ".join(f"{operating_point.fingerprint(name).hex()} ({name})" for name in operating_point.names())
