"""Files of at most so many bytes: the operating point nearest to that, and a search whose weight of the bits moves the rate."""

import math

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import passed_on

# Files are near enough where less than this share of what they may have is left, or less than a payload's word.
_NEAR, _WORD = 0.015, 4

# The weight of the bits, which begins with the operating point's, goes up and down in these steps, at most to these; then the
# interval in which the size lies is halved so many times.
_STEP, _SMALLEST, _LARGEST, _HALVINGS = 4.0, 1 / 16, 4096.0, 4

# An operating point below what is asked for counts as so much further away: more bits win less than fewer bits lose.
_BELOW = 2.0


def check(max_bytes, bits_per_pixel):
  """Refuses what is not one of the two, above 0."""
  given = f"max_bytes={max_bytes}, bits_per_pixel={bits_per_pixel}"
  if (max_bytes is None) == (bits_per_pixel is None):
    raise DeepcompError(f"expected `max_bytes` or `bits_per_pixel`. Received: {given}")
  if not 0 < (bits_per_pixel if max_bytes is None else max_bytes) < math.inf:
    raise DeepcompError(f"`max_bytes` and `bits_per_pixel` must be above 0. Received: {given}")


class ToSize:
  """Compresses photos to at most so many bytes.

  >>> to_size = ToSize([dc.Codec.load(name) for name in dc.operating_points.names()], max_bytes=20000)
  >>> data = to_size.compress(image)

  Args:
    codecs: list of `Codec`, of which each photo takes that whose file is nearest in size.
    max_bytes: of a file, with everything in it; or
    bits_per_pixel: the same for each photo by its pixels. Both are above 0.

  Attributes:
    operating_point: names of the operating points.
    fingerprints: of the files that it may write.
  """

  def __init__(self, codecs, max_bytes=None, bits_per_pixel=None):
    check(max_bytes, bits_per_pixel)
    self._codecs, self._max_bytes, self._bits_per_pixel = list(codecs), max_bytes, bits_per_pixel
    self.operating_point = ", ".join(codec.operating_point for codec in self._codecs)
    self.fingerprints = tuple(codec.fingerprint for codec in self._codecs)

  def most(self, height, width):
    """Bytes that the file of a photo of height x width may have."""
    return max(1, int(self._max_bytes if self._bits_per_pixel is None else self._bits_per_pixel * height * width / 8))

  def compress(self, image, effort=2):
    """The bytes of the file of an image, uint8 `[H, W, 3]` RGB.

    Args:
      image: see above.
      effort: 1..9, of each of the searches, of which some ten are made.

    Raises:
      DeepcompError: no file is that small, and how small they get; or image or effort are not what they must be.
    """
    encoded = [(codec, codec.encode(image)) for codec in self._codecs]
    started = [(codec, symbols, len(codec.pack(symbols, *image.shape[:2]))) for codec, symbols in encoded]
    most, least = self.most(*image.shape[:2]), math.inf
    distance = lambda size: math.log(size / most) if size > most else _BELOW * math.log(most / size)
    # The nearest first, then those whose files are smaller.
    started.sort(key=lambda start: distance(start[2]))
    for number, (codec, symbols, size) in enumerate(started):
      if number and size >= started[0][2]:
        continue
      data, smallest = _fit(codec, image, symbols, most, effort)
      if data is not None:
        return data
      least = min(least, smallest)
    raise DeepcompError(f"expected at least {least} bytes for this photo of {image.shape[1]}x{image.shape[0]} pixels at "
                        f"{self.operating_point}. Received: at most {most}")

  def compress_many(self, images, errors="raise", effort=2):
    """Images as the bytes of their files, as of `Codec.compress_many`."""
    return passed_on(self._files_of(images, effort), errors)

  def _files_of(self, images, effort):
    for image in images:
      try:
        yield image if isinstance(image, DeepcompError) else self.compress(image, effort)
      except DeepcompError as error:
        yield error


def _fit(codec, image, symbols, most, effort):
  """The largest file found of at most `most` bytes, or None, and the bytes of the smallest file that was found."""
  best, above, smallest = b"", symbols, math.inf

  def search(rate):
    """Whether a search with this factor on the bits, that begins with what was a little too large, is small enough."""
    nonlocal best, above, smallest
    found = codec.improve(image, above, effort, rate)
    data = codec.pack(found, *image.shape[:2])
    smallest = min(smallest, len(data))
    if len(data) > most:
      above = found
      return False
    best = max(best, data, key=len)
    return True

  near = lambda: most - len(best) < max(_NEAR * most, _WORD)
  low = high = 1.0  # of the factors that were tried, the largest that was too small and the smallest that was enough
  if search(1.0):
    while not near() and high > _SMALLEST:
      low = high / _STEP
      if not search(low):
        break
      high = low
  else:
    high = _STEP
    while high < _LARGEST and not search(high):
      low, high = high, high * _STEP
  for _ in range(_HALVINGS):
    if near() or not best or low == high:
      break
    middle = math.sqrt(low * high)
    low, high = (low, middle) if search(middle) else (middle, high)
  return best or None, smallest
