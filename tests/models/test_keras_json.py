"""Networks from JSON: Keras' own layers come back, and nothing that has code in it is run."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.keras_version import KERAS_3
from deepcomp_tf.models import efficientnet
from deepcomp_tf.models import keras_json


def _network(layer):
  pixels = tf.keras.Input([16, 16, 3])
  x = tf.keras.layers.Conv2D(4, 3, 8, "same", activation="relu", kernel_regularizer="l2", name="cut")(pixels / 255.0 + 1.0)
  x = layer(tf.keras.layers.BatchNormalization()(x)[:, :2])
  return tf.keras.Model(pixels, tf.keras.layers.Dense(3)(tf.keras.layers.GlobalAveragePooling2D()(x)))


def test_keras_own_layers_come_back():
  network = _network(tf.keras.layers.ReLU())
  again = keras_json.read(network.to_json())
  again.set_weights(network.get_weights())
  pixels = np.random.default_rng(0).uniform(0, 255, [1, 16, 16, 3]).astype(np.float32)
  np.testing.assert_allclose(again(pixels), network(pixels), rtol=1e-6)
  ours = efficientnet.efficientnet_lite("EfficientNet-Lite0", 2)
  assert keras_json.read(ours.to_json()).count_params() == ours.count_params()


def _of_keras_2():
  """What Keras 2.15 writes of a network of a depthwise convolution that is added to its input, and a dense layer, less what is at
  its default."""
  layer = lambda name, kind, inputs, **settings: {
      "module": "keras.layers", "class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **settings},
      "registered_name": None, "name": name, "inbound_nodes": [[[one, 0, 0, {}] for one in inputs]] if inputs else []}
  start = layer("pixels", "InputLayer", [], batch_input_shape=[None, 8, 8, 3], sparse=False, ragged=False)
  start["config"].pop("trainable")
  return {"class_name": "Functional", "keras_version": "2.15.0", "backend": "tensorflow", "config": {
      "name": "twice", "trainable": True, "layers": [
          start, layer("depthwise", "DepthwiseConv2D", ["pixels"], kernel_size=[3, 3], padding="same", groups=1),
          layer("both", "Add", ["depthwise", "pixels"]), layer("sums", "Dense", ["both"], units=1)],
      "input_layers": [["pixels", 0, 0]], "output_layers": [["sums", 0, 0]]}}


def _of_keras_3():
  """The same of Keras 3."""
  policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
  tensor = lambda name: {"class_name": "__keras_tensor__", "config": {
      "shape": [None, 8, 8, 3], "dtype": "float32", "keras_history": [name, 0, 0]}}
  layer = lambda name, kind, inputs, **settings: {
      "module": "keras.layers", "class_name": kind, "config": {"name": name, **settings}, "registered_name": None, "name": name,
      "inbound_nodes": [{"args": inputs, "kwargs": {}}] if inputs else []}
  return {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional", "config": {
      "name": "twice", "trainable": True, "layers": [
          layer("pixels", "InputLayer", [], batch_shape=[None, 8, 8, 3], dtype="float32", sparse=False, ragged=False,
                optional=False),
          layer("depthwise", "DepthwiseConv2D", [tensor("pixels")], trainable=True, dtype=policy, kernel_size=[3, 3],
                padding="same", depthwise_initializer={"module": "keras.initializers", "class_name": "GlorotUniform", "config": {
                    "seed": None, "input_axes": None, "output_axes": None}, "registered_name": None}),
          layer("both", "Add", [[tensor("depthwise"), tensor("pixels")]], trainable=True, dtype=policy),
          layer("sums", "Dense", [tensor("both")], trainable=True, dtype=policy, units=1, quantization_config=None)],
      "input_layers": ["pixels", 0, 0], "output_layers": ["sums", 0, 0]}}


@pytest.mark.parametrize("written", [_of_keras_2, _of_keras_3])
def test_networks_of_both_kerases_are_read(written):
  network = keras_json.read(json.dumps(written()))
  depthwise = network.get_layer("depthwise")
  depthwise.set_weights([np.full([3, 3, 3, 1], 1 / 9, np.float32), np.ones(3, np.float32)])
  network.get_layer("sums").set_weights([np.ones([3, 1], np.float32), np.zeros(1, np.float32)])
  pixels = np.random.default_rng(0).normal(size=[2, 8, 8, 3]).astype(np.float32)
  around = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))
  means = sum(around[:, row:row + 8, column:column + 8] for row in range(3) for column in range(3)) / 9
  np.testing.assert_allclose(network(pixels), (means + 1 + pixels).sum(-1, keepdims=True), rtol=1e-5, atol=1e-5)


def _without_modules(value):
  """JSON as earlier versions wrote it."""
  if isinstance(value, dict):
    return {name: _without_modules(entry) for name, entry in value.items() if name not in ("module", "registered_name")}
  return list(map(_without_modules, value)) if isinstance(value, list) else value


def test_a_function_in_a_network_is_not_run(tmp_path):
  path = str(tmp_path / "run")
  text = _network(tf.keras.layers.Lambda(lambda x, path=path: (open(path, "wb"), x)[1])).to_json()
  os.remove(path)
  for given in (text, json.dumps(_without_modules(json.loads(text)))):
    with pytest.raises(dc.DeepcompError, match="of Keras' own layers, and of no function or file. Received: .*Lambda"):
      dc.models.Graft(given, "cut")
    assert not os.path.exists(path)


@pytest.mark.skipif(KERAS_3, reason="only Keras 2 has layers that call a function of TensorFlow by its name")
def test_functions_of_tensorflow_are_those_of_networks():
  text = _network(tf.keras.layers.ReLU()).to_json()
  assert '"function": "math.truediv"' in text
  with pytest.raises(dc.DeepcompError, match="of no function or file. Received: .*TFOpLambda"):
    keras_json.read(text.replace("math.truediv", "keras.utils.get_file"))


@pytest.mark.parametrize("entry", [
    {"class_name": "Lambda", "module": "keras.layers"}, {"class_name": "system", "module": "os"},
    {"class_name": "function", "module": "builtins", "config": "eval"},
    {"class_name": "utils.get_file", "module": "keras"}, {"class_name": "get_file", "module": "keras.utils"},
    {"class_name": "TFSMLayer", "module": "keras.layers"},
    {"class_name": "Mine", "module": "mine", "registered_name": "mine>Mine"},
    {"class_name": "TFOpLambda", "module": None, "config": {"function": "load_op_library"}},
    {"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, {"class_name": ["Lambda"]}])
def test_other_code_than_keras_own_is_refused(entry):
  config = json.loads(_network(tf.keras.layers.ReLU()).to_json())
  config["config"]["layers"][-1]["config"]["kernel_initializer"] = entry
  with pytest.raises(dc.DeepcompError, match="of no function or file"):
    keras_json.read(json.dumps(config))
