"""Training crops: what they show, and that each is a function of the seed and its index."""

import functools
import itertools
import pathlib
import tempfile

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.codec.images import split_images
from deepcomp_tf.data import photos
from deepcomp_tf.data.part import Part

CROP = 16


def _marked(height, width, number):
  """An image whose pixels tell their row, their column and the number of the image."""
  rows, columns = np.mgrid[:height, :width]
  return np.stack([rows, columns, np.full_like(rows, number)], axis=-1).astype(np.uint8)


def _marked_photos(folder, sizes):
  paths = [folder / f"{number}.png" for number in range(len(sizes))]
  for number, (path, size) in enumerate(zip(paths, sizes)):
    Image.fromarray(_marked(*size, number)).save(path)
  return paths


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  _marked_photos(tmp_path, [(27, 27), (27, 40), (CROP, CROP), (50, 27)])
  return tmp_path


def _crops(paths, count, batch_size=4, seed=0, **arguments):
  batches = photos.Photos([str(path) for path in paths]).batches(CROP, batch_size, seed, **arguments)
  return np.stack(list(itertools.islice(batches.as_numpy_iterator(), count)))


def test_list_images(folder):
  (folder / "notes.txt").write_text("no image")
  (folder / "upper.JPG").write_bytes(b"")
  (folder / "sub").mkdir()
  (folder / "sub" / "9.png").write_bytes(b"")
  names = lambda pattern: [pathlib.Path(path).name for path in list_images(str(pattern))]
  assert names(folder) == ["0.png", "1.png", "2.png", "3.png", "upper.JPG"]
  assert names(folder / "*.png") == ["0.png", "1.png", "2.png", "3.png"]
  assert names(folder / "**" / "*.png") == ["0.png", "1.png", "2.png", "3.png", "9.png"]


@pytest.mark.parametrize("pattern", ["nowhere", "", "*.webp"])
def test_no_images(folder, pattern):
  (folder / "empty").mkdir()
  where = str(folder / pattern) if pattern else str(folder / "empty")
  with pytest.raises(dc.DeepcompError, match="expected a folder with images or a pattern.*Received: "):
    list_images(where)


@pytest.mark.parametrize("count, held_out, held", [(390, 30, 30), (80, 30, 8), (7, 6, 1), (2, 1, 1), (5, 0, 0)])
def test_split_holds_out_a_tenth_at_most(count, held_out, held):
  paths = [f"{i:03}" for i in range(count)]
  training, validation = split_images(paths, held_out)
  assert len(validation) == held
  assert sorted(training + validation) == paths
  if held > 1:
    gaps = np.diff([int(path) for path in validation])
    assert gaps.max() - gaps.min() <= 1  # evenly spread


@pytest.mark.parametrize("count, held_out", [(1, 1), (0, 1), (4, -1)])
def test_split_leaves_something_to_train_on(count, held_out):
  with pytest.raises(dc.DeepcompError, match=f"expected two photos at least.* Received: {count}, {held_out} to be held out"):
    split_images(list("abcd")[:count], held_out)


def test_crops_are_windows_of_photos_mirrored_half_the_time(folder):
  crops = _crops(sorted(folder.iterdir()), 60, batch_size=10).reshape(-1, CROP, CROP, 3).astype(int)
  mirrored = crops[:, 0, 0, 1] > crops[:, 0, 1, 1]
  upright = np.where(mirrored[:, np.newaxis, np.newaxis, np.newaxis], crops[:, :, ::-1], crops)
  expected = upright[:, :1, :1] + _marked(CROP, CROP, 0).astype(int)
  np.testing.assert_array_equal(upright, expected)
  # 600 fair coins, and 600 draws among 4 photos: 5 deviations.
  assert abs(mirrored.sum() - 300) < 5 * 12.3
  assert (abs(np.bincount(crops[:, 0, 0, 2], minlength=4) - 150) < 5 * 10.6).all()


def test_every_place_of_every_photo_is_cropped(tmp_path):
  # As many places as photos, so that one draw cannot decide both unnoticed.
  crops = _crops(_marked_photos(tmp_path, 12 * [(CROP + 11, CROP + 11)]), 24, batch_size=100).reshape(-1, CROP, CROP, 3)
  left = np.minimum(crops[:, 0, 0, 1], crops[:, 0, -1, 1])
  seen = np.zeros([3, 12, 12], int)
  for first, second, pairs in ((crops[:, 0, 0, 2], crops[:, 0, 0, 0], 0), (crops[:, 0, 0, 2], left, 1),
                               (crops[:, 0, 0, 0], left, 2)):
    np.add.at(seen[pairs], (first, second), 1)
  # 2400 draws among 144 pairs: 16.7 +- 4.1 each.
  assert seen.min() >= 1 and seen.max() < 16.7 + 6 * 4.1


