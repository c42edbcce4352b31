"""DeepLab and its pooling: the sum of the branches, the classifier's features, the geometry."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.layers.aspp import atrous_convolution


def test_pooling_is_the_sum_of_its_branches():
  layer = dc.layers.AtrousSpatialPyramidPooling(3, rates=(1, 2, 5))
  x = tf.random.stateless_normal([2, 9, 11, 4], [1, 2])
  layer(x)
  rng = np.random.default_rng(0)
  layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
  total = np.zeros([2, 9, 11, 3])
  for rate, kernel, bias in zip((1, 2, 5), layer.get_weights()[::2], layer.get_weights()[1::2]):
    padded = np.pad(x.numpy().astype(np.float64), [(0, 0), (rate, rate), (rate, rate), (0, 0)])
    for i in range(3):
      for j in range(3):
        total += padded[:, i * rate:i * rate + 9, j * rate:j * rate + 11] @ kernel[i, j]
    total += bias
  np.testing.assert_allclose(layer(x), total, rtol=1e-4, atol=1e-4)
  assert len(layer.trainable_variables) == 6


@pytest.mark.parametrize("rate", [1, 3, 7, 24])
@pytest.mark.parametrize("shape", [(7, 9), (1, 1), (30, 2)])
def test_atrous_convolution_is_tensorflows(rate, shape):
  """In value and gradient, where taps fall outside the map too."""
  x = tf.random.stateless_normal([2, *shape, 4], [1, 2])
  kernel = tf.random.stateless_normal([3, 3, 4, 5], [3, 4])
  results = []
  for convolution in (lambda: atrous_convolution(x, kernel, rate),
                      lambda: tf.nn.convolution(x, kernel, padding="SAME", dilations=[rate, rate])):
    with tf.GradientTape() as tape:
      tape.watch([x, kernel])
      y = convolution()
      loss = tf.reduce_sum(y ** 3)
    results.append((y, *tape.gradient(loss, [x, kernel])))
  for ours, theirs in zip(*results):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
@pytest.mark.parametrize("make, shape, gave_up", [
    (lambda **k: dc.models.ResNet(14, 5, width=0.125, **k), (64, 80, 3), 4),
    (lambda **k: dc.models.CResNet(12, 5, width=0.125, **k), (12, 9, 8), 4)])
def test_features_are_the_classifiers_where_it_has_them(make, shape, gave_up, stride_in):
  """TF-Slim's test of its atrous networks."""
  network = make(stride_in=stride_in)
  x = tf.random.stateless_normal([1, *shape], [3, 4])
  network(x)
  rng = np.random.default_rng(0)
  for name, variable in network.named_variables().items():
    if "bn" in name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  deeplab = dc.models.DeepLab.from_classifier(network, 4)
  dense = deeplab.backbone.features(x, training=False)
  features = network.features(x, training=False)
  np.testing.assert_allclose(dense[:, ::gave_up, ::gave_up], features, rtol=1e-3, atol=1e-5 * np.abs(features).max())
  assert deeplab(x).shape == (1, *dense.shape[1:3], 4)


def test_one_position_stands_for_8x8_pixels():
  pixels = dc.models.DeepLab(dc.models.ResNet(14, None, width=0.125, dilated=True), 21)
  representation = dc.models.DeepLab(dc.models.CResNet(51, None, width=0.125, dilated=True), 21)
  assert pixels(tf.zeros([2, 65, 48, 3])).shape == (2, 9, 6, 21)
  assert representation(tf.zeros([2, 9, 6, 16])).shape == (2, 9, 6, 21)


def test_statistics_stay_in_training():
  deeplab = dc.models.DeepLab(dc.models.CResNet(12, None, width=0.125, dilated=True), 3)
  x = tf.random.stateless_normal([2, 8, 8, 4], [0, 1])
  before = deeplab(x)
  np.testing.assert_array_equal(deeplab(x, training=True), before)
  np.testing.assert_array_equal(deeplab(x), before)


def test_round_trip(tmp_path):
  deeplab = dc.models.DeepLab(dc.models.CResNet(12, None, width=0.125, dilated=True), 3, rates=(1, 2))
  x = tf.random.stateless_normal([1, 8, 8, 4], [0, 1])
  expected = deeplab(x)
  deeplab.save(tmp_path / "deeplab.keras")
  np.testing.assert_allclose(tf.keras.models.load_model(tmp_path / "deeplab.keras")(x), expected, rtol=1e-5)


def test_bad_arguments():
  with pytest.raises(dc.DeepcompError, match="dilated=False"):
    dc.models.DeepLab(dc.models.CResNet(12, None), 3)
  with pytest.raises(dc.DeepcompError, match="num_classes=0"):
    dc.layers.AtrousSpatialPyramidPooling(0)
  with pytest.raises(dc.DeepcompError, match="without weights"):
    dc.models.DeepLab.from_classifier(dc.models.CResNet(12, 3), 3)
