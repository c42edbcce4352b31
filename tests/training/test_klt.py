"""The KLT start: an orthonormal basis, and networks that are exactly its block transform."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.training import klt

PIXEL_MEAN = np.array([123.675, 116.28, 103.53])


def _batches(count=4):
  """Batches of noise that is smooth over the blocks, with three correlated colours."""
  rng = np.random.default_rng(0)
  for _ in range(count):
    coarse = rng.normal(0, 40, [2, 6, 4, 1]).repeat(4, 1).repeat(4, 2) + rng.normal(0, 8, [2, 24, 16, 3])
    yield np.clip(128 + coarse, 0, 255)


def _blocks(images):
  """`[n, h, w, 3]` -> `[n, h/8, w/8, 8, 8, 3]`."""
  n, h, w, _ = images.shape
  return np.stack([[images[:, y:y + 8, x:x + 8] for x in range(0, w, 8)] for y in range(0, h, 8)]).transpose(
      2, 0, 1, 3, 4, 5)


def test_basis_is_the_principal_components():
  basis = klt.block_basis(_batches(), 10).reshape(10, 192)
  np.testing.assert_allclose(basis @ basis.T, np.eye(10), atol=1e-10)
  blocks = np.concatenate([_blocks(batch).reshape(-1, 192) for batch in _batches()])
  blocks = blocks - blocks.mean(0)
  _, deviations, vectors = np.linalg.svd(blocks, full_matrices=False)
  variances = (blocks @ basis.T).var(axis=0)
  np.testing.assert_allclose(variances, deviations[:10] ** 2 / len(blocks), rtol=1e-8)
  np.testing.assert_allclose(basis.T @ basis, vectors[:10].T @ vectors[:10], atol=1e-8)


def test_signs_are_fixed():
  basis = klt.block_basis(_batches(), 5)
  np.testing.assert_array_equal(basis, klt.block_basis(_batches(), 5))
  assert (basis.sum(axis=(1, 2, 3)) >= 0).all()


def test_no_more_components_than_pixels():
  with pytest.raises(dc.DeepcompError, match="channels=193"):
    klt.block_basis(_batches(1), 193)


def test_encoder_is_the_block_transform():
  basis, step = klt.block_basis(_batches(), 6), 12.5
  model = dc.models.CompressionModel(6)
  images = np.random.default_rng(1).uniform(0, 255, [2, 24, 32, 3]).astype(np.float32)
  model(images)
  # What was trained before must not matter.
  model.set_weights([w + 0.01 for w in model.get_weights()])
  klt.set_weights(model, basis, step)
  expected = np.einsum("nyxijk,cijk->nyxc", _blocks(images - PIXEL_MEAN), basis) / step
  np.testing.assert_allclose(model.encoder(images), expected, rtol=1e-4, atol=1e-3)
  # The decoder is its transpose.
  values = np.random.default_rng(2).normal(0, 5, expected.shape)
  blocks = np.einsum("nyxc,cijk->nyxijk", values, basis) * step
  picture = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape) + PIXEL_MEAN
  np.testing.assert_allclose(model.decoder(values), picture, rtol=1e-4, atol=1e-2)


def test_all_components_lose_only_what_the_quantizer_rounds():
  basis, step = klt.block_basis(_batches(), 192), 1.5
  model = dc.models.CompressionModel(192, num_centers=256, centers=klt.centers(256))
  # Low contrast, so that the components stay within the centers' range of +-127 steps.
  images = (PIXEL_MEAN + np.random.default_rng(1).normal(0, 10, [2, 32, 32, 3])).astype(np.float32)
  model(images)
  klt.set_weights(model, basis, step)
  np.testing.assert_allclose(model.decoder(model.encoder(images)), images, atol=0.02)
  output = model(images)
  assert 0 < output.symbols.numpy().min() and output.symbols.numpy().max() < 255
  # An orthonormal transform keeps the error of rounding to multiples of the step: step^2 / 12.
  assert np.mean((output.reconstruction - images) ** 2) == pytest.approx(step ** 2 / 12, rel=0.1)


def test_rest_of_the_network_can_learn():
  model = dc.models.CompressionModel(4, num_centers=21, centers=klt.centers(21))
  images = next(_batches(1))
  model(images)
  klt.set_weights(model, klt.block_basis(_batches(), 4), 20.0)
  with tf.GradientTape() as tape:
    loss = tf.reduce_mean(tf.square(images - model(images).reconstruction))
  kernels = [unit.conv2.kernel for network in (model.encoder, model.decoder) for unit in network.units]
  for gradient in tape.gradient(loss, [*kernels, model.decoder.conv3.kernel]):
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("count, expected", [(5, [-2, -1, 0, 1, 2]), (4, [-2, -1, 0, 1]), (2, [-1, 0])])
def test_centers_are_one_apart_around_zero(count, expected):
  assert klt.centers(count) == expected
