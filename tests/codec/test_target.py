"""Files of at most so many bytes."""

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec import target

PHOTO = samples.photos()["chelsea"][100:196, 120:216]


@pytest.fixture(name="codecs", scope="module")
def fixture_codecs():
  return [dc.Codec.load(name) for name in ("bpp0.0983", "bpp0.330")]


def _error(codecs, data):
  picture = next(codec for codec in codecs if codec.fingerprint == data[3:6]).decompress(data)
  return np.mean((picture.astype(float) - PHOTO) ** 2)


@pytest.mark.slow
def test_never_more_and_hardly_less(codecs):
  """Below an operating point, and between it and the next."""
  sizes, errors = [len(codec.compress(PHOTO)) for codec in codecs], []
  for most in (round(0.85 * sizes[0]), round(0.8 * sizes[1])):
    data = target.ToSize(codecs, max_bytes=most).compress(PHOTO, effort=1)
    assert 0.9 * most < len(data) <= most
    errors.append(_error(codecs, data))
  assert errors[0] > errors[1]


@pytest.mark.slow
def test_the_same_by_pixels_and_for_many(codecs):
  most = 300
  by_pixels = target.ToSize(codecs, bits_per_pixel=8 * (most + 0.5) / PHOTO[..., 0].size)
  assert by_pixels.most(*PHOTO.shape[:2]) == most
  data = target.ToSize(codecs, max_bytes=most).compress(PHOTO, effort=1)
  broken = dc.DeepcompError("not read")
  assert list(by_pixels.compress_many([PHOTO, broken], errors="return", effort=1)) == [data, broken]
  with pytest.raises(dc.DeepcompError, match="not read"):
    list(by_pixels.compress_many([broken]))
  with pytest.raises(dc.DeepcompError, match="`errors` must be raise or return. Received: errors='ignore'"):
    by_pixels.compress_many([], errors="ignore")


def test_the_least_that_is_possible(codecs):
  with pytest.raises(dc.DeepcompError,
                     match=r"expected at least (\d+) bytes .* of 96x96 pixels at bpp0.0983. Received: at most 40") as error:
    target.ToSize(codecs[:1], max_bytes=40).compress(PHOTO, effort=1)
  least = int(str(error.value).split("at least ")[1].split()[0])
  assert 40 < len(target.ToSize(codecs[:1], max_bytes=least).compress(PHOTO, effort=1)) <= least


@pytest.mark.parametrize("arguments", [{}, {"max_bytes": 10, "bits_per_pixel": 1.0}, {"max_bytes": 0}, {"bits_per_pixel": -1.0},
                                       {"bits_per_pixel": float("nan")}])
def test_errors(codecs, arguments):
  with pytest.raises(dc.DeepcompError, match="`max_bytes`"):
    target.ToSize(codecs, **arguments)