def test_mirroring_is_independent_of_photo_and_place(tmp_path):
  crops = _crops(_marked_photos(tmp_path, 2 * [(CROP + 1, CROP + 1)]), 8, batch_size=100).reshape(-1, CROP, CROP, 3)
  mirrored = (crops[:, 0, 0, 1] > crops[:, 0, 1, 1]).astype(int)
  left = np.minimum(crops[:, 0, 0, 1], crops[:, 0, -1, 1])
  cells = np.bincount(mirrored + 2 * left + 4 * crops[:, 0, 0, 0] + 8 * crops[:, 0, 0, 2], minlength=16)
  assert (abs(cells - 50) < 5 * 6.9).all()


def test_batch_is_a_function_of_seed_and_index(folder):
  paths = sorted(folder.iterdir())
  whole = _crops(paths, 6)
  for first in (1, 4):
    np.testing.assert_array_equal(_crops(paths, 6 - first, first_step=first), whole[first:])
  tf.random.set_seed(99)
  np.testing.assert_array_equal(_crops(paths, 6), whole)
  np.testing.assert_array_equal(_crops(paths, 3, batch_size=8).reshape(whole.shape), whole)
  assert (_crops(paths, 6, seed=1) != whole).any()
  assert len(np.unique(whole.reshape(24, -1), axis=0)) > 12


def test_workers_read_their_parts(folder, tiny):
  paths = sorted(path for path in folder.iterdir())
  for crops in (functools.partial(_crops, paths), functools.partial(_tfds_crops, tiny)):
    parts = [crops(2, batch_size=6, part=Part(number, 3)) for number in range(3)]  # to the second epoch of 7 images
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), crops(2, batch_size=6))


def test_photos_are_read_when_they_are_needed(folder, monkeypatch):
  read = []
  monkeypatch.setattr(photos, "read_image", lambda path: read.append(path) or read_image(path))
  source = photos.Photos([str(path) for path in sorted(folder.iterdir())])
  batches = source.batches(CROP, 2, seed=0)
  assert not read
  list(itertools.islice(batches.as_numpy_iterator(), 20))
  list(itertools.islice(batches.as_numpy_iterator(), 20))
  assert len(set(read)) == 4 and len(read) < 10  # two threads may read one at the same time


def test_photos_beyond_the_cache_give_the_same_crops(folder, monkeypatch):
  paths = sorted(folder.iterdir())
  cached = _crops(paths, 4)
  monkeypatch.setattr(photos, "CACHE_BYTES", 3000)
  np.testing.assert_array_equal(_crops(paths, 4), cached)


def test_small_photo_is_enlarged(tmp_path):
  path = tmp_path / "small.png"
  Image.fromarray(np.full([5, 9, 3], [10, 200, 90], np.uint8)).save(path)
  np.testing.assert_array_equal(_crops([path], 2), np.broadcast_to(np.uint8([10, 200, 90]), [2, 4, CROP, CROP, 3]))


def test_grayscale_photo_becomes_rgb(tmp_path):
  path = tmp_path / "gray.png"
  gray = np.random.default_rng(0).integers(0, 256, [CROP, CROP], np.uint8)
  Image.fromarray(gray).save(path)
  expected = np.repeat(gray[..., np.newaxis], 3, axis=-1)
  for crop in _crops([path], 2).reshape(-1, CROP, CROP, 3):
    assert (crop == expected).all() or (crop == expected[:, ::-1]).all()


def test_damaged_photo_is_named(tmp_path):
  path = tmp_path / "broken.png"
  path.write_bytes(b"not a picture")
  with pytest.raises(tf.errors.OpError, match="DeepcompError: .*broken.png"):
    _crops([path], 1)


