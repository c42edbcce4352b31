"""The classification networks against the paper's tables and Keras' own ResNet-50."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc

# Table 1, in G multiply-adds; the inputs are 224x224 pixels, or 28x28 positions of C=32.
TABLE_1 = {("ResNet", 50): 3.86, ("ResNet", 71): 5.38, ("CResNet", 39): 2.95, ("CResNet", 51): 3.83,
           ("CResNet", 72): 5.36}


def _network(family, depth, *args, **kwargs):
  return getattr(dc.models, family)(depth, *args, **kwargs), (224, 224, 3) if family == "ResNet" else (28, 28, 32)


@pytest.mark.slow
@pytest.mark.parametrize("family, depth", TABLE_1)
def test_multiply_adds_are_those_of_table_1_and_of_table_3_counted_by_hand(family, depth):
  units = {39: (0, 4, 6, 3), 51: (0, 4, 10, 3), 72: (0, 4, 17, 3), 50: (3, 4, 6, 3), 71: (3, 4, 13, 3)}[depth]
  total, channels = (112 ** 2 * 7 * 7 * 3 * 64, 64) if family == "ResNet" else (0, 32)
  for filters, side, count in zip((64, 128, 256, 512), (56, 28, 14, 7), units):
    for _ in range(count):
      total += side ** 2 * (channels * filters + 9 * filters ** 2 + filters * 4 * filters)
      total += side ** 2 * channels * 4 * filters if channels != 4 * filters else 0
      channels = 4 * filters
  network, shape = _network(family, depth)
  count = dc.evaluation.multiply_adds(network, shape)
  assert count == total + 2048 * 1000
  assert count == pytest.approx(1e9 * TABLE_1[family, depth], rel=5e-3)


@pytest.mark.parametrize("depth", [39, 51, 72])
def test_k_counts_the_convolutions_of_the_residual_branches(depth):
  network = dc.models.CResNet(depth)
  assert sum(3 for _ in network.units) == depth


@pytest.mark.slow
@pytest.mark.parametrize("family, depth, expected", [("ResNet", 50, 3.482), ("CResNet", 51, 3.583)])
def test_slims_placement_of_strides(family, depth, expected):
  network, shape = _network(family, depth, stride_in="conv2")
  assert dc.evaluation.multiply_adds(network, shape) == pytest.approx(1e9 * expected, rel=2e-4)


def test_resnet_50_is_that_of_keras():
  theirs = tf.keras.applications.ResNet50(weights=None, input_shape=(97, 97, 3), classes=11, classifier_activation=None)
  rng = np.random.default_rng(0)
  for layer in theirs.layers:
    for variable in layer.variables:
      if layer.name.endswith("_bn"):  # fresh ones would hide which is which
        variable.assign(rng.uniform(0.8, 1.2, variable.shape))
      elif variable is getattr(layer, "bias", None):
        variable.assign(np.zeros(variable.shape))
  ours = dc.models.ResNet(50, num_classes=11)
  # Of 97 pixels the first convolution makes 49 positions: at odd sizes, "same" pooling is Keras' padding of one.
  x = rng.normal(0, 50, [2, 97, 97, 3]).astype(np.float32)
  ours(x)

  def copy(names, layers):
    for name, layer in zip(names, layers):
      source = theirs.get_layer(name)
      layer.set_weights(source.get_weights() if "bn" in name else source.get_weights()[:1])

  copy(["conv1_conv", "conv1_bn"], [ours.root, ours.bn_root])
  for unit in ours.units:
    block, number = unit.name.split("_")
    names = [f"{block}_block{number}_{part}" for part in (
        "1_conv", "1_bn", "2_conv", "2_bn", "3_conv", "3_bn", "0_conv", "0_bn")]
    copy(names if unit.projection else names[:6],
         [unit.conv1, unit.bn1, unit.conv2, unit.bn2, unit.conv3, unit.bn3, unit.projection, unit.bn_projection])
  ours.logits.set_weights(theirs.get_layer("predictions").get_weights())
  expected = theirs(x).numpy()
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
@pytest.mark.parametrize("family, depth, shape, strides, dilated", [
    ("ResNet", 14, (96, 65, 3), 32, 8), ("CResNet", 12, (14, 9, 8), 4, 1)])
def test_output_strides_and_the_dilated_form(stride_in, family, depth, shape, strides, dilated):
  x = tf.random.stateless_normal([1, *shape], [1, 2])
  network = getattr(dc.models, family)(depth, None, width=0.125, stride_in=stride_in)
  atrous = getattr(dc.models, family)(depth, None, width=0.125, stride_in=stride_in, dilated=True)
  assert (network.output_stride, atrous.output_stride) == (strides, dilated)
  few, many = network(x), atrous(x)
  assert few.shape[1:3] == tuple(-(-side // strides) for side in shape[:2])
  assert many.shape[1:3] == tuple(-(-side // dilated) for side in shape[:2])
  atrous.set_weights(network.get_weights())
  step = strides // dilated
  np.testing.assert_allclose(atrous(x)[:, ::step, ::step], few, rtol=1e-3, atol=1e-5 * np.abs(few).max())


def test_width_scales_and_rounds_channels():
  network = dc.models.CResNet(39, num_classes=7, width=0.25)
  assert network(tf.zeros([3, 6, 5, 8])).shape == (3, 7)
  assert [network.units[i].filters for i in (0, 4, 10)] == [32, 64, 128]


def test_round_trip(tmp_path):
  network = dc.models.CResNet(12, num_classes=5, width=0.125)
  x = tf.random.stateless_normal([2, 8, 8, 16], [5, 6])
  expected = network(x)
  network.save(tmp_path / "network.keras")
  np.testing.assert_allclose(tf.keras.models.load_model(tmp_path / "network.keras")(x), expected, rtol=1e-5)


@pytest.mark.parametrize("make, message", [
    (lambda: dc.models.ResNet(51), "50, 71.*depth=51"), (lambda: dc.models.CResNet(50), "39, 51, 72.*depth=50"),
    (lambda: dc.models.ResNet(50, num_classes=0), "num_classes=0"), (lambda: dc.models.ResNet(50, width=0), "width=0"),
])
def test_bad_arguments(make, message):
  with pytest.raises(dc.DeepcompError, match=message):
    make()
