"""Classification sets and their crops: every example with its own label, from images and from compressed files."""

import functools
import pathlib

import class_folders
import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import images
from deepcomp_tf.data import classification
from deepcomp_tf.data.compressed import CompressedClassification
from deepcomp_tf.data.compressed import CompressedConfig
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.tasks import aim


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  return class_folders.write(tmp_path / "images")


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


@pytest.fixture(name="sets", scope="module")
def fixture_sets(tmp_path_factory):
  """Where `class_folders.write`'s images lie compressed, and the totals of that."""
  root = tmp_path_factory.mktemp("compressed")
  config = CompressedConfig(name="images-bpp0.0983", source=class_folders.write(root / "images"), splits=("train", "val"),
                            load_codec=functools.partial(aim.open_codec, "bpp0.0983"))
  builder = CompressedClassification(config=config, data_dir=str(root / "sets"))
  return str(root / "sets"), builder.compress(), str(root / "images")


COMPRESSED = "compressed_classification/images-bpp0.0983"
ORIGINAL = NetworkInput("original")


@pytest.fixture(name="caches", autouse=True)
def fixture_caches(tmp_path, monkeypatch):
  """Stores are kept in a folder of the test."""
  monkeypatch.setattr("deepcomp_tf.caches.CACHE_DIR", str(tmp_path / "caches"))


def _open(name, split="train", inputs=ORIGINAL, **arguments):
  return classification.open_examples(name, split, inputs, **arguments)


@pytest.mark.parametrize("cache", classification.CACHES)
def test_every_image_comes_once_with_its_label(folder, cache):
  examples = _open(folder, cache=cache)
  assert (len(examples), examples.source.class_names) == (12, list(class_folders.CLASSES))
  expected = sorted((class_folders.number("train", label, index), label) for label in range(3) for index in range(4))
  for seed in (None, 0, 1):
    seen = [(int(image[0, 0, 2]), int(label)) for image, label in examples.epoch(seed).as_numpy_iterator()]
    assert sorted(seen) == expected


@pytest.mark.parametrize("cache", classification.CACHES)
def test_the_seed_decides_the_order(folder, cache):
  examples = _open(folder, cache=cache)
  order = lambda seed: [int(image[0, 0, 2]) for image, _ in examples.epoch(seed).as_numpy_iterator()]
  assert order(3) == order(3) != order(4)
  assert order(None) == order(None)


@pytest.mark.parametrize("cache", ["none", "decoded"])
def test_training_crops_are_parts_of_their_images(tmp_path, cache):
  crops, sizes = Crops(ORIGINAL, False, 32), 2 * class_folders.SIZES["train"] + class_folders.SIZES["train"][:2]
  examples = _open(class_folders.write(tmp_path / "images", {"train": sizes}), cache=cache)
  corners, mirrored = set(), set()
  for epoch in range(2):
    for batch, labels in crops.training_batches(examples, 5, seed=7, epoch=epoch).as_numpy_iterator():
      assert batch.shape == (5, 32, 32, 3)
      for crop, label in zip(batch, labels):
        assert (crop[..., 2] == crop[0, 0, 2]).all() and crop[0, 0, 2] // 10 == label
        flipped = crop[0, 0, 1] > crop[0, 1, 1]
        upright = crop[:, ::-1] if flipped else crop
        rows, columns = np.mgrid[:32, :32]
        np.testing.assert_array_equal(upright[..., 0] - upright[0, 0, 0], rows)
        np.testing.assert_array_equal(upright[..., 1] - upright[0, 0, 1], columns)
        height, width = sizes[crop[0, 0, 2] % 10]
        assert upright[-1, 0, 0] < height and upright[0, -1, 1] < width
        corners.add((int(upright[0, 0, 0]), int(upright[0, 0, 1])))
        mirrored.add(bool(flipped))
  assert mirrored == {False, True} and len(corners) > 40
  assert {row for row, _ in corners} >= {0, 8} and {column for _, column in corners} >= {0, 8}


