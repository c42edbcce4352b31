"""Grafts: with an adapter that gives the backbone's own maps, they answer as the backbone does."""

import json

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.models.pretrained import make_backbone
from deepcomp_tf.models.surgery import find_cut
from deepcomp_tf.tasks.folder import share_weights
from deepcomp_tf.tasks.folder import shrink
from deepcomp_tf.tasks.teachers import Teacher


def _random_backbone(name, classes=11):
  """A backbone whose batch normalizations are no identities."""
  backbone = make_backbone(name, classes)
  rng = np.random.default_rng(0)
  for layer in backbone.layers:
    if isinstance(layer, tf.keras.layers.BatchNormalization):
      layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()])
  return backbone


def _maps(backbone, cut, pixels, step=1):
  maps = tf.keras.Model(backbone.input, backbone.get_layer(cut).output)(pixels)
  return maps[:, ::step, ::step]


@pytest.mark.parametrize("name, cut, channels", [
    ("EfficientNet-Lite0", "block5_add", 40), ("ResNet50", "conv2_block3_out", 256)])
@pytest.mark.slow
def test_an_exact_adapter_gives_the_backbones_answers(name, cut, channels):
  backbone = _random_backbone(name)
  assert find_cut(backbone) == cut
  network = dc.models.Graft(name, num_classes=11)
  dc.layers.naming.build(network, 16)
  network.take_weights(backbone)
  assert network.num_classes == 11 and network.cut == cut
  pixels = np.random.default_rng(1).normal(0, 1, [2, 224, 224, 3]).astype(np.float32)
  maps = _maps(backbone, cut, pixels, 2 if name == "ResNet50" else 1)  # ResNet-50 subsamples in conv3_1
  assert maps.shape == (2, 28, 28, channels)
  mean, deviation = tf.reduce_mean(maps, [0, 1, 2]), tf.math.reduce_std(maps, [0, 1, 2]) + 0.1
  network.set_statistics(mean, deviation)
  answers = network.behind((maps - mean) / deviation)
  expected = backbone(pixels)
  found = tf.nn.softmax(answers) if name == "ResNet50" else answers  # Keras' own end with a softmax
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_resnet_50s_graft_has_conv3_x_to_conv5_x_of_the_paper():
  network = dc.models.Graft("ResNet50")
  dc.layers.naming.build(network, 32)
  adapter = 28 * 28 * (9 * 32 * 128 + 8 * (128 * 48 + 9 * 48 * 48 + 48 * 128) + 128 * 256)
  # Table 1's ResNet-50 without its root and conv2_x, counted from Table 3.
  total, channels = 0, 256
  for filters, side, count in ((128, 28, 4), (256, 14, 6), (512, 7, 3)):
    for _ in range(count):
      total += side ** 2 * (channels * filters + 9 * filters ** 2 + 4 * filters ** 2)
      total += side ** 2 * channels * 4 * filters if channels != 4 * filters else 0
      channels = 4 * filters
  assert dc.evaluation.multiply_adds(network, (28, 28, 32)) == adapter + total + 2048 * 1000


def test_the_dilated_form_has_the_same_features_at_every_place_that_the_other_has():
  network = dc.models.Graft(_subsampled_by_1x1(), filters=8, units=1)
  dc.layers.naming.build(network, 4)
  assert network.cut == "quarter" and not network.dilated
  dilated = network.for_segmentation()
  x = np.random.default_rng(1).normal(0, 1, [1, 16, 24, 4]).astype(np.float32)
  features = dilated.features(x)
  assert features.shape == (1, 16, 24, 7) and dilated.feature_channels == 7 and dilated.num_classes is None
  pooled = tf.reduce_mean(features[:, ::4, ::4], [1, 2])
  kernel, bias = network.remainder.layers[-1].get_weights()
  np.testing.assert_allclose(pooled @ kernel + bias, network(x), rtol=1e-3, atol=1e-3)


