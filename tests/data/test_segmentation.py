"""Crops of images and their labels: they stay together, whatever the input, the size and the scale."""

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf.data import segmentation
from deepcomp_tf.data.part import Part
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.representation import INPUTS

SIZES = [(48, 64), (40, 40), (50, 35), (64, 72)]


@pytest.fixture(name="builder", scope="module")
def fixture_builder(tmp_path_factory):
  """Images of which every pixel is 10 times the id in its mask: ids 0 to 3 in blocks of 8x8, and void."""
  root = tmp_path_factory.mktemp("segmentation")
  rng = np.random.default_rng(0)
  for kind in ("images", "masks"):
    (root / "set" / kind / "train").mkdir(parents=True)
  for number, (height, width) in enumerate(SIZES):
    ids = rng.choice([0, 1, 2, 3, 255], [-(-height // 8), -(-width // 8)]).repeat(8, 0).repeat(8, 1)[:height, :width]
    pixels = np.where(ids == 255, 200, 10 * ids).astype(np.uint8)
    Image.fromarray(pixels[..., np.newaxis].repeat(3, 2)).save(root / f"set/images/train/{number}.png")
    mask = Image.fromarray(ids.astype(np.uint8), "P")
    mask.putpalette(list(range(256)) * 3)
    mask.save(root / f"set/masks/train/{number}.png")
  return segmentation.open_builder(str(root / "set"), str(root / "sets"))


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


def _examples(builder, inputs=None, **arguments):
  return segmentation.SegmentationExamples(
      builder, "train", inputs or NetworkInput("original"), range(4), **arguments)


def _pixels(x):
  """Pixel values of the network's input."""
  return np.rint(x + dc.models.compression.PIXEL_MEAN)


@pytest.mark.parametrize("cache", segmentation.CACHES)
def test_labels_stay_with_their_pixels(builder, cache):
  examples = _examples(builder, cache=cache)
  seen = set()
  for x, labels in examples.training_batches(40, 4, seed=1).take(8).as_numpy_iterator():
    assert x.shape == (4, 40, 40, 3) and labels.shape == (4, 5, 5)
    middles = _pixels(x)[:, 4::8, 4::8, 0]
    for value, label in zip(middles.ravel(), labels.ravel()):
      assert (value, label) in {(0, 0), (10, 1), (20, 2), (30, 3), (200, 255), (124, 255)}  # the last is padding
      seen.add(int(label))
  assert seen == {0, 1, 2, 3, 255}


def test_smaller_images_are_padded_with_the_mean_and_void(builder):
  padded = False
  for x, labels in _examples(builder).training_batches(72, 4, seed=0).take(4).as_numpy_iterator():
    for crop, label in zip(x, labels):
      outside = (crop == 0).all(axis=-1)[4::8, 4::8]
      assert (label[outside] == 255).all()
      padded |= bool(outside.any())
  assert padded


@pytest.mark.parametrize("kind", ["representation", "decoded"])
def test_compressed_inputs_are_parts_of_the_whole(builder, codec, kind):
  inputs = NetworkInput(kind, codec)
  examples = _examples(builder, inputs)
  whole = [(inputs(stored[np.newaxis])[0].numpy(), label) for stored, label in examples.whole()]
  size, step = 32 // inputs.stride, inputs.stride
  for x, labels in examples.training_batches(32, 4, seed=5).take(3).as_numpy_iterator():
    for crop, label in zip(x, labels):
      found = False
      for image, ids in whole:
        # Mirrored, the middle of a block is on the other side of its center.
        for crop_of, label_of, offset in ((crop, label, 4), (crop[:, ::-1], label[:, ::-1], 3)):
          corners = image[:image.shape[0] - size + 1, :image.shape[1] - size + 1]
          for top, left in np.argwhere(np.isclose(corners, crop_of[0, 0], atol=1e-5).all(axis=-1)):
            if np.allclose(image[top:top + size, left:left + size], crop_of, atol=1e-5):
              padded = np.full([step * image.shape[0], step * image.shape[1]], 255)
              padded[:ids.shape[0], :ids.shape[1]] = ids
              window = padded[step * top:step * top + 32, step * left:step * left + 32]
              found |= (window[4::8, offset::8] == label_of).all()
      assert found


def test_random_scale(builder, codec):
  for inputs in (NetworkInput("original"), NetworkInput("representation", codec)):
    examples = _examples(builder, inputs, random_scale=(0.5, 1.5))
    for x, labels in examples.training_batches(40, 4, seed=1).take(2).as_numpy_iterator():
      assert x.shape == (4, 40 // inputs.stride, 40 // inputs.stride, inputs.channels) and labels.shape == (4, 5, 5)


@pytest.mark.parametrize("cache", segmentation.CACHES)
def test_a_stopped_run_goes_on(builder, cache):
  examples = _examples(builder, cache=cache)
  batches = lambda first: list(examples.training_batches(40, 3, seed=2, first_step=first).take(4).as_numpy_iterator())
  whole, rest = batches(0), batches(2)
  for (x, labels), (other, other_labels) in zip(whole[2:], rest):
    np.testing.assert_array_equal(x, other)
    np.testing.assert_array_equal(labels, other_labels)
  assert any((a[0] != b[0]).any() for a, b in zip(whole, whole[1:]))


@pytest.mark.parametrize("cache", segmentation.CACHES)
def test_workers_read_their_parts(builder, cache):
  examples = _examples(builder, cache=cache)
  batches = lambda **part: list(examples.training_batches(40, 4, seed=2, **part).take(3).as_numpy_iterator())
  for whole, first, second in zip(batches(), batches(part=Part(0, 2)), batches(part=Part(1, 2)), strict=True):
    for array, *pieces in zip(whole, first, second):
      np.testing.assert_array_equal(np.concatenate(pieces), array)


@pytest.mark.parametrize("kind", INPUTS)
def test_what_is_on_disk_is_what_would_be_read(builder, codec, tmp_path, monkeypatch, kind):
  inputs = NetworkInput(kind, None if kind == "original" else codec)
  read = list(_examples(builder, inputs).whole())
  for own in (None, [1, 3]):
    kept = _examples(builder, inputs, cache="decoded", cache_dir=str(tmp_path)).whole(own)
    for (image, label), (expected_image, expected_label) in zip(kept, [read[i] for i in own or range(4)], strict=True):
      np.testing.assert_array_equal(image, expected_image)
      np.testing.assert_array_equal(label, expected_label)
    monkeypatch.setattr(segmentation.SegmentationExamples, "_fill", None)  # a second run fills nothing
  # Neither does one of other classes.
  of_two = segmentation.SegmentationExamples(builder, "train", inputs, [None, 1], cache="decoded", cache_dir=str(tmp_path))
  for (_, label), (_, expected) in zip(of_two.whole(), read, strict=True):
    np.testing.assert_array_equal(label, np.where(expected == 1, 1, 255))
  path, = tmp_path.glob("*/masks.bin")
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(dc.DeepcompError, match="the cache in .* is damaged; remove it"):
    _examples(builder, inputs, cache="decoded", cache_dir=str(tmp_path))


def test_other_ids_become_void(builder):
  labels = [label for _, label in segmentation.SegmentationExamples(
      builder, "train", NetworkInput("original"), [0, 3]).whole()]
  originals = [label for _, label in _examples(builder).whole()]
  for label, original in zip(labels, originals):
    np.testing.assert_array_equal(label, np.select([original == 0, original == 3], [0, 1], 255))


def test_a_slice_of_a_split(builder):
  whole = list(_examples(builder).whole())
  parts = [segmentation.SegmentationExamples(builder, split, NetworkInput("original"), range(4))
           for split in ("train[:50%]", "train[50%:]")]
  assert 0 < len(parts[0]) < len(whole) and sum(map(len, parts)) == len(whole)
  for (image, label), (expected_image, expected_label) in zip([*parts[0].whole(), *parts[1].whole()], whole, strict=True):
    np.testing.assert_array_equal(image, expected_image)
    np.testing.assert_array_equal(label, expected_label)


class _Streets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """As TFDS has Cityscapes: features of other names, and masks that name no classes; or name them."""

  VERSION = tfds.core.Version("1.0.0")
  mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
        "image_id": tfds.features.Text(), "image_left": tfds.features.Image(shape=(None, None, 3)),
        "segmentation_label": self.mask}))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    yield "a", {"image_id": "a", "image_left": np.zeros([16, 24, 3], np.uint8),
                "segmentation_label": np.arange(16, dtype=np.uint8).repeat(24).reshape(16, 24, 1)}


class _NamedStreets(_Streets, skip_registration=True):
  mask = tfds.features.LabeledImage(labels=["sky", *map(str, range(1, 16))], shape=(None, None, 1))


def test_classes_of_tfds_sets(tmp_path):
  plain, named = _Streets(data_dir=str(tmp_path)), _NamedStreets(data_dir=str(tmp_path))
  for builder in (plain, named):
    builder.download_and_prepare()
    (image, label), = segmentation.SegmentationExamples(builder, "train", NetworkInput("original"), [7, None, 3]).whole()
    assert image.shape == (16, 24, 3)
    np.testing.assert_array_equal(label[:, 0], [255, 255, 255, 2, 255, 255, 255, 0, *[255] * 8])
  assert [one[:2] for one in segmentation.classes_of(named)] == [("sky", 0), *((str(i), i) for i in range(1, 16))]
  with pytest.raises(dc.DeepcompError, match="expected a file of classes.*_streets"):
    segmentation.classes_of(plain)
  (tmp_path / "classes.json").write_text('[{"id": 7, "name": "road"}]')
  assert segmentation.classes_of(plain, tmp_path / "classes.json") == [("road", 7, (128, 128, 128))]


def test_bad_input(builder, tmp_path):
  with pytest.raises(dc.DeepcompError, match="one split of train, or a slice of one. Received: 'val'"):
    segmentation.SegmentationExamples(builder, "val", NetworkInput("original"), range(4))
  with pytest.raises(dc.DeepcompError, match="crop_size=30"):
    _examples(builder).training_batches(30, 1, 0)
  with pytest.raises(dc.DeepcompError, match="low <= high"):
    _examples(builder, random_scale=(2.0, 1.0))
  with pytest.raises(dc.DeepcompError, match="no_such_set"):
    segmentation.open_builder("no_such_set", str(tmp_path))
  with pytest.raises(dc.DeepcompError,
                     match=r"not prepared.*, deepcomp_tf\.data\.voc; tfds\.builder\('voc_segmentation', data_dir="):
    segmentation.open_builder("voc_segmentation", str(tmp_path))