@pytest.mark.parametrize("cache", ["none", "decoded"])
@pytest.mark.parametrize("resize", [None, (40, 50)])
def test_a_stopped_epoch_goes_on(folder, cache, resize):
  crops, examples = Crops(ORIGINAL, False, 32, resize=resize), _open(folder, cache=cache)
  batches = lambda **where: list(crops.training_batches(examples, 5, seed=1, **where).as_numpy_iterator())
  whole = batches(epoch=2)
  assert len(whole) == 2
  rest = batches(epoch=2, first_step=1)
  np.testing.assert_array_equal(rest[0][0], whole[1][0])
  np.testing.assert_array_equal(rest[0][1], whole[1][1])
  assert (batches(epoch=3)[0][0] != whole[0][0]).any()


def test_centers_for_evaluation(folder):
  (batch, labels), = Crops(ORIGINAL, False, 32).evaluation_batches(_open(folder, "val"), 8).as_numpy_iterator()
  assert batch.shape == (3, 32, 32, 3)
  assert (batch[:, 0, 0, :2] == 8).all() and [n // 10 - 10 for n in batch[:, 0, 0, 2]] == labels.tolist()


def test_resizing_to_a_shorter_side(folder):
  (batch, _), = Crops(ORIGINAL, False, 24, resize=(24, 30)).evaluation_batches(_open(folder, "val"), 8).as_numpy_iterator()
  # 48 pixels become 24: each is the mean of two.
  np.testing.assert_allclose(batch[0, :, 0, 0], np.arange(24) * 2 + 0.5, atol=0.5)
  (batch, _), = Crops(ORIGINAL, False, 96).evaluation_batches(_open(folder, "val"), 8).as_numpy_iterator()
  assert batch.shape == (3, 96, 96, 3)  # smaller images are enlarged


def test_network_input_of_pixels_is_centered():
  x = ORIGINAL(np.full([1, 1, 1, 3], 124, np.uint8))[0, 0, 0]
  np.testing.assert_allclose(x, [0.325, 7.72, 20.47], atol=1e-4)


@pytest.mark.parametrize("cache", classification.CACHES)
def test_compressed_examples_are_the_codecs(sets, codec, cache):
  folder, _, images = sets
  originals = {}
  for image, label in _open(images, "val").epoch().as_numpy_iterator():
    originals[int(label)] = image
  inputs = NetworkInput("representation", codec)
  examples = _open(COMPRESSED, "val", inputs, data_dir=folder, cache=cache)
  seen = set()
  for symbols, label in examples.epoch().as_numpy_iterator():
    np.testing.assert_array_equal(symbols, codec.encode(originals[int(label)]))
    seen.add(int(label))
  assert seen == {0, 1, 2}


def test_symbols_in_a_store_take_a_byte_each(sets, codec):
  folder, totals, _ = sets
  examples = _open(COMPRESSED, "train", NetworkInput("representation", codec), data_dir=folder, cache="decoded")
  assert examples.memory_bytes == 3 * codec.channels * sum(h * w // 64 for h, w in class_folders.SIZES["train"])
  assert 0 < examples.stored_bytes < totals["bytes"]


def test_network_input_of_the_representation(sets, codec):
  folder, _, _ = sets
  inputs = NetworkInput("representation", codec)
  examples = _open(COMPRESSED, "val", inputs, data_dir=folder)
  crops = Crops(inputs, True, 32)
  (batch, _), = crops.evaluation_batches(examples, 8)
  assert batch.shape == (3, 4, 4, codec.channels)
  centers = codec.model.quantizer.centers.numpy()
  np.testing.assert_allclose(crops.on_device(batch), (centers[batch.numpy()] - codec.mean) / codec.deviation, rtol=1e-5)


@pytest.fixture(name="pictures", scope="module")
def fixture_pictures(sets, codec):
  """What the codec makes of the images of a split: a list of pictures by their label."""
  def of_split(split):
    pictures = {}
    for image, label in _open(sets[2], split).epoch().as_numpy_iterator():
      pictures.setdefault(int(label), []).append(codec.decompress(codec.compress(image)))
      # Compressed on the way, from the images themselves:
      np.testing.assert_array_equal(NetworkInput("decoded", codec).encode(image[np.newaxis])[0], pictures[int(label)][-1])
    return pictures

  return {split: of_split(split) for split in ("train", "val")}


@pytest.mark.slow
@pytest.mark.parametrize("cache", classification.CACHES)
def test_decoded_pixels_are_the_codecs(sets, codec, pictures, cache):
  """Symbols of photos of several sizes are decoded and cropped on the device; a store holds their pixels."""
  folder, _, _ = sets
  inputs = NetworkInput("decoded", codec)
  crops = Crops(inputs, True, 32, decoded=cache == "decoded")
  on_device = tf.function(crops.on_device, reduce_retracing=True)
  pixels = lambda stored: np.rint(on_device(stored).numpy() + dc.models.compression.PIXEL_MEAN)
  examples = _open(COMPRESSED, "train", inputs, data_dir=folder, cache=cache)
  assert bool(examples.pixels_codec) == (cache == "decoded")
  corners = set()
  for stored, labels in crops.training_batches(examples, 6, seed=3):
    for crop, label in zip(pixels(stored), labels.numpy()):
      places = [(flipped, top, left) for picture in pictures["train"][label] for flipped in (1, -1)
                for top in range(picture.shape[0] - 31) for left in range(picture.shape[1] - 31)
                if (picture[top:top + 32, left:left + 32][:, ::flipped] == crop).all()]
      assert places
      corners.update(places)
  assert len(corners) > 6
  (stored, labels), = crops.evaluation_batches(_open(COMPRESSED, "val", inputs, data_dir=folder, cache=cache), 8)
  for crop, label in zip(pixels(stored), labels.numpy()):
    np.testing.assert_array_equal(crop, pictures["val"][label][0][8:40, 8:40])


@pytest.mark.parametrize("kind", ["representation", "decoded"])
@pytest.mark.parametrize("crop", ["pixels", "representation"])
def test_images_compressed_on_the_way(folder, codec, kind, crop):
  inputs = NetworkInput(kind, codec)
  crops = Crops(inputs, False, 32, crop=crop, image_size=40)
  examples = _open(folder, "train", inputs)
  shape = (4, 4, 4, codec.channels) if kind == "representation" else (4, 32, 32, 3)
  for stored, _ in crops.training_batches(examples, 4, seed=0).take(1):
    side = 32 if crop == "pixels" else 40
    assert stored.shape == (4, side, side, 3)
    x = crops.on_device(stored, tf.constant([1, 2]))
    assert x.shape == shape
    whole = inputs(inputs.encode(stored)).numpy()
    mirrored = []
    for crop_of, image in zip(x.numpy(), whole):  # each lies somewhere in its own image
      windows = [image[i:i + shape[1], j:j + shape[2]] for i in range(image.shape[0] - shape[1] + 1)
                 for j in range(image.shape[1] - shape[2] + 1)]
      found = [any(np.allclose(crop_of, window[:, ::step], atol=1e-4) for window in windows) for step in (1, -1)]
      assert any(found)
      mirrored.append(not found[0])
    # Pixels are mirrored before they are compressed, the representation of whole images after, as that of compressed sets.
    assert len(set(mirrored)) == 1 + (crop == "representation")


def test_decoded_pixels_and_representation_are_cropped_alike(folder, codec):
  places, positions = [], tf.stack(tf.meshgrid(tf.range(32), tf.range(40), indexing="ij"), -1)
  for kind, stride in (("decoded", 1), ("representation", 8)):
    grid = tf.tile((positions // stride)[tf.newaxis, ::stride, ::stride], [64, 1, 1, 1])
    found = Crops(NetworkInput(kind, codec), False, 16, crop="representation", image_size=40).cut(grid, tf.constant([1, 2]))
    places.append(stride * tf.reduce_min(found, axis=[1, 2]).numpy())
  assert len(np.unique(places[1], axis=0)) > 6
  assert np.abs(places[0] - places[1]).max() < 8


def test_broken_images_are_counted_and_named(folder, tmp_path):
  (tmp_path / "images/train/bee/9.png").write_bytes(b"no image")
  examples = _open(folder, cache="decoded")
  assert len(examples) == 12
  assert len(examples.skipped) == 1 and "bee" in examples.skipped[0]
  for cache in ("none", "encoded"):
    assert len(list(_open(folder, cache=cache).epoch(0))) == 12


def test_bad_input(folder, sets, codec, tmp_path):
  (tmp_path / "empty").mkdir()
  for name, split, message in ((folder, "test", "train, val"), ("no_such_set", "train", "no_such_set"),
                               (folder, "train[5:5]", "none"), (str(tmp_path / "empty"), "train", "there are none"),
                               (folder, "train+val", "one split")):
    with pytest.raises(dc.DeepcompError, match=message):
      _open(name, split)
  with pytest.raises(dc.DeepcompError, match="original pixels"):
    _open(COMPRESSED, "val", data_dir=sets[0])
  small = _open(COMPRESSED, "val", NetworkInput("representation", codec), data_dir=sets[0], cache="decoded")
  large = Crops(NetworkInput("representation", codec), True, 64)
  with pytest.raises(dc.DeepcompError, match="at least 64 pixels.*Received: one of 48"):
    large.evaluation_batches(small, 1)
  streamed = _open(COMPRESSED, "val", NetworkInput("representation", codec), data_dir=sets[0])
  with pytest.raises(tf.errors.InvalidArgumentError, match="at least 64 pixels.*Received: one of 48"):
    list(large.training_batches(streamed, 1, 0))
  for arguments in ({"crop_size": 30}, {"crop_size": 32, "resize": (5, 4)}):
    with pytest.raises(dc.DeepcompError, match="Received"):
      Crops(ORIGINAL, False, **arguments)
  with pytest.raises(dc.DeepcompError, match="image_size=24"):
    Crops(NetworkInput("representation", codec), False, 32, crop="representation", image_size=24)


def test_files_of_another_operating_point(sets):
  other = NetworkInput("representation", dc.Codec.load("bpp0.330"))
  with pytest.raises(dc.DeepcompError, match="of the operating point fe7781 .bpp0.330.. Received: .*which was compressed at"):
    _open(COMPRESSED, "val", other, data_dir=sets[0], cache="decoded")


@pytest.mark.parametrize("damaged", [1, 3])
def test_damaged_images_are_counted_as_they_come(folder, damaged, caplog):
  jpeg = class_folders.jpeg(np.zeros([8, 8, 3], np.uint8), 1)
  without_tables = jpeg.replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe")
  assert images.is_plain_jpeg(without_tables)
  for index, data in zip(range(damaged), (without_tables, b"no image", b"")):
    (pathlib.Path(folder) / "train/ant" / f"broken{index}.jpg").write_bytes(data)
  examples, crops = _open(folder), Crops(ORIGINAL, False, 32)
  if damaged > 1:
    with pytest.raises(tf.errors.OpError, match="at most 5 % of the 15 examples of images to be damaged"):
      list(crops.evaluation_batches(examples, 4))
  else:
    assert sum(int(labels.shape[0]) for _, labels in crops.evaluation_batches(examples, 4)) == 12
    # In training another one of its batch takes its place.
    shapes = [batch.shape for batch, _ in crops.training_batches(examples, 4, seed=0)]
    assert shapes == 3 * [(4, 32, 32, 3)]
    reasons = {record.getMessage() for record in caplog.records}
    assert len(reasons) == 1 and "Left out: an example of images: jpeg::Uncompress failed. Invalid JPEG data" in reasons.pop()


def test_what_cannot_be_read_stops_a_run(folder, monkeypatch):
  """A network share that fails for a while damages nothing, and nothing is left out for it."""
  examples, crops = _open(folder), Crops(ORIGINAL, False, 32)
  read, failures = images.read_image, iter([OSError("stale file handle")])

  def read_image(*arguments):
    for error in failures:
      raise error
    return read(*arguments)

  monkeypatch.setattr(images, "read_image", read_image)
  with pytest.raises(tf.errors.OpError, match="every example of images. Received: one that was lost, and is not damaged"):
    list(crops.evaluation_batches(examples, 4))
  (pathlib.Path(folder) / "train/bee/1.png").unlink()
  with pytest.raises(tf.errors.NotFoundError):
    list(examples.epoch())
