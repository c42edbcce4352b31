"""The header: every field, every way to be wrong."""

import pathlib

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf.codec import container


def test_pack_and_read():
  for height, width, size in ((1, 1, 12), (127, 128, 13), (512, 768, 14), (2**21 - 1, 2**21 - 1, 16)):
    data = container.pack(b"abc", height, width, b"payload.")
    assert container.read_header(data) == (b"abc", height, width, size)
    assert data[size:] == b"payload."


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (2**21, 5)])
def test_pack_refuses_sizes(size):
  with pytest.raises(dc.DeepcompError, match="pixels a side"):
    container.pack(b"abc", *size, b"")


def test_every_truncation_and_bit_flip_is_noticed():
  data = container.pack(b"abc", 300, 200, bytes(range(40)))
  for length in range(len(data)):
    with pytest.raises(dc.BitstreamError):
      container.read_header(data[:length])
  for bit in range(8 * len(data)):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(dc.BitstreamError):
      container.read_header(damaged)


@pytest.mark.parametrize("data, message", [
    (b"", "begin with"),
    (b"\xff\xd8\xff\xe0 a JPEG file", "begin with"),
    (b"dc\x07abc\x05\x05....", "version 1, the file says 7"),
    (b"dc\x01abc\xff\xff\xff\xff....", "has no end"),
    (b"dc\x01abc\x00\x05....", "height is not a valid number"),
    (b"dc\x01abc\x05\x85\x00....", "width is not a valid number"),
    (b"dc\x01abc\x05\x05....", "checksum"),
])
def test_errors_say_what_is_wrong(data, message):
  with pytest.raises(dc.BitstreamError, match=message):
    container.read_header(data)


@pytest.mark.parametrize("given, said", [
    ("x.deepcomp", "the path x.deepcomp"), (pathlib.Path("/in/x.deepcomp"), "the path /in/x.deepcomp"), (None, "None"),
    (3, "type int"), ([1, 2], "type list"), (np.zeros([8, 8, 3], np.uint8), "an array of shape .8, 8, 3.")])
def test_what_is_not_bytes_is_named(given, said):
  with pytest.raises(dc.DeepcompError, match=f"^expected the bytes of a file.*Received: .*{said}") as error:
    container.read_header(given)
  assert not isinstance(error.value, dc.BitstreamError) and "\n" not in str(error.value)


def test_all_that_has_bytes_is_read():
  data = container.pack(b"abc", 300, 200, b"payload.")
  for form in (bytearray, memoryview, np.bytes_, lambda data: np.frombuffer(data, np.uint8),
               lambda data: memoryview(data + b"-")[:-1]):
    assert container.read_header(form(data)) == container.read_header(data)
