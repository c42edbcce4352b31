"""Classification sets as they are stored: TFDS sets, and folders of images as people have them."""

import io
import os
import pathlib

import class_folders
import numpy as np
from PIL import Image
from PIL import ImageOps
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import classification
from deepcomp_tf.data import sources

ORIGINAL = NetworkInput("original")


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  return class_folders.write(tmp_path / "images")


def test_slices_of_a_folder(folder):
  numbers = [{int(image[0, 0, 2])
              for image, _ in classification.open_examples(folder, split, ORIGINAL).epoch().as_numpy_iterator()}
             for split in ("train[:75%]", "train[75%:]", "train")]
  assert [len(one) for one in numbers] == [9, 3, 12]
  assert numbers[0] | numbers[1] == numbers[2]


def test_tfds_sets(tmp_path):
  builder = tfds.testing.DummyMnist(data_dir=str(tmp_path))
  builder.download_and_prepare()
  examples = classification.open_examples("dummy_mnist", "test[:7]", ORIGINAL, data_dir=str(tmp_path))
  assert len(examples) == 7 and len(examples.source.class_names) == 10
  images = [image for image, _ in examples.epoch().as_numpy_iterator()]
  assert {image.shape for image in images} == {(28, 28, 3)}


def test_empty_classes_are_named(folder, tmp_path):
  (tmp_path / "images/train/wasp").mkdir()
  with pytest.raises(dc.DeepcompError, match="wasp"):
    sources.open_source(folder, "train")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(orientation):
  pixels = np.zeros([16, 24, 3], np.uint8)
  pixels[:8, :8] = 255
  data = class_folders.jpeg(pixels, orientation)
  expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
  found = tf.function(sources.decode_image)(tf.constant(data)).numpy()
  assert found.shape == expected.shape
  assert np.abs(found.astype(int) - expected).max() < 40


class _Unlabelled(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A set whose test split has no labels, as TFDS marks them."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=class_folders.CLASSES)}))

  def _split_generators(self, dl_manager):
    del dl_manager
    return {"test": self._generate_examples()}

  def _generate_examples(self):
    yield 0, {"image": np.zeros([8, 8, 3], np.uint8), "label": -1}


def test_a_split_without_labels_is_an_error(tmp_path, monkeypatch):
  builder = _Unlabelled(data_dir=str(tmp_path))
  builder.download_and_prepare()
  monkeypatch.setattr(tfds, "builder", lambda *_, **__: builder)
  with pytest.raises(dc.DeepcompError, match="a split with labels. Received: test of unlabelled, whose first label is -1"):
    sources.open_source("unlabelled", "test", str(tmp_path))


def test_hidden_folders_are_no_classes(folder):
  (pathlib.Path(folder) / "train/.ipynb_checkpoints").mkdir()
  (pathlib.Path(folder) / ".cache").mkdir()
  assert tuple(sources.open_source(folder, "train").class_names) == class_folders.CLASSES


def test_names_that_are_no_text(tmp_path):
  place = os.fsencode(tmp_path) + b"/images/train/caf\xe9"
  os.makedirs(place)
  with open(place + b"/\xe9t\xe9.png", "wb") as file:
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "png")
  source = sources.open_source(str(tmp_path / "images"), "train")
  assert source.class_names == [r"caf\xe9"] and os.fsencode(source.name_of(0)) == b"train/caf\xe9/\xe9t\xe9.png"
  (data, label), = source.read(0, 1).as_numpy_iterator()
  assert sources.decode_image(data).numpy()[0, 0].tolist() == [1, 2, 3] and label == 0


def test_a_folder_of_classes_is_a_split_and_the_first_of_each_class_a_part_of_it(folder):
  flat = os.path.join(folder, "train")
  whole = sources.open_source(flat, "train")
  assert whole.class_names == list(class_folders.CLASSES) and whole.num_examples == 12
  of_split = sources.open_source(folder, "train")
  images_of = lambda source: [(data, int(label)) for data, label in source.read(0, source.num_examples).as_numpy_iterator()]
  assert sorted(images_of(whole)) == sorted(images_of(of_split))
  part = sources.first_of_each_class(whole, 2)
  found = images_of(part)
  assert part.num_examples == 6 and sorted(label for _, label in found) == [0, 0, 1, 1, 2, 2]
  for label in range(3):  # the first ones, in the stored order
    assert [data for data, other in found if other == label] == [data for data, other in images_of(whole) if other == label][:2]
  assert os.path.dirname(part.name_of(0)) == class_folders.CLASSES[found[0][1]]
  assert part.identity != whole.identity and part.digest() != whole.digest()
  with pytest.raises(dc.DeepcompError,
                     match="at least 5 examples of each class in train. Received: 4 of ant, 4 of bee, 4 of cat"):
    sources.first_of_each_class(whole, 5)
