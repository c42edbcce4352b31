"""Segmentation sets: VOC with SBD merged in, and folders, on small fakes."""

import numpy as np
from PIL import Image
import pytest
from scipy import io
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf.data import voc

# The official lists overlap: SBD's hold images of VOC's train and of its val.
VOC_TRAIN, VOC_VAL = ["2007_a", "2008_b"], ["2008_c", "2009_d"]
SBD_TRAIN, SBD_VAL = ["2008_b", "2010_e", "2008_c"], ["2010_f", "2009_d"]


def _mask(name, size=(6, 8)):
  return np.random.default_rng(sum(map(ord, name))).choice([0, 3, 15, 20, mask_classes.VOID], size).astype(np.uint8)


def _write_image(path, size=(6, 8), value=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full([*size, 3], value, np.uint8)).save(path, quality=95)


def _write_mask(path, mask):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(mask, "P")
  image.putpalette(list(range(256)) * 3)
  image.save(path)


@pytest.fixture(name="downloads")
def fixture_downloads(tmp_path):
  """The two archives, extracted."""
  one = tmp_path / "voc/VOCdevkit/VOC2012"
  two = tmp_path / "sbd/benchmark_RELEASE/dataset"
  for split, names in (("train", VOC_TRAIN), ("val", VOC_VAL)):
    for name in names:
      _write_mask(one / f"SegmentationClass/{name}.png", _mask("voc" + name))
    (one / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    (one / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")
  for name in {*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL} - {"2010_f"}:
    _write_image(one / f"JPEGImages/{name}.jpg", value=len(name))
  _write_image(two / "img/2010_f.jpg", value=77)  # one that VOC 2012 does not have
  (two / "cls").mkdir(parents=True)
  for split, names in (("train", SBD_TRAIN), ("val", SBD_VAL)):
    (two / f"{split}.txt").write_text("\n".join(names) + "\n")
    for name in names:
      io.savemat(two / f"cls/{name}.mat", {"GTcls": {"Segmentation": _mask("sbd" + name), "Boundaries": []}})
  return {"voc": str(tmp_path / "voc"), "sbd": str(tmp_path / "sbd")}


def _examples(builder, split):
  return {example["name"].decode(): example for example in tfds.as_numpy(builder.as_dataset(split=split))}


def test_voc_with_sbd_merged_in(downloads, tmp_path, monkeypatch):
  monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, urls: downloads)
  builder = voc.VocSegmentation(data_dir=str(tmp_path / "sets"))
  builder.download_and_prepare()
  assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
      "train": 4, "train_voc": 2, "validation": 2}
  train = _examples(builder, "train")
  assert set(train) == {"2007_a", "2008_b", "2010_e", "2010_f"}  # no image of val
  for name, source in (("2007_a", "voc"), ("2008_b", "voc"), ("2010_e", "sbd"), ("2010_f", "sbd")):
    np.testing.assert_array_equal(train[name]["mask"][..., 0], _mask(source + name))
  assert abs(int(train["2010_f"]["image"][0, 0, 0]) - 77) < 4
  for name, example in _examples(builder, "validation").items():
    np.testing.assert_array_equal(example["mask"][..., 0], _mask("voc" + name))
  assert "voc_segmentation" in tfds.list_builders()


def test_the_archive_is_the_one_that_tfds_knows():
  # pylint: disable=protected-access
  assert voc.VocSegmentation.url_infos[voc._VOC_URL] == tfds.builder_cls("voc").url_infos[voc._VOC_URL]


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  for split in ("train", "val"):
    for name, size in (("a", (6, 8)), ("b", (9, 5))):
      _write_image(tmp_path / f"set/images/{split}/{name}.jpg", size)
      _write_mask(tmp_path / f"set/masks/{split}/{name}.png", _mask(split + name, size))
  return tmp_path / "set"


def test_folder(folder, tmp_path):
  builder = voc.FolderSegmentation(folder=str(folder), data_dir=str(tmp_path / "sets"))
  builder.download_and_prepare()
  for split in ("train", "val"):
    examples = _examples(builder, split)
    assert set(examples) == {"a", "b"}
    for name, size in (("a", (6, 8)), ("b", (9, 5))):
      np.testing.assert_array_equal(examples[name]["mask"][..., 0], _mask(split + name, size))
      assert examples[name]["image"].shape == (*size, 3)
  name = builder.info.full_name.rsplit("/", 1)[0]
  assert name.startswith("folder_segmentation/set-")
  assert tfds.load(name, split="val", data_dir=str(tmp_path / "sets")) is not None


def test_a_folder_of_other_files_is_another_set(folder, tmp_path):
  def names():
    builder = voc.FolderSegmentation(folder=str(folder), data_dir=str(tmp_path / "sets"))
    builder.download_and_prepare()
    return set(_examples(builder, "train"))

  assert names() == {"a", "b"}
  _write_image(folder / "images/train/c.jpg", (6, 8))
  _write_mask(folder / "masks/train/c.png", _mask("c", (6, 8)))
  assert names() == {"a", "b", "c"}


def test_a_folder_with_classes_of_its_own(folder, tmp_path):
  (folder / "classes.json").write_text('[{"id": 20, "name": "road"}, {"id": 3, "name": "car", "color": [0, 0, 142]}]')
  with pytest.raises(dc.DeepcompError, match=r"ids of 2 classes, 3 to 20, or 255 for void. Received: .* with 0, 15"):
    voc.FolderSegmentation(folder=str(folder), data_dir=str(tmp_path / "sets")).download_and_prepare()
  for path in folder.glob("masks/*/*.png"):
    with Image.open(path) as image:
      ids = np.array(image)
    _write_mask(path, np.where(np.isin(ids, [3, 20]), ids, 255).astype(np.uint8))
  builder = voc.FolderSegmentation(folder=str(folder), data_dir=str(tmp_path / "sets"))
  builder.download_and_prepare()
  assert [one[:2] for one in builder.classes] == [("road", 20), ("car", 3)]
  np.testing.assert_array_equal(
      _examples(builder, "val")["a"]["mask"][..., 0], np.where(np.isin(_mask("vala"), [3, 20]), _mask("vala"), 255))


@pytest.mark.parametrize("spoil, message", [
    (lambda folder: _write_mask(folder / "masks/train/a.png", _mask("x", (6, 9))), "a.jpg of 8x6 with a mask of 9x6"),
    (lambda folder: _write_mask(folder / "masks/train/a.png", np.full([6, 8], 21, np.uint8)), "a.png with 21"),
    (lambda folder: _write_image(folder / "masks/train/a.png"), "a.png, an image of mode RGB"),
    (lambda folder: (folder / "masks/train/a.png").unlink(), "There is none at: .*a.png"),
    (lambda folder: (folder / "masks/train/a.png").write_bytes(b"no image"), "palette PNG.*a.png"),
])
def test_bad_masks_are_named(folder, tmp_path, spoil, message):
  spoil(folder)
  with pytest.raises(dc.DeepcompError, match=message):
    voc.FolderSegmentation(folder=str(folder), data_dir=str(tmp_path / "sets")).download_and_prepare()


def test_a_folder_without_masks(tmp_path):
  with pytest.raises(dc.DeepcompError, match="images/SPLIT and masks/SPLIT"):
    voc.FolderSegmentation(folder=str(tmp_path), data_dir=str(tmp_path / "sets"))


def test_an_annotation_that_is_none(tmp_path):
  io.savemat(tmp_path / "x.mat", {"other": 1})
  with pytest.raises(dc.DeepcompError, match="GTcls.*x.mat"):
    voc.read_sbd_mask(tmp_path / "x.mat")
