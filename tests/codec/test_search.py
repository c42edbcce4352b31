"""Symbols that are searched for one photo: better for their bytes, and nothing else about the file changes."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec import container
from deepcomp_tf.codec import search

PHOTO = samples.photos()["chelsea"][100:196, 120:216]


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


def _loss(codec, photo, symbols, rate=1.0):
  """MSE, MS-SSIM, SSIM and bits per pixel, weighted, by TensorFlow's figures and the coder's own count."""
  decoded = codec.model.decoder(codec.model.quantizer.values(symbols[np.newaxis]))
  scales = np.array([0.0448, 0.2856, 0.3001, 0.2363])
  ms_ssim = tf.image.ssim_multiscale(decoded, tf.constant(photo[np.newaxis], tf.float32), 255.0, tuple(scales / scales.sum()))
  ssim, ours = tf.image.ssim(decoded, tf.constant(photo[np.newaxis], tf.float32), 255.0), codec._search
  return (np.mean((decoded.numpy() - photo) ** 2) + ours._ms_ssim * (1.2 - ms_ssim.numpy().item() - 0.2 * ssim.numpy().item())
          + rate * ours._rate * codec._coder.bits(symbols) / photo[..., 0].size)


def test_no_effort_is_the_encoder_alone(codec):
  assert codec.compress(PHOTO, effort=0) == codec.compress(PHOTO) == container.pack(
      codec.fingerprint, *PHOTO.shape[:2], codec.encode_symbols(codec.encode(PHOTO)))


def test_more_effort_is_a_smaller_loss(codec):
  losses = [_loss(codec, PHOTO, codec.encode(PHOTO, effort=effort)) for effort in (0, 1, 5)]
  assert losses[0] > losses[1] > losses[2]
  assert losses[2] < 0.97 * losses[0]


def test_the_same_bytes_again_and_among_others(codec):
  data = codec.compress(PHOTO, effort=1)
  assert codec.compress(PHOTO, effort=1) == data
  assert list(codec.compress_many([PHOTO, PHOTO[:, ::-1], PHOTO], effort=1))[::2] == [data, data]
  assert codec.decompress(data).shape == PHOTO.shape and dc.Codec.load_for(data).fingerprint == codec.fingerprint


def test_bits_may_weigh_more_or_less(codec):
  few, usual, many = (codec.encode(PHOTO, effort=4, rate=rate) for rate in (4.0, 1.0, 0.25))
  bits = [codec._coder.bits(symbols) for symbols in (few, usual, many)]
  assert bits[0] < bits[1] < bits[2]
  assert _loss(codec, PHOTO, few, 4.0) < _loss(codec, PHOTO, usual, 4.0)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (23, 40)])
def test_any_size(codec, size):
  photo = PHOTO[:size[0], :size[1]]
  assert codec.decompress(codec.compress(photo, effort=1)).shape == photo.shape


def test_tiles(codec, monkeypatch):
  """In parts the search finds less, and no part is made worse; what no tile may change stays."""
  monkeypatch.setattr(search, "TILE", 7)
  assert _loss(codec, PHOTO, codec.encode(PHOTO, effort=3)) < _loss(codec, PHOTO, codec.encode(PHOTO))
  for size in (1, 6, 7, 8, 100):
    tiles = search._tiles(size)
    assert [place for begin, end, _, _ in tiles for place in range(begin, end)] == list(range(size))
    assert max(end - begin for begin, end, _, _ in tiles) <= 7


def test_where_nothing_better_is_found_the_encoder_has_its_way(codec, monkeypatch):
  monkeypatch.setattr(search, "_STEP", 5.0)  # from one end of the centers to the other
  np.testing.assert_array_equal(codec.encode(PHOTO, effort=1), codec.encode(PHOTO))


@pytest.mark.parametrize("arguments, message", [
    ({"effort": 10}, r"integer in 0..9. Received: effort=10"), ({"effort": -1}, "effort=-1"), ({"effort": 1.5}, "effort=1.5"),
    ({"effort": True}, "effort=True"), ({"effort": 1, "rate": 0}, "`rate` must be above 0. Received: rate=0")])
def test_errors(codec, arguments, message):
  for call in (codec.encode, codec.compress, lambda photo, **given: codec.compress_many([photo], **given)):
    with pytest.raises(dc.DeepcompError, match=message):
      call(PHOTO, **arguments)
