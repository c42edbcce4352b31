"""Networks read from TensorFlow Lite files answer as TensorFlow Lite does."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.mask_classes import VOC
from deepcomp_tf.models import keras_json
from deepcomp_tf.models import surgery
from deepcomp_tf.models import tflite
from deepcomp_tf.tasks import teachers

SIZE = 33


def _resized(maps, size):
  return tf.raw_ops.ResizeBilinear(images=maps, size=[size, size], align_corners=True)


def _segmenter():
  """A small DeepLab: convolutions with strides, rates and groups, an addition, pooled maps made large again, and a mask."""
  layers = tf.keras.layers
  x = photo = tf.keras.Input([SIZE, SIZE, 3], 1)
  x = layers.ReLU(6.0)(layers.Conv2D(8, 3, 2, "same")(x))
  branch = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)(x))
  x = layers.Add()([x, layers.Conv2D(8, 1)(branch)])
  pooled = layers.ReLU()(layers.Conv2D(6, 1)(layers.AveragePooling2D(17)(x)))
  pooled = layers.Lambda(lambda maps: _resized(maps, 17))(pooled)
  logits = layers.Conv2D(5, 1)(layers.Concatenate()([pooled, x]))
  masks = layers.Lambda(lambda maps: tf.argmax(_resized(maps, SIZE), -1, tf.int32))(logits)
  return tf.keras.Model(photo, [masks]), tf.keras.Model(photo, logits)


def _classifier():
  layers = tf.keras.layers
  x = photo = tf.keras.Input([SIZE, SIZE, 3], 1)
  x = layers.Conv2D(8, 3, 2, activation="relu")(layers.ZeroPadding2D(((0, 1), (1, 0)))(x))
  x = layers.MaxPooling2D(2)(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
  x = layers.Dense(7, activation="softmax")(layers.GlobalAveragePooling2D()(x))
  return tf.keras.Model(photo, x)


def _convert(network, path, quantized, size=SIZE):
  converter = tf.lite.TFLiteConverter.from_keras_model(network)
  if quantized:
    rng = np.random.default_rng(1)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([rng.random([1, size, size, 3], np.float32) * 2 - 1] for _ in range(20))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
  path.write_bytes(converter.convert())
  return str(path)


def _read(path):
  return tflite.read(pathlib.Path(path).read_bytes(), "net")


def _photos():
  return np.random.default_rng(2).integers(0, 256, [4, SIZE, SIZE, 3]).astype(np.uint8)


def test_a_float_classifier_answers_as_the_file(tmp_path):
  whole = _classifier()
  network = _read(_convert(whole, tmp_path / "net.tflite", False))
  photos = _photos() / np.float32(128) - 1
  np.testing.assert_allclose(network(photos), whole(photos), atol=1e-6)
  again = keras_json.read(network.to_json())
  again.set_weights(network.get_weights())
  np.testing.assert_array_equal(again(photos), network(photos))


def test_a_quantized_segmenter_gives_the_interpreters_masks(tmp_path):
  masks, logits = _segmenter()
  path = _convert(masks, tmp_path / "net.tflite", True)
  network = _read(path)
  interpreter = tf.lite.Interpreter(model_path=path)
  interpreter.allocate_tensors()
  (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
  same = []
  for photo in _photos():
    interpreter.set_tensor(given["index"], photo[np.newaxis])
    interpreter.invoke()
    ours = _resized(network(photo[np.newaxis].astype(np.float32)), SIZE)
    same.append(np.mean(np.argmax(ours, -1) == interpreter.get_tensor(found["index"])))
  assert np.mean(same) > 0.95
  # Its scale is that of its pixels: what Keras gives of them is nearly the same.
  np.testing.assert_allclose(network(_photos().astype(np.float32)), logits(_photos() / np.float32(127.5) - 1), atol=0.1)


def test_the_maps_may_have_any_size(tmp_path):
  network = _read(_convert(_segmenter()[0], tmp_path / "net.tflite", False))
  larger = tf.keras.models.clone_model(network, input_tensors=tf.keras.Input([None, None, 3]))
  assert larger(np.zeros([1, 49, 65, 3], np.float32)).shape == (1, 25, 33, 5)


@pytest.fixture(name="teacher", scope="module")
def fixture_teacher(tmp_path_factory):
  """A network that segments, with maps of stride 8, then 16."""
  layers = tf.keras.layers
  x = photo = tf.keras.Input([97, 97, 3], 1)
  for filters in (6, 5, 4, 8):
    x = layers.Conv2D(filters, 3, 2, "same", activation="relu", bias_initializer="random_normal")(x)
  x = layers.Lambda(lambda maps: tf.argmax(_resized(maps, 97), -1, tf.int32))(layers.Conv2D(21, 1)(x))
  path = _convert(tf.keras.Model(photo, x), tmp_path_factory.mktemp("teacher") / "net.tflite", True, 97)
  return teachers.load_teacher(path)


def test_a_teachers_positions_lie_in_the_middle_of_blocks(teacher):
  assert teacher.segments and teacher.class_names[15] == "person"
  cut = surgery.find_cut(teacher.network)
  assert teacher.channels_at(cut) == 4
  photo = np.random.default_rng(3).integers(0, 256, [1, 104, 104, 3]).astype(np.uint8)
  maps, logits = teacher.answers(cut)(photo)
  assert maps.shape == (1, 13, 13, 4) and logits.shape == (1, 13, 13, 21)
  # The network itself, on the 97 pixels from the middle of the first block to that of the last.
  expected = teacher.network(photo[:, 4:101, 4:101].astype(np.float32))
  np.testing.assert_allclose(logits[:, ::2, ::2], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(5, 5), (6, 3), (1, 4)])
def test_a_graft_of_it_segments_maps_of_any_size(teacher, size, tmp_path):
  codec = dc.Codec.load("bpp0.330")
  graft = dc.models.Graft(teacher.network, filters=4, units=1, num_classes=21)
  graft.build([None, None, None, codec.channels])
  graft.take_weights(teacher.network)
  segmenter = dc.Segmenter(graft, NetworkInput("representation", codec), VOC)
  symbols = np.random.default_rng(4).integers(0, 81, [*size, codec.channels]).astype(np.uint8)
  mask = segmenter.predict(symbols, 8 * size[0] - 3, 8 * size[1])
  assert mask.shape == (8 * size[0] - 3, 8 * size[1])
  segmenter.save(str(tmp_path / "segmenter"))
  again = dc.Segmenter.load(str(tmp_path / "segmenter"))
  assert again.describe().startswith("graft of net at bpp0.330 knows 21 classes")
  np.testing.assert_array_equal(segmenter.copy(rounded=True).predict(symbols, *mask.shape), again.predict(symbols, *mask.shape))


def test_what_is_not_known_is_named(tmp_path):
  photo = tf.keras.Input([8, 8, 3], 1)
  path = _convert(tf.keras.Model(photo, tf.keras.layers.Lambda(tf.sin)(photo)), tmp_path / "net.tflite", False)
  with pytest.raises(dc.DeepcompError, match="CONV_2D.*Received: net, with SIN at place 0"):
    _read(path)


@pytest.mark.parametrize("data", [b"", b"TFL3", bytes(range(256))])
def test_no_file_of_a_network(data):
  with pytest.raises(dc.DeepcompError, match="expected a TensorFlow Lite file"):
    tflite.read(data, "net")
