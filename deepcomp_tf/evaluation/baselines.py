"""Image formats to compare with, at no more bytes than ours or at fixed qualities: JPEG, JPEG 2000, WebP, AVIF, all by Pillow."""

import functools
import io
from typing import Callable, NamedTuple, Optional

import numpy as np
from PIL import Image
from PIL import features

from deepcomp_tf.errors import DeepcompError


class Format(NamedTuple):
  """A format and the ladder of its qualities.

  label: name for people.
  options: function from a rung, 0..rungs-1 from the smallest file up, to Pillow's options for saving.
  rungs: how many there are.
  feature: what Pillow must have been built with.
  curve: the rungs that curves are drawn through. Photos have about 0.05 to 1 bits per pixel there, or from the format's smallest
    file on.
  guess: function from how many times smaller than the pixels a file shall be to the rung that most likely is the last one
    that is; None where nothing tells it.
  """
  label: str
  options: Callable[[int], dict]
  rungs: int
  feature: str
  curve: tuple[int, ...]
  guess: Optional[Callable[[float], int]] = None


# JPEG 2000 takes a target ratio instead of a quality: 512 ratios from 1000:1 to 2:1 in equal factors.
_RATIOS = np.geomspace(1000.0, 2.0, 512)

FORMATS = {
    "jpeg": Format("JPEG", lambda rung: dict(
        format="jpeg", quality=rung + 1, subsampling="4:2:0", optimize=True), 95, "jpg", (0, 4, 6, 9, 14, 20, 32, 49)),
    # Without mct=1 Pillow leaves the colour transform out, which costs 2.5 dB.
    "jpeg2000": Format("JPEG 2000", lambda rung: dict(
        format="jpeg2000", irreversible=True, mct=1, no_jp2=True, quality_mode="rates",
        quality_layers=[float(_RATIOS[rung])]), len(_RATIOS), "jpg_2000", tuple(range(60, 306, 35)),
        lambda factor: int(np.searchsorted(-_RATIOS, -factor, "right")) - 1),
    "webp": Format("WebP", lambda rung: dict(format="webp", quality=rung, method=6), 101, "webp",
                   (0, 1, 4, 9, 18, 30, 45, 65)),
    "avif": Format("AVIF", lambda rung: dict(format="avif", quality=rung, subsampling="4:2:0"), 101, "avif",
                   (0, 8, 15, 22, 30, 40, 50, 60)),
}


# From a guess to the right rung, at most; then the qualities are bisected.
_STEPS = 6


def check(name):
  """Refuses what is not one of `FORMATS`, or is not in this Pillow."""
  if name not in FORMATS:
    raise DeepcompError(f"expected one of the formats {', '.join(FORMATS)}. Received: {name}")
  if not features.check(FORMATS[name].feature):
    raise DeepcompError(f"Pillow was built without {FORMATS[name].label}")


def encode(name, image, rung):
  """The file of an image at a quality of a format.

  Args:
    name: one of `FORMATS`.
    image: uint8 `[h, w, 3]`.
    rung: of the format's ladder.

  Returns:
    the file's bytes.

  Raises:
    DeepcompError: there is no such format, or not in this Pillow.
  """
  check(name)
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, **FORMATS[name].options(rung))
  return buffer.getvalue()


def setting(name, rung):
  """What a rung is called by the format's users: "quality=30", or "ratio=120" of JPEG 2000."""
  options = FORMATS[name].options(rung)
  return f"quality={options['quality']}" if "quality" in options else f"ratio={options['quality_layers'][0]:.4g}"


def encode_at_most(name, image, size):
  """The largest file of a format that has at most `size` bytes, found by bisection of its qualities, or a guess.

  Where even its smallest file is larger, it is taken: the comparison then favours the other format, and its mean
  rate in the tables shows it.

  Args:
    name: one of `FORMATS`.
    image: uint8 `[h, w, 3]`.
    size: bytes.

  Returns:
    the file's bytes.
  """
  check(name)
  data_at = functools.cache(lambda rung: encode(name, image, rung))
  fits = lambda rung: len(data_at(rung)) <= size
  low, high = 0, FORMATS[name].rungs - 1
  guess = FORMATS[name].guess(image.nbytes / size) if FORMATS[name].guess else high
  for _ in range(_STEPS):
    if not low <= guess < high:
      break
    if fits(guess) and not fits(guess + 1):
      return data_at(guess)
    guess += 1 if fits(guess) else -1
  while low < high:
    middle = (low + high + 1) // 2
    if fits(middle):
      low = middle
    else:
      high = middle - 1
  return data_at(low)


def decode(data):
  """The picture in a file of one of `FORMATS`: bytes -> uint8 `[h, w, 3]`."""
  with Image.open(io.BytesIO(data)) as picture:
    return np.array(picture.convert("RGB"))
