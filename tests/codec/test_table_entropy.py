"""The differentiable rate against the coder's own, and its slope against what changed symbols cost."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.entropy_coder import EntropyCoder
from deepcomp_tf.codec.fitting import flat_model
from deepcomp_tf.codec.operating_point import OperatingPoint
from deepcomp_tf.codec.table_entropy import TableEntropy


@pytest.fixture(name="points", scope="module")
def fixture_points():
  return {name: OperatingPoint.load(name, encoder_version=1) for name in dc.operating_points.names()}


def _z(point, photo):
  return point.model.encoder(photo[np.newaxis].astype(np.float32))


def _slope(entropy, z):
  with tf.GradientTape() as tape:
    tape.watch(z)
    bits = entropy(z)
  return tape.gradient(bits, z).numpy()


@pytest.mark.parametrize("name", ["bpp0.0983", "bpp0.330", "bpp0.635"])
def test_bits_are_the_coders(points, name):
  point = points[name]
  coder, entropy = EntropyCoder(point.context_model), TableEntropy(point.context_model, point.centers)
  for key, shape in (("chelsea", (104, 160)), ("rocket", (72, 96)), ("coffee", (8, 16)), ("astronaut", (8, 8))):
    z = _z(point, samples.photos(160)[key][:shape[0], :shape[1]])
    symbols = point.model.quantizer.symbols(z).numpy()
    np.testing.assert_allclose(entropy(z), [coder.bits(symbols[0])], rtol=1e-4)
    # Of quantized values, too, and of a batch.
    values = point.model.quantizer.values(symbols)
    np.testing.assert_allclose(entropy(tf.concat([values, tf.zeros_like(z)], 0))[0], coder.bits(symbols[0]), rtol=1e-4)


def test_slope_is_what_the_next_symbol_costs(points):
  """Of a hundred symbols, each moved to the other center beside its z, what is predicted from it counted too."""
  point = points["bpp0.330"]
  coder, entropy = EntropyCoder(point.context_model), TableEntropy(point.context_model, point.centers)
  z = _z(point, samples.photos(160)["astronaut"][-64:, -64:])
  symbols, places, slope = point.model.quantizer.symbols(z).numpy()[0], entropy.positions(z).numpy()[0], _slope(entropy, z)[0]
  rng, bits, expected, found = np.random.default_rng(0), coder.bits(symbols), [], []
  for _ in range(100):
    where = tuple(rng.integers(size) for size in symbols.shape)
    step, moved = (1 if places[where] > symbols[where] else -1), symbols.copy()
    moved[where] += step
    expected.append(coder.bits(moved) - bits)
    found.append(slope[where] * (point.centers[moved[where]] - point.centers[symbols[where]]))
  assert np.corrcoef(expected, found)[0, 1] > 0.75
  assert np.dot(expected, found) / np.dot(found, found) == pytest.approx(1.0, abs=0.15)


def test_slope_is_finite_and_pulls_to_what_is_predicted(points):
  point = points["bpp0.0983"]
  entropy = TableEntropy(point.context_model, point.centers)
  z = tf.constant(np.random.default_rng(0).normal(size=[2, 5, 9, 8]).astype(np.float32) * 30 * point.deviation)
  slope = _slope(entropy, z)
  assert np.isfinite(slope).all() and slope.any(axis=(1, 2, 3)).all()
  # One entry of 3.3 or -3.3 among zeros.
  for sign in (1, -1):
    z = np.zeros([1, 4, 4, 8], np.float32)
    z[0, 2, 2, 7] = sign * 3.3
    assert sign * _slope(entropy, tf.constant(z))[0, 2, 2, 7] > 1.0


def test_positions_are_linear_between_centers():
  entropy = TableEntropy(flat_model(1, 4, 1), [-2.0, 0.0, 1.0, 5.0])
  z = tf.constant([-3.0, -2.0, -0.5, 0.0, 0.25, 3.0, 5.0, 9.0])
  np.testing.assert_allclose(entropy.positions(z), [0.0, 0.0, 0.75, 1.0, 1.25, 2.5, 3.0, 3.0])
  # All symbols cost the same there, whatever z is.
  np.testing.assert_allclose(entropy(tf.reshape(z, [1, 2, 4, 1])), [8 * np.log2(7)], rtol=1e-4)
  np.testing.assert_allclose(_slope(entropy, tf.reshape(z, [1, 2, 4, 1])), 0.0, atol=1e-4)
