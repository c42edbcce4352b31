"""The layers and models inside of users' own Keras models: functional, compiled, fitted, saved, loaded."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples

IMAGES = np.stack([samples.photos(longer_side=64)[name][:32, :32] for name in ("chelsea", "coffee", "rocket")]).repeat(2, 0)
LABELS = np.repeat([0, 1, 2], 2)


@pytest.mark.slow
def test_a_functional_model_of_quantizer_and_cresnet(tmp_path):
  encoder = dc.operating_points.load("bpp0.0983").encoder
  encoder.trainable = False
  z = encoder(IMAGES).numpy()
  inputs = tf.keras.Input([None, None, 8])
  values = dc.layers.Quantizer(num_centers=9, centers=np.linspace(-12, 12, 9), name="quantizer")(inputs).values
  outputs = dc.models.CResNet(12, num_classes=3, width=0.125, name="network")(values)
  model = tf.keras.Model(inputs, outputs)
  model.compile(tf.keras.optimizers.Adam(0.003), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"])
  centers = model.get_layer("quantizer").centers.numpy()
  losses = model.fit(z, LABELS, epochs=25, batch_size=6, verbose=0).history["loss"]
  assert losses[-1] < 0.6 * losses[0]
  assert np.abs(model.get_layer("quantizer").centers.numpy() - centers).max() > 1e-4
  model.save(tmp_path / "model.keras")
  loaded = tf.keras.models.load_model(tmp_path / "model.keras")
  np.testing.assert_allclose(loaded.predict(z, verbose=0), model.predict(z, verbose=0), rtol=1e-4, atol=1e-5)
  assert loaded.fit(z, LABELS, verbose=0).history["loss"][0] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("entropy", ["pooled", "context"])
def test_a_compression_model_is_fitted_for_equation_1(tmp_path, entropy):
  tf.keras.utils.set_random_seed(0)
  model = dc.models.CompressionModel(4, entropy=entropy)
  model.compile(tf.keras.optimizers.Adam(1e-3), beta=150.0, target_entropy=0.9)
  history = model.fit(IMAGES, epochs=8, batch_size=6, verbose=0).history
  assert sorted(history) == ["bits_per_symbol", "loss", "mse"]
  assert history["loss"][-1] < 0.8 * history["loss"][0]
  figures = model.evaluate(IMAGES, batch_size=6, verbose=0, return_dict=True)
  output = model(IMAGES)
  mse = np.square(IMAGES - output.reconstruction.numpy()).mean()
  bits = float(output.bits_per_symbol)
  assert figures["mse"] == pytest.approx(mse, rel=1e-4) and figures["bits_per_symbol"] == pytest.approx(bits, rel=1e-4)
  assert figures["loss"] == pytest.approx(mse + 150.0 * max(bits - 0.9, 0.0), rel=1e-4)
  model.save(tmp_path / "model.keras")
  loaded = tf.keras.models.load_model(tmp_path / "model.keras")
  assert loaded.evaluate(IMAGES, batch_size=6, verbose=0, return_dict=True)["loss"] == pytest.approx(figures["loss"], rel=1e-4)
  loaded.fit(tf.data.Dataset.from_tensor_slices(IMAGES).batch(3), verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_compression_model_is_fitted_in_16_bits(policy):
  tf.keras.mixed_precision.set_global_policy(policy)
  try:
    model = dc.models.CompressionModel(4)
    model.compile(tf.keras.optimizers.Adam(1e-3), beta=10.0, target_entropy=0.9)
    before = model.evaluate(IMAGES, verbose=0, return_dict=True)["mse"]
    model.fit(IMAGES, epochs=4, batch_size=1, verbose=0)  # the loss's scale takes ten steps to come down
    after = model.evaluate(IMAGES, verbose=0, return_dict=True)["mse"]
  finally:
    tf.keras.mixed_precision.set_global_policy("float32")
  assert np.isfinite(after) and after < 0.9 * before


def test_a_policy_of_its_own_reaches_all_layers_and_the_configuration():
  model = dc.models.Encoder(4, dtype="mixed_float16")
  twin = dc.models.Encoder.from_config(model.get_config())
  for network in (model, twin):
    network(IMAGES)
    assert network.compute_dtype == "float16"
    assert network.conv2.compute_dtype == network.units[0].conv1.compute_dtype == "float16"
    assert network.conv3.compute_dtype == "float32"


def test_batch_normalization_is_slims():
  """Its output and its statistics, against NumPy."""
  rng = np.random.default_rng(0)
  x = rng.normal(3.0, 2.0, [4, 5, 6, 3]).astype(np.float32)
  layer = dc.layers.batch_norm()
  layer(x)
  for name in ("gamma", "beta", "moving_mean", "moving_variance"):
    getattr(layer, name).assign(rng.uniform(0.5, 1.5, 3))
  gamma, beta, mean, variance = (getattr(layer, name).numpy() for name in ("gamma", "beta", "moving_mean", "moving_variance"))
  np.testing.assert_allclose(layer(x, training=False), (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta, rtol=1e-4, atol=1e-5)
  flat = x.reshape(-1, 3)
  np.testing.assert_allclose(layer(x, training=True), (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * gamma + beta,
                             rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(layer.moving_mean, 0.997 * mean + 0.003 * flat.mean(0), rtol=1e-5)
  np.testing.assert_allclose(layer.moving_variance, 0.997 * variance + 0.003 * flat.var(0, ddof=1), rtol=1e-5)
