"""The header of a compressed file.

| bytes | field |
|---|---|
| 2 | magic, `dc` |
| 1 | format version |
| 3 | fingerprint of the operating point (its centers and context model) |
| 1 to 3 each | height and width of the image in pixels, varints |
| 4 | CRC-32 of everything else |

Then the payload: the range coder's 32-bit words, little endian. At most 16 bytes of header.
"""

import os
from typing import NamedTuple
import zlib

from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError

MAGIC = b"dc"
VERSION = 1
EXTENSION = ".deepcomp"
MAX_SIDE = (1 << 21) - 1
# Larger photos and files are refused before anything is allocated for them. It can be set, to more than that together with
# PIL.Image.MAX_IMAGE_PIXELS, whose double this is.
MAX_PIXELS = 178_956_970
FINGERPRINT_BYTES = 3
MAX_HEADER_BYTES = 16


class Header(NamedTuple):
  """fingerprint: 3 bytes; height, width: pixels of the image; size: bytes of the header itself."""
  fingerprint: bytes
  height: int
  width: int
  size: int


def check_pixels(height, width):
  """Refuses an image of more than `MAX_PIXELS`."""
  if height * width > MAX_PIXELS:
    raise DeepcompError(f"expected an image of at most {MAX_PIXELS} pixels (deepcomp_tf.codec.container.MAX_PIXELS). "
                        f"Received: {width}x{height} pixels")


def pack(fingerprint, height, width, payload):
  """The bytes of a file."""
  for side in (height, width):
    if not 1 <= side <= MAX_SIDE:
      raise DeepcompError(f"expected an image of 1 to {MAX_SIDE} pixels a side. Received: {height}x{width}")
  front = MAGIC + bytes([VERSION]) + fingerprint + _varint(height) + _varint(width)
  checksum = zlib.crc32(payload, zlib.crc32(front))
  return front + checksum.to_bytes(4, "little") + payload


def bytes_of(data):
  """The bytes of a file, given as bytes, a bytearray, a memoryview, or an array of one dimension.

  Raises:
    DeepcompError: it is something else, such as a path.
  """
  if isinstance(data, bytes):
    return data
  if isinstance(data, (str, os.PathLike)):
    raise DeepcompError(f"expected the bytes of a file, such as pathlib.Path(path).read_bytes(). Received: {_told(data)}")
  try:
    view = memoryview(data)
  except TypeError:
    raise DeepcompError(f"expected the bytes of a file. Received: {_told(data)}") from None
  if view.ndim > 1:
    raise DeepcompError(f"expected the bytes of a file. Received: an array of shape {view.shape}")
  return view.tobytes()


def is_one(data):
  """Whether a single file is given, rather than a list of files. A path counts as a file, which `bytes_of` then refuses."""
  return isinstance(data, (bytes, bytearray, memoryview, str, os.PathLike))


def list_of(files):
  """Bytes of several files as a list. Refuses a single file, a path, and what holds nothing."""
  if is_one(files) or not hasattr(files, "__iter__"):
    raise DeepcompError(f"expected a list of the bytes of files. Received: {_told(files)}")
  return list(files)


def _told(data):
  """What an object is, for errors."""
  if isinstance(data, (str, os.PathLike)):
    return f"the path {data}"
  return "None" if data is None else f"a value of the type {type(data).__name__}"


def read_header(data):
  """The `Header` of a whole file, see `bytes_of`, after all checks that need no operating point.

  Raises:
    BitstreamError: it is damaged, or not of this format.
    DeepcompError: it is not bytes.
  """
  data = bytes_of(data)
  header = peek(data)
  expected = int.from_bytes(data[header.size - 4:header.size], "little")
  found = zlib.crc32(data[header.size:], zlib.crc32(data[:header.size - 4]))
  if expected != found:
    raise BitstreamError(f"damaged or truncated: the checksum is {found:08x}, the header says {expected:08x}")
  return header


def peek(data):
  """The `Header` in the first MAX_HEADER_BYTES bytes of a file, or more; its checksum takes the whole file.

  Raises:
    BitstreamError: no file of this format begins so.
  """
  if data[:2] != MAGIC:
    raise BitstreamError(f"not a compressed image: expected it to begin with {MAGIC!r}, it begins with {data[:2]!r}")
  if len(data) < 3:
    raise BitstreamError("truncated in the header")
  if data[2] != VERSION:
    raise BitstreamError(f"expected format version {VERSION}, the file says {data[2]}")
  at, sides = 3 + FINGERPRINT_BYTES, []
  for name in ("height", "width"):
    value = 0
    for length in range(3):
      if at >= len(data):
        raise BitstreamError("truncated in the header")
      byte = data[at]
      at += 1
      value |= (byte & 0x7F) << (7 * length)
      if byte < 0x80:
        break
    else:
      raise BitstreamError(f"damaged header: the {name} has no end")
    if value == 0 or (length and byte == 0):
      raise BitstreamError(f"damaged header: the {name} is not a valid number")
    sides.append(value)
  if at + 4 > len(data):
    raise BitstreamError("truncated in the header")
  return Header(data[3:3 + FINGERPRINT_BYTES], *sides, at + 4)


def _varint(value):
  result = bytearray()
  while value >= 0x80:
    result.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes(result + bytes([value]))
