"""The contract of networks (`models.protocol`), which each of them keeps."""

import json

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import models
from deepcomp_tf.layers.naming import build
from deepcomp_tf.models import protocol


def _small_backbone():
  inputs = tf.keras.Input([64, 64, 3])
  x = tf.keras.layers.Conv2D(8, 9, 8, "same", activation="relu", name="cut")(inputs)
  x = tf.keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="behind")(x)
  return tf.keras.Model(
      inputs, tf.keras.layers.Dense(5, name="logits")(tf.keras.layers.GlobalAveragePooling2D()(x)), name="small")


NETWORKS = {
    "ResNet": (lambda: models.ResNet(14, 5, width=0.01), 3),
    "CResNet": (lambda: models.CResNet(12, 5, width=0.01), 4),
    "Graft": (lambda: models.Graft(_small_backbone(), filters=8, units=1), 4),
    "Backbone": (lambda: models.Backbone(_small_backbone(), preprocessing="none"), 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_keeps_the_contract(name):
  make, channels = NETWORKS[name]
  network = make()
  build(network, channels)
  assert isinstance(network, protocol.Network) and network.built and network.num_classes == 5
  x = tf.random.stateless_uniform([2, 32, 40, channels], [0, 1])
  logits = network(x, training=False)
  assert logits.shape == (2, 5) and logits.dtype == tf.float32

  named = network.named_variables()
  assert {id(variable) for variable in named.values()} >= {id(variable) for variable in network.trainable_variables}
  assert any(key.endswith("kernel") for key in named)

  blueprint = json.loads(json.dumps(network.blueprint()))
  assert blueprint["network"] == network.architecture
  twin = models.from_blueprint(blueprint, 5)
  assert type(twin) is type(network) and twin.blueprint() == network.blueprint()
  build(twin, channels)
  assert twin.named_variables().keys() == named.keys()
  for key, variable in twin.named_variables().items():
    variable.assign(named[key])
  np.testing.assert_allclose(twin(x, training=False), logits, rtol=1e-5, atol=1e-6)
  assert type(network).from_config(network.get_config()).blueprint() == network.blueprint()

  vectors, last = network.vectors(x, training=False), network.last_layer
  assert vectors.dtype == tf.float32
  np.testing.assert_allclose(last(vectors), logits, rtol=1e-5, atol=1e-6)
  other = models.with_classes(network, 3, channels)
  assert other.num_classes == 3 and other(x).shape == (2, 3)
  np.testing.assert_allclose(other.vectors(x, training=False), vectors, rtol=1e-5, atol=1e-6)
  assert models.from_blueprint(other.blueprint(), 3).blueprint() == other.blueprint()

  if name == "Backbone":
    with pytest.raises(dc.DeepcompError, match="to segment with"):
      network.for_segmentation()
    return
  dilated = network.for_segmentation()
  assert isinstance(dilated, protocol.Features) and dilated.dilated and dilated.num_classes is None and dilated.built
  features = dilated.features(x, training=False)
  stride = 8 if channels == 3 else 1
  assert features.shape == (2, 32 // stride, 40 // stride, dilated.feature_channels)
  for key, variable in dilated.named_variables().items():
    np.testing.assert_array_equal(variable, named[key])
  segmenter = models.DeepLab(dilated, 3)
  assert segmenter(x).shape == (2, 32 // stride, 40 // stride, 3)
  again = models.from_blueprint(segmenter.backbone.blueprint(), None, dilated=True)
  assert isinstance(again, protocol.Features) and again.feature_channels == dilated.feature_channels


def test_a_network_that_does_not_end_with_a_dense_layer_has_no_other_classes():
  inputs = tf.keras.Input([64, 64, 3])
  x = tf.keras.layers.Conv2D(8, 9, 8, "same", name="cut")(inputs)
  x = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Conv2D(5, 3, padding="same")(x))
  network = models.Backbone(tf.keras.Model(inputs, x, name="pooled"), preprocessing="none")
  build(network, 3)
  with pytest.raises(dc.DeepcompError, match="whose last layer is dense, for other classes. Received: pooled, which ends with"):
    models.with_classes(network, 3, 3)
