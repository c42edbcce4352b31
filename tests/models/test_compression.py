"""Encoder, decoder and compression model: shapes, parameters counted by hand, round trips, precision."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc

UNITS = 3 * 2 * (3 * 3 * 128 * 128 + 128)
ENTROPIES = ("pooled", "per_channel", "context")


def _image(height=16, width=24, batch=1):
  return np.random.default_rng(0).integers(0, 256, [batch, height, width, 3], np.uint8)


def _perturb(model):
  """Moves every weight, so that a weight that is lost in a round trip shows."""
  rng = np.random.default_rng(3)
  model.set_weights([w + rng.normal(0, 0.02, w.shape) for w in model.get_weights()])


@pytest.mark.parametrize("height, width, rows, columns", [(16, 24, 2, 3), (17, 31, 3, 4), (1, 8, 1, 1), (9, 7, 2, 1)])
def test_shapes(height, width, rows, columns):
  output = dc.models.CompressionModel(5)(_image(height, width, batch=2))
  assert output.reconstruction.shape == (2, 8 * rows, 8 * columns, 3)
  assert output.values.shape == output.symbols.shape == (2, rows, columns, 5)
  assert output.assignments.shape == (2, rows, columns, 5, 6)
  assert output.bits_per_symbol.shape == ()


@pytest.mark.parametrize("channels", [8, 32])
def test_parameters_by_hand(channels):
  model = dc.models.CompressionModel(channels)
  model(_image())
  encoder = (25 * 3 * 64 + 64) + (25 * 64 * 128 + 128) + UNITS + (25 * 128 * channels + channels)
  decoder = (25 * channels * 128 + 128) + UNITS + (25 * 128 * 64 + 64) + (25 * 64 * 3 + 3)
  assert model.encoder.count_params() == encoder
  assert model.decoder.count_params() == decoder
  assert model.count_params() == encoder + decoder + 6


def test_pixels_are_normalised_inside():
  encoder = dc.models.Encoder(2)
  encoder(_image())
  mean = np.broadcast_to(np.float32([123.675, 116.28, 103.53]), [1, 16, 16, 3])
  # The mean colour is a zero input, and the biases start at zero.
  np.testing.assert_allclose(encoder(mean), 0.0, atol=1e-6)
  decoder = dc.models.Decoder(2)
  np.testing.assert_allclose(decoder(np.zeros([1, 2, 2, 2], np.float32)), mean, rtol=1e-6)


def test_integer_and_float_pixels_are_the_same():
  encoder, image = dc.models.Encoder(2), _image()
  np.testing.assert_array_equal(encoder(image), encoder(image.astype(np.float32)))


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_saved_model_is_the_same_model(tmp_path, entropy):
  model = dc.models.CompressionModel(
      3, num_centers=4, temperature=0.5, centers=[-2, -1, 0, 1.5], entropy=entropy, centers_l2=0.1)
  image = _image()
  model(image)
  _perturb(model)
  expected = model(image)
  path = tmp_path / "model.keras"
  model.save(path)
  loaded = tf.keras.models.load_model(path)
  for name, value in expected._asdict().items():
    np.testing.assert_array_equal(getattr(loaded(image), name), value, err_msg=name)
  assert loaded.get_config() == model.get_config()
  assert float(tf.add_n(loaded.losses)) == float(tf.add_n(model.losses)) > 0
  fresh = dc.models.CompressionModel.from_config(model.get_config()).quantizer
  assert fresh.centers.numpy().tolist() == [-2, -1, 0, 1.5] and fresh.temperature == 0.5


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_weights_round_trip(tmp_path, entropy):
  model, twin = (dc.models.CompressionModel(3, entropy=entropy) for _ in range(2))
  image = _image()
  for each in (model, twin):
    each(image)
  _perturb(model)
  path = tmp_path / "model.weights.h5"
  model.save_weights(path)
  twin.load_weights(path)
  for value, expected in zip(twin(image), model(image)):
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("network, shape", [(dc.models.Encoder, [1, 16, 16, 3]), (dc.models.Decoder, [1, 2, 2, 4])])
def test_networks_are_saved_alone(tmp_path, network, shape):
  model, x = network(4), tf.random.stateless_uniform(shape, [1, 2])
  expected = model(x)
  model.save(tmp_path / "network.keras")
  np.testing.assert_array_equal(tf.keras.models.load_model(tmp_path / "network.keras")(x), expected)


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_runs_in_a_graph_with_unknown_sizes_and_trains_all_weights(entropy):
  model = dc.models.CompressionModel(3, entropy=entropy)
  model(_image())
  _perturb(model)

  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
  def step(image):
    with tf.GradientTape() as tape:
      output = model(image, training=True)
      loss = tf.reduce_mean(tf.square(tf.cast(image, tf.float32) - output.reconstruction)) + output.bits_per_symbol
    return output, tape.gradient(loss, model.trainable_variables)

  for size in (16, 24):
    image = _image(size, size, batch=2)
    output, gradients = step(image)
    np.testing.assert_allclose(output.reconstruction, model(image).reconstruction, rtol=1e-3, atol=0.05)
  for variable, gradient in zip(model.trainable_variables, gradients):
    assert gradient is not None and np.isfinite(gradient).all(), variable.name
    assert np.abs(gradient).max() > 0, variable.name


def test_entropy_kinds_measure_what_they_say():
  image = _image(32, 32, batch=2)
  bits = {}
  for entropy in ENTROPIES:
    tf.keras.utils.set_random_seed(1)
    output = dc.models.CompressionModel(3, entropy=entropy)(image)
    bits[entropy] = float(output.bits_per_symbol)
    symbols = output.symbols.numpy()

  def histogram_entropy(symbols):
    p = np.unique(symbols, return_counts=True)[1] / symbols.size
    return -(p * np.log2(p)).sum()

  assert bits["pooled"] == pytest.approx(histogram_entropy(symbols), abs=1e-5)
  assert bits["per_channel"] == pytest.approx(
      np.mean([histogram_entropy(symbols[..., c]) for c in range(3)]), abs=1e-5)
  assert len(set(bits.values())) == 3


def test_mixed_precision():
  image = _image(24, 24)
  reference = dc.models.CompressionModel(4)
  expected = reference(image)
  tf.keras.mixed_precision.set_global_policy("mixed_float16")
  try:
    model = dc.models.CompressionModel(4)
    model(image)
    model.set_weights(reference.get_weights())
    output, z = model(image), model.encoder(image)
  finally:
    tf.keras.mixed_precision.set_global_policy("float32")
  assert model.encoder.conv2.compute_dtype == "float16"
  assert z.dtype == output.values.dtype == output.reconstruction.dtype == output.bits_per_symbol.dtype == tf.float32
  assert all(np.isfinite(value).all() for value in output if value.dtype.is_floating)
  np.testing.assert_allclose(z, reference.encoder(image), rtol=0.02, atol=0.02 * np.abs(z).max())
  # A symbol may differ only where the representation does.
  np.testing.assert_array_equal(output.symbols, model.quantizer.symbols(z))
  assert (output.symbols.numpy() == expected.symbols.numpy()).mean() > 0.8


@pytest.mark.parametrize("make, message", [
    (lambda: dc.models.Encoder(0), "`channels` must be at least 1. Received: channels=0"),
    (lambda: dc.models.Decoder(-1), "channels=-1"),
    (lambda: dc.models.CompressionModel(0), "channels=0"),
    (lambda: dc.models.CompressionModel(2, entropy="huffman"), "pooled, per_channel, context.*'huffman'"),
    (lambda: dc.models.CompressionModel(2, num_centers=300), "num_centers=300"),
])
def test_bad_arguments_are_named(make, message):
  with pytest.raises(dc.DeepcompError, match=message):
    make()