def _builder(examples, features):
  class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of a few images made on the spot."""
    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # TFDS then looks for no checksums beside it

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
      return {"train": enumerate(examples)}

    def _generate_examples(self):
      raise AssertionError("the fake is not to be downloaded")

  builder = Tiny(data_dir=tempfile.mkdtemp())
  builder.download_and_prepare()
  return builder


@pytest.fixture(name="tiny", scope="module")
def fixture_tiny(tmp_path_factory):
  tempfile.tempdir = str(tmp_path_factory.mktemp("tfds"))
  try:
    yield _builder([{"image": _marked(20, 24, k)} for k in range(7)], {"image": tfds.features.Image()})
  finally:
    tempfile.tempdir = None


def _tfds_crops(builder, count, batch_size=2, seed=3, **arguments):
  batches = photos.tfds_crops("tiny", "train", None, CROP, batch_size, seed, builder=builder, **arguments)
  return np.stack(list(itertools.islice(batches.as_numpy_iterator(), count)))


def test_tfds_epochs_show_every_image_once_in_new_orders(tiny):
  crops = _tfds_crops(tiny, 4, batch_size=7)
  numbers = crops[:, :, 0, 0, 2]
  np.testing.assert_array_equal(np.sort(numbers, axis=1), np.tile(np.arange(7), [4, 1]))
  assert len(np.unique(numbers, axis=0)) > 1
  assert len(np.unique(crops[:, :, 0, 0, 0])) > 2


@pytest.mark.slow
def test_tfds_run_continues_where_it_was_stopped(tiny):
  whole = _tfds_crops(tiny, 6)  # 24 crops, of 7 images in an epoch
  for first in (1, 3, 5):
    np.testing.assert_array_equal(_tfds_crops(tiny, 6 - first, first_step=first), whole[first:])
  assert (_tfds_crops(tiny, 1, seed=4) != whole[:1]).any()


def test_tfds_images_in_order_as_rgb(tiny):
  images = photos.tfds_images("tiny", "train[:3]", None, builder=tiny)
  assert len(images) == 3
  assert all(image.shape == (20, 24, 3) and image.dtype == np.uint8 for image in images)
  gray = _builder([{"image": np.full([6, 5, 1], 77, np.uint8)}], {"image": tfds.features.Image(shape=(None, None, 1))})
  (image,) = photos.tfds_images("gray", "train", None, builder=gray)
  np.testing.assert_array_equal(image, np.full([6, 5, 3], 77))


def test_tfds_set_without_images(tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  builder = _builder([{"number": 1}], {"number": np.int64})
  with pytest.raises(dc.DeepcompError, match="an `image`. Received: numbers"):
    photos.tfds_crops("numbers", "train", None, CROP, 2, 0, builder=builder)


def test_a_set_that_is_not_prepared_is_told(tmp_path):
  for read in (lambda: photos.tfds_images("imagenet2012", "train", str(tmp_path)),
               lambda: photos.tfds_crops("imagenet2012", "train", str(tmp_path), CROP, 2, 0)):
    with pytest.raises(dc.DeepcompError, match=f"imagenet2012 is not prepared in {tmp_path}"):
      read()


def test_damaged_photos_are_left_out(folder):
  paths = [str(path) for path in _marked_photos(folder, 39 * [(CROP, CROP)])] + [str(folder / "broken.jpg")]
  (folder / "broken.jpg").write_bytes(b"no image")
  crops = _crops(paths, 30)
  assert set(np.unique(crops[..., 2])) <= set(range(39)) and len(np.unique(crops[..., 2])) > 30
  np.testing.assert_array_equal(_crops(paths, 10, first_step=20), crops[20:])  # a stopped run goes on with the same
  assert len(list(photos.read_photos(paths))) == 39
  for number in range(3):
    pathlib.Path(paths[number]).write_bytes(b"")
  with pytest.raises(dc.DeepcompError, match="at most 5 % of the 40 examples"):
    list(photos.read_photos(paths))
  with pytest.raises(tf.errors.OpError, match="at most 5 % of the 40 examples"):
    _crops(paths, 60)


def test_a_photo_that_cannot_be_read_stops_a_run(folder):
  """It may be as good as any other: only what is damaged is left out."""
  paths = [str(path) for path in _marked_photos(folder, 5 * [(CROP, CROP)])]
  pathlib.Path(paths[3]).unlink()
  with pytest.raises(dc.DeepcompError, match="There is none at: .*3"):
    list(photos.read_photos(paths))
  with pytest.raises(tf.errors.OpError, match="UnreadableError: .*There is none at: .*3"):
    _crops(paths, 60)
