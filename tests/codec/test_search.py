"""Symbols that are searched for one photo: better for their bytes, and nothing else about the file changes."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec import container
from deepcomp_tf.codec import context
from deepcomp_tf.codec import search
from deepcomp_tf.codec import tiling

PHOTO = samples.photos()["chelsea"][100:196, 120:216]


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


def _loss(codec, photo, symbols, rate=1.0):
  """MSE + weights (1 - MS-SSIM), (1 - SSIM) and bits per pixel, by TensorFlow's functions and the coder's own count."""
  decoded = tf.clip_by_value(codec.model.decoder(codec.model.quantizer.values(symbols[np.newaxis])), 0.0, 255.0)
  target = tf.constant(photo[np.newaxis], tf.float32)
  scales = np.array([0.0448, 0.2856, 0.3001, 0.2363])
  ms_ssim = tf.image.ssim_multiscale(decoded, target, 255.0, tuple(scales / scales.sum()))
  ssim = tf.image.ssim(decoded, target, 255.0)
  ours = codec._search
  return (np.mean((decoded.numpy() - photo) ** 2) + ours._ms_ssim * (1 - ms_ssim.numpy().item())
          + ours._ssim * (1 - ssim.numpy().item())
          + rate * ours._rate * codec._coder.bits(symbols) / photo[..., 0].size)


def test_no_effort_is_the_encoder_alone(codec):
  assert codec.compress(PHOTO, effort=0) == codec.compress(PHOTO) == container.pack(
      codec.fingerprint, *PHOTO.shape[:2], codec.encode_symbols(codec.encode(PHOTO)))


@pytest.mark.slow
def test_more_effort_is_a_smaller_loss(codec):
  losses = []
  for photo in (PHOTO, samples.photos()["coffee"][100:196, 120:216]):
    found = [codec.encode(photo, effort=effort) for effort in (0, 1, 4)]
    losses.append([_loss(codec, photo, symbols) for symbols in found])
    np.testing.assert_allclose(losses[-1], [codec._search.loss(photo, symbols) for symbols in found], rtol=1e-4)
  assert all(before >= after for each in losses for before, after in zip(each, each[1:]))
  total = np.sum(losses, axis=0)
  assert total[0] > total[1] > total[2] and total[2] < 0.99 * total[0]


def test_the_same_bytes_again_and_among_others(codec):
  data = codec.compress(PHOTO, effort=1)
  assert codec.compress(PHOTO, effort=1) == data
  assert list(codec.compress_many([PHOTO, PHOTO[:, ::-1], PHOTO], effort=1))[::2] == [data, data]
  assert codec.decompress(data).shape == PHOTO.shape and dc.Codec.load_for(data).fingerprint == codec.fingerprint


def test_bits_may_weigh_more_or_less(codec):
  few, usual, many = (codec.encode(PHOTO, effort=3, rate=rate) for rate in (4.0, 1.0, 0.25))
  bits = [codec._coder.bits(symbols) for symbols in (few, usual, many)]
  assert bits[0] < bits[1] < bits[2]
  assert _loss(codec, PHOTO, few, 4.0) < _loss(codec, PHOTO, usual, 4.0)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (23, 40)])
def test_any_size(codec, size):
  photo = PHOTO[:size[0], :size[1]]
  assert codec.decompress(codec.compress(photo, effort=1)).shape == photo.shape


def test_tiles(codec, monkeypatch):
  """In parts the search finds less, and the whole is not worse."""
  monkeypatch.setattr(search, "TILE", 8)
  assert _loss(codec, PHOTO, codec.encode(PHOTO, effort=2)) < _loss(codec, PHOTO, codec.encode(PHOTO))
  for size in (1, 7, 8, 9, 100):
    tiles = tiling.tiles(size, search.TILE, search.MARGIN)
    assert [place for begin, end, _, _ in tiles for place in range(begin, end)] == list(range(size))
    assert all(begin % 8 == around % 8 == 0 for begin, _, around, _ in tiles)  # positions are coded in the map's own passes


def test_where_nothing_better_is_found_the_encoder_has_its_way(codec, monkeypatch):
  monkeypatch.setattr(search, "_CAUTION", -1e3)  # every change seems to pay
  np.testing.assert_array_equal(codec.encode(PHOTO, effort=1), codec.encode(PHOTO))


def test_costs_of_symbols_and_those_next_to_them(codec):
  symbols = codec.encode(PHOTO)
  costs = codec._search._costs_of(symbols)
  np.testing.assert_allclose(costs[1].sum(), codec._coder.bits(symbols), rtol=1e-5)
  last = symbols.copy()  # the last position of the last channel: nothing is predicted from it
  row, column = (np.array(positions)[-1] for positions in context.positions(*symbols.shape[:2])[-1])
  last[row, column, -1] += 1
  np.testing.assert_allclose(costs[2, row, column, -1] - costs[1, row, column, -1],
                             codec._coder.bits(last) - codec._coder.bits(symbols), atol=1e-3)


def test_influence_on_the_symbols_that_are_predicted(codec):
  """Costs of whole files, for single symbols that are moved to both sides."""
  ours, symbols, rng = codec._search, codec.encode(PHOTO), np.random.default_rng(0)
  costs = ours._costs_of(symbols)
  influence = np.mean([ours._influence(symbols, costs, rng) for _ in range(8)], axis=0)
  told, true = [], []
  for place in rng.permutation(np.argwhere(np.abs(influence) > 1.0))[:40]:
    place = tuple(place)
    bits = []
    for step in (1, -1):
      moved = symbols.astype(np.int32)
      moved[place] += step
      bits.append(codec._coder.bits(moved) - costs[(1 + step, *place)])
    told.append(influence[place])
    true.append((bits[0] - bits[1]) / 2)
  assert np.corrcoef(told, true)[0, 1] > 0.5


@pytest.mark.parametrize("arguments, message", [
    ({"effort": 10}, r"integer in 0..9. Received: effort=10"), ({"effort": -1}, "effort=-1"), ({"effort": 1.5}, "effort=1.5"),
    ({"effort": True}, "effort=True"), ({"effort": 1, "rate": 0}, "`rate` must be above 0. Received: rate=0")])
def test_errors(codec, arguments, message):
  for call in (codec.encode, codec.compress, lambda photo, **given: codec.compress_many([photo], **given)):
    with pytest.raises(dc.DeepcompError, match=message):
      call(PHOTO, **arguments)
