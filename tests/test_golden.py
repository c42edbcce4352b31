"""Files as version 0.2 wrote them, before there were tasks: each still opens and says what it said then.

`tests/golden` has an operating point (its networks a block transform), a file of it, an untrained classifier and segmenter of
VOC's ids 0, 8 and 15, a compressed set, and `answers.npz`, what that version made of the file.
"""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf.codec import container
from deepcomp_tf.data import sources

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(name="data", scope="module")
def fixture_data():
  return (GOLDEN / "photo.deepcomp").read_bytes()


@pytest.fixture(name="answers", scope="module")
def fixture_answers():
  with np.load(GOLDEN / "answers.npz") as arrays:
    return dict(arrays)


def test_an_operating_point_and_its_file(data, answers):
  codec = dc.Codec.load(GOLDEN / "operating_point")
  assert (codec.operating_point, codec.fingerprint.hex(), codec.channels) == ("golden", "83716c", 2)
  np.testing.assert_array_equal(codec.symbols(data), answers["symbols"])
  picture = codec.decompress(data)
  np.testing.assert_allclose(picture.astype(int), answers["picture"].astype(int), atol=1)
  assert container.pack(codec.fingerprint, *picture.shape[:2], codec.encode_symbols(answers["symbols"])) == data


def test_a_classifier(data, answers):
  classifier = dc.Classifier.load(GOLDEN / "classifier")
  assert classifier.class_names == ["cup", "cat", "rocket"] and classifier.operating_point == "golden"
  assert classifier.describe() == "cResNet-39 at golden knows 3 classes: cup, cat, rocket (nothing)"
  found = dict(classifier.classify(data))
  np.testing.assert_allclose([found[name] for name in classifier.class_names], answers["probabilities"], rtol=1e-2)


def test_a_segmenter(data, answers):
  segmenter = dc.Segmenter.load(GOLDEN / "segmenter")
  mask = segmenter.segment(data)
  assert mask.dtype == np.uint8 and np.mean(mask != answers["mask"]) < 1e-3
  assert {segmenter.class_names[number] for number in np.unique(mask)} == {"background", "cat", "person"}


def test_a_compressed_set():
  name = "compressed_classification/images-golden"
  dataset, info = tfds.load(name, split="train", data_dir=GOLDEN / "sets", with_info=True)
  source = sources.open_source(name, "train", str(GOLDEN / "sets"))
  assert info.features["label"].names == ["cat", "cup"] == list(source.class_names) and source.bitstreams
  codec = dc.Codec.load(GOLDEN / "operating_point")
  for example in tfds.as_numpy(dataset):
    assert codec.decompress(example["bitstream"]).shape == (48, 56, 3)