def test_depthwise_kernels_stay_as_they_are_in_segmentation():
  network = dc.models.Graft("EfficientNet-Lite0", filters=8, units=1)
  dc.layers.naming.build(network, 8)
  dilated = network.for_segmentation()
  for graft_of, trained in ((network, True), (dilated, False)):
    variables, trainable = graft_of.named_variables(), {id(variable) for variable in graft_of.trainable_variables}
    found = {id(variables[f"remainder/block{number}_depthwise/kernel"]) in trainable for number in range(6, 17)}
    assert found == {trained} and id(variables["remainder/block6_expand/kernel"]) in trainable


@pytest.mark.parametrize("size", [64, 96])
def test_a_teacher_gives_the_maps_that_its_graft_takes_and_the_networks_own_answers(size):
  network, pixels = _subsampled_by_1x1(), np.random.default_rng(0).integers(0, 256, [2, size, size, 3], np.uint8)
  teacher = Teacher("subsampled", network, "tf", ["a", "b", "c"], "")
  maps, logits = teacher.answers("quarter")(pixels)
  assert maps.shape == (2, size // 8, size // 8, teacher.channels_at("quarter"))
  kernels = {layer.name: layer.get_weights() for layer in network.layers if layer.weights}
  same = _subsampled_by_1x1(size)  # the network itself takes photos of one size
  for layer, weights in zip([layer for layer in same.layers if layer.weights], kernels.values()):
    layer.set_weights(weights)
  np.testing.assert_allclose(logits, same(pixels / 127.5 - 1), rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(maps, _maps(same, "quarter", pixels / 127.5 - 1, 2), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bottleneck", [None, 3])
def test_a_network_from_elsewhere_goes_into_the_folder_and_out_again(tmp_path, bottleneck):
  backbone = _tiny()
  network = dc.models.Graft(backbone, filters=8, units=1, bottleneck=bottleneck)
  dc.layers.naming.build(network, 8)
  last = network.residual_units[0].convolutions[-1].kernel  # 0 in a new unit, which is the identity
  last.assign(tf.random.stateless_normal(last.shape, [0, 1], stddev=0.3))
  assert network.cut == "eighth" and network.architecture == "graft of tiny"
  json.dumps(network.blueprint())
  codec = dc.Codec.load("bpp0.0983")
  classifier = dc.Classifier(network, NetworkInput("representation", codec), ["a", "b", "c"])
  classifier.save(tmp_path / "classifier")
  data = codec.compress(np.random.default_rng(0).integers(0, 256, [40, 56, 3], np.uint8))
  loaded = dc.Classifier.load(str(tmp_path / "classifier"))
  found, expected = dict(loaded.classify(data)), dict(classifier.classify(data))
  assert found == pytest.approx(expected, abs=2e-3)
  loaded.export_saved_model(str(tmp_path / "model"))
  outputs = tf.saved_model.load(str(tmp_path / "model")).signatures["symbols"](
      symbols=tf.constant(codec.symbols(data)[np.newaxis]))
  np.testing.assert_allclose(np.sort(outputs["probabilities"][0]), sorted(found.values()), rtol=1e-3)
  assert loaded.describe() == "graft of tiny at bpp0.0983 knows 3 classes: a, b, c"


def test_a_whole_network_on_decoded_pixels_goes_into_the_folder_and_out_again(tmp_path):
  whole = _tiny()
  network = dc.models.Backbone(whole, preprocessing="tf")
  dc.layers.naming.build(network, 3)
  network.take_weights(whole)
  network.set_statistics(np.full(8, 0.3), np.full(8, 2.0))
  codec = dc.Codec.load("bpp0.0983")
  classifier = dc.Classifier(network, NetworkInput("decoded", codec), ["a", "b", "c"])
  classifier.save(tmp_path / "classifier")
  data = codec.compress(np.random.default_rng(0).integers(0, 256, [64, 64, 3], np.uint8))
  expected = whole(codec.decompress(data)[np.newaxis] / 127.5 - 1)[0]
  loaded = dc.Classifier.load(str(tmp_path / "classifier"))
  assert dict(loaded.classify(data)) == pytest.approx(dict(zip("abc", expected.numpy())), abs=2e-3)
  pixels = np.random.default_rng(1).integers(0, 256, [1, 64, 64, 3], np.uint8)
  x = loaded.inputs(pixels)
  np.testing.assert_allclose(loaded.network.behind(loaded.network.maps(x)), loaded.network(x), rtol=1e-3, atol=1e-4)
  with pytest.raises(dc.DeepcompError, match="expected a graft or a ResNet to segment with. Received: the whole tiny"):
    dc.models.DeepLab.from_classifier(network, 2)
  with pytest.raises(dc.DeepcompError, match="`preprocessing` must be one of lite"):
    dc.models.Backbone(whole)


def test_a_segmenter_on_a_graft_is_stored_and_read(tmp_path):
  codec = dc.Codec.load("bpp0.0983")
  network = dc.models.Graft(_subsampled_by_1x1(), filters=8, units=1)
  dc.layers.naming.build(network, 8)
  model = dc.models.DeepLab.from_classifier(network, 2)
  dc.layers.naming.build(model, 8)
  trained = {name for name, variable in model.named_variables().items() if variable.trainable}
  assert "backbone/adapter/first/kernel" in trained and "backbone/adapter/mean" not in trained
  classes = mask_classes.VOC[:2]
  segmenter = dc.Segmenter(model, NetworkInput("representation", codec), classes)
  for bias in model.head.branches:
    bias[0].assign(tf.random.stateless_normal(bias[0].shape, [0, 1]))
  segmenter.save(tmp_path / "segmenter")
  data = codec.compress(np.random.default_rng(0).integers(0, 256, [44, 60, 3], np.uint8))
  assert segmenter.segment(data).shape == (44, 60)
  x = np.random.default_rng(1).normal(0, 1, [1, 6, 8, 8]).astype(np.float32)
  logits = segmenter.copy(rounded=True).network(x)
  assert logits.shape == (1, 6, 8, 2) and np.ptp(logits) > 1e-3
  np.testing.assert_allclose(dc.Segmenter.load(str(tmp_path / "segmenter")).network(x), logits, rtol=1e-3, atol=1e-5)


def test_networks_share_what_they_have_alike(tmp_path):
  codec, folders = dc.Codec.load("bpp0.0983"), [str(tmp_path / name) for name in "ab"]
  data = codec.compress(np.random.default_rng(0).integers(0, 256, [40, 56, 3], np.uint8))
  backbone, answers = _tiny(), []
  for folder in folders:  # the adapters are random
    network = dc.models.Graft(backbone, filters=8, units=1)
    dc.layers.naming.build(network, 8)
    network.take_weights(backbone)
    dc.Classifier(network, NetworkInput("representation", codec), ["a", "b", "c"]).save(folder)
    answers.append(dc.Classifier.load(folder).classify(data))
  before = (tmp_path / "a/weights.npz").stat().st_size
  share_weights("classifier", folders, str(tmp_path / "shared.npz"), "remainder/")
  assert {name.split("/")[0] for name in np.load(tmp_path / "shared.npz")} == {"remainder"}
  assert (tmp_path / "a/weights.npz").stat().st_size < before
  for folder, expected in zip(folders, answers):
    assert dc.Classifier.load(folder).classify(data) == expected
  (tmp_path / "shared.npz").unlink()
  with pytest.raises(dc.DeepcompError, match="damaged or incomplete"):
    dc.Classifier.load(folders[0])
  with pytest.raises(dc.DeepcompError, match=r"networks with arrays remainder/\* that are the same"):
    share_weights("classifier", folders, str(tmp_path / "shared.npz"), "remainder/")


def test_kernels_of_nine_bits_are_within_half_a_step_of_what_they_were(tmp_path):
  codec, folder = dc.Codec.load("bpp0.0983"), str(tmp_path / "a")
  network = dc.models.Graft(_tiny(), filters=64, units=1, bottleneck=None)
  dc.layers.naming.build(network, 8)
  dc.Classifier(network, NetworkInput("representation", codec), ["a", "b", "c"]).save(folder)
  before, bytes_before = dc.Classifier.load(folder), (tmp_path / "a/weights.npz").stat().st_size
  shrink(folder)
  after = dc.Classifier.load(folder)
  assert (tmp_path / "a/weights.npz").stat().st_size < 0.7 * bytes_before
  found = {name: variable.numpy() for name, variable in after.network.named_variables().items()}
  for name, variable in before.network.named_variables().items():
    weights = variable.numpy()
    if not name.endswith("kernel") or weights.shape[-1] == 1:
      np.testing.assert_array_equal(found[name], weights)
      continue
    step = np.abs(weights).max(axis=tuple(range(weights.ndim - 1))) / 255
    assert np.all(np.abs(found[name] - weights) <= 0.501 * step) and np.any(found[name] != weights) == np.any(weights)
  shrink(folder)  # once more changes nothing
  again = dc.Classifier.load(folder).network.named_variables()
  assert all(np.array_equal(again[name].numpy(), array) for name, array in found.items())


@pytest.mark.parametrize("end", [
    lambda x: tf.keras.layers.Softmax()(tf.keras.layers.Dense(3)(x)),
    lambda x: tf.keras.layers.Activation("softmax")(tf.keras.layers.Dense(3)(x))])
def test_a_softmax_of_its_own_is_cut_off(end):
  whole = _tiny(end)
  network = dc.models.Graft(whole, filters=8, units=1)
  dc.layers.naming.build(network, 4)
  network.take_weights(whole)
  assert isinstance(network.remainder.layers[-1], tf.keras.layers.Dense)  # as other classes and vectors take
  pixels = np.random.default_rng(1).normal(0, 1, [2, 64, 64, 3]).astype(np.float32)
  maps = tf.keras.Model(whole.input, whole.get_layer(network.cut).output)(pixels)
  np.testing.assert_allclose(tf.nn.softmax(network.behind(maps)), whole(pixels), atol=1e-6)


def test_places_where_a_network_cannot_be_cut():
  backbone = _tiny()
  for cut, message in (("nowhere", "must be a layer of tiny"), ("quarter", "an eighth of the photo's size"),
                       ("beside", "that all paths lead through")):
    with pytest.raises(dc.DeepcompError, match=message):
      dc.models.Graft(backbone, cut)
  pixels = tf.keras.Input([64, 64, 3])
  with pytest.raises(dc.DeepcompError, match="an eighth of the photo's size at a place"):
    find_cut(tf.keras.Model(pixels, tf.keras.layers.Conv2D(3, 3, 16)(pixels)))
  with pytest.raises(dc.DeepcompError, match="must be one of EfficientNet-Lite0.*ResNet50.*Received: 'ResNet51'"):
    dc.models.Graft("ResNet51")


def _subsampled_by_1x1(size=64):
  """A network that gets from 1/4 to 1/8, to 1/16 and to 1/32 by strides of 1x1 convolutions, as ResNet-50 does."""
  convolution = lambda x, filters, kernel, strides=1, name=None: tf.keras.layers.Conv2D(
      filters, kernel, strides, padding="same", activation="relu", name=name)(x)
  pixels = tf.keras.Input([size, size, 3])
  x = convolution(convolution(pixels, 4, 3, 2), 6, 3, 2, "quarter")
  for filters in (8, 9, 7):
    x = tf.keras.layers.Add()([convolution(convolution(x, filters, 1, 2), filters, 3), convolution(x, filters, 1, 2)])
  x = tf.keras.layers.GlobalAveragePooling2D()(x)
  return tf.keras.Model(pixels, tf.keras.layers.Dense(3)(x), name="subsampled")


def _tiny(end=lambda x: tf.keras.layers.Dense(3, "softmax")(x)):
  """A network with a branch beside its maps at 1/8."""
  convolution = lambda filters, name, strides=2: tf.keras.layers.Conv2D(
      filters, 3, strides, padding="same", activation="relu", name=name)
  pixels = tf.keras.Input([64, 64, 3])
  quarter = convolution(6, "quarter")(convolution(4, "half")(pixels))
  eighth = convolution(8, "eighth")(quarter)
  x = tf.keras.layers.Add()([eighth, convolution(8, "beside", 1)(eighth)])
  x = tf.keras.layers.Concatenate()([x, eighth])
  x = convolution(16, "sixteenth")(x)
  x = tf.keras.layers.GlobalAveragePooling2D()(x)
  return tf.keras.Model(pixels, end(x), name="tiny")
