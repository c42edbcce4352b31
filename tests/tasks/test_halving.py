"""Photos that are larger than those of the training: their representations are halved."""

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf import shipped
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.tasks import halving
from deepcomp_tf.tasks.segment import class_ids


@pytest.mark.parametrize("point", dc.operating_points.names())
def test_a_halved_representation_is_nearly_that_of_the_photo_at_half_the_size(point):
  photo = Image.fromarray(samples.photos()["coffee"]).crop((100, 60, 388, 316))
  half = photo.resize((144, 128), Image.Resampling.LANCZOS)
  inputs = NetworkInput("representation", dc.Codec.load(point))
  x, aim = (inputs(inputs.encode(np.asarray(pixels)[np.newaxis])).numpy() for pixels in (photo, half))
  found = halving.halve(x, *halving.load(shipped.find("operating point", point)))
  assert found.shape == aim.shape
  pooled = x.reshape(1, 16, 2, 18, 2, -1).mean(axis=(2, 4))
  error = lambda y: np.mean((y - aim) ** 2)
  assert error(found) < 0.4 * error(pooled) and error(found) < 0.35 * np.var(aim)


def test_windows_are_what_halving_sees():
  rng = np.random.default_rng(0)
  x, kernel, bias = rng.normal(size=[8, 6, 3]), rng.normal(size=[4, 4, 3, 3]), rng.normal(size=[3])
  found = halving.halve(tf.constant(x[np.newaxis]), kernel, bias)[0]
  np.testing.assert_allclose(found, halving.windows(x).reshape(4, 3, -1) @ kernel.reshape(-1, 3) + bias, rtol=1e-6)


def test_arrays_are_halved_as_tensors_are():
  rng = np.random.default_rng(0)
  x, kernel, bias = (rng.normal(size=size).astype(np.float32) for size in ([2, 7, 5, 3], [4, 4, 3, 3], [3]))
  found = halving.halve(x, kernel, bias)
  assert found.shape == (2, 4, 3, 3) and found.dtype == np.float32
  np.testing.assert_allclose(found, halving.halve(tf.constant(x), kernel, bias), rtol=1e-4, atol=1e-5)


def test_segmenters_halve_large_photos():
  """The mask is that of the halved representation, enlarged; small photos are seen as they are."""
  tf.keras.utils.set_random_seed(0)
  codec = dc.Codec.load("bpp0.0983")
  network = dc.models.DeepLab(dc.models.CResNet(12, None, width=0.125, dilated=True), 21)
  segmenter = dc.Segmenter(network, NetworkInput("representation", codec), mask_classes.VOC, {"trained_size": 64})
  photo = samples.photos()["chelsea"][:135, :162]
  symbols = codec.encode(photo)
  x = segmenter.inputs(symbols[np.newaxis])
  halved = halving.halve(x, *halving.load(shipped.find("operating point", "bpp0.0983")))
  assert halved.shape[1:3] == (9, 11)
  expected = class_ids(network(halved, training=False), 135, 162, 16)[0].numpy()
  found = segmenter.predict(symbols, 135, 162)
  assert found.shape == (135, 162) and len(np.unique(found)) > 1 and np.mean(found == expected) > 0.99
  small = codec.encode(photo[:64, :64])
  as_it_is = class_ids(network(segmenter.inputs(small[np.newaxis]), training=False), 64, 64)[0].numpy()
  assert np.mean(segmenter.predict(small, 64, 64) == as_it_is) > 0.99


def test_photos_are_halved_to_about_the_size_that_the_network_knows():
  assert [halving.times(side, 9999, 224) for side in (64, 224, 336, 360, 448, 900, 3000)] == [0, 0, 0, 1, 1, 2, 4]


@pytest.mark.parametrize("size, whole, halved", [(96, True, False), (112, True, True), (136, False, True), (192, False, True)])
def test_classifiers_see_photos_between_the_sizes_in_both(size, whole, halved):
  """From 1.57 times the 64 pixels that the network knows on halved, up to 1.9 times as they are, too; 192 is 96 when halved."""
  tf.keras.utils.set_random_seed(0)
  codec = dc.Codec.load("bpp0.0983")
  inputs, info = NetworkInput("representation", codec), {"crop_size": 64}
  classifier = dc.Classifier(dc.models.CResNet(12, 4, width=0.125), inputs, ["a", "b", "c", "d"], info)
  embedder = dc.Embedder(dc.models.CResNet(12, None, width=0.125), inputs, info)
  symbols = codec.encode(samples.photos()["chelsea"][:size, :size + 40])[np.newaxis]
  x = inputs(symbols)
  seen = whole * [x] + halved * [halving.halve(x, *halving.load(shipped.find("operating point", "bpp0.0983")))]
  logits = np.mean([classifier.network(x, training=False)[0] for x in seen], axis=0)
  (found,) = classifier.run(symbols, size, size + 40)
  np.testing.assert_allclose([dict(found)[name] for name in "abcd"], tf.nn.softmax(logits), rtol=1e-4)
  pooled = [np.mean(embedder.network.features(x, training=False)[0], axis=(0, 1)) for x in seen]
  expected = np.mean([one / np.linalg.norm(one) for one in pooled], axis=0)
  (vector,) = embedder.run(symbols, size, size + 40)
  np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_large_photo_is_what_a_small_one_is():
  codec, cat = dc.Codec.load("bpp0.330"), Image.fromarray(samples.photos()["chelsea"]).crop((76, 0, 376, 300))
  classifier = dc.Classifier.load("graft_bpp0.330")
  small, large = (codec.compress(np.asarray(cat.resize((side, side), Image.Resampling.BICUBIC))) for side in (224, 896))
  assert classifier.halvings(896, 896) == 2 and not classifier.far_from_trained(896, 896)
  assert "was trained on 224" in classifier.far_from_trained(64, 900)
  near, far = (dc.Embedder.load("graft_bpp0.330").embed(data) for data in (small, large))
  assert near @ far > 0.8
  cats = {"Egyptian cat", "tabby", "tiger cat"}
  for data in (small, large):
    assert classifier.classify(data)[0][0] in cats
