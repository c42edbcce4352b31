"""Remote paths, wherever Python code may give one: photos, networks, runs and sets at ram://."""

import os
import pathlib

from etils import epath
from etils.epath import backend
from etils.epath import gpath
import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import photo_files
from deepcomp_tf.data import photos
from deepcomp_tf.data import segmentation
from deepcomp_tf.data import sources
from deepcomp_tf.training import runs


@pytest.fixture(name="tfds_knows_ram")
def fixture_tfds_knows_ram(monkeypatch):
  """TFDS' paths know gs://, s3://, az:// and hf:// only; here ram:// is one more."""
  monkeypatch.setattr(gpath, "_URI_PREFIXES", (*gpath._URI_PREFIXES, "ram://"))  # pylint: disable=protected-access
  monkeypatch.setattr(gpath, "_URI_SCHEMES", gpath._URI_SCHEMES | {"ram"})  # pylint: disable=protected-access
  monkeypatch.setitem(gpath._URI_MAP_ROOT, "ram://", "/ram/")  # pylint: disable=protected-access
  monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "ram", backend.tf_backend)  # pylint: disable=protected-access
  epath.register_path_cls("ram://")(gpath.PosixGPath)


def _upload(folder, remote):
  for path in folder.rglob("*"):
    if path.is_dir():
      files.makedirs(f"{remote}/{path.relative_to(folder)}")  # which ram:// does not do of itself, as object stores do
  for path in folder.rglob("*"):
    if path.is_file():
      files.write_file(f"{remote}/{path.relative_to(folder)}", path.read_bytes())


def test_photos(remote):
  images = {name: image[:40, :56] for name, image in samples.photos().items()}
  for name, image in images.items():
    files.write_file(f"{remote}/{name}.png", encode_png(image))
  files.write_file(f"{remote}/notes.txt", b"no image")
  paths = list_images(remote)
  assert paths == [f"{remote}/{name}.png" for name in sorted(images)]
  assert list_images(f"{remote}/c*.png") == [path for path in paths if os.path.basename(path).startswith("c")]
  np.testing.assert_array_equal(read_image(paths[0]), images[min(images)])
  crops = next(iter(photos.Photos(paths).batches(56, 2, seed=0)))
  assert crops.shape == (2, 56, 56, 3)
  for call in (lambda: read_image(f"{remote}/none.png"), lambda: read_image(f"{remote}/notes.txt"),
               lambda: list_images(f"{remote}/none"), lambda: list_images("s3://bucket/photos")):
    with pytest.raises(dc.DeepcompError, match=r"^[^\n]*(ram|s3)://[^\n]*$"):
      call()


def test_what_is_resumed_is_not_downloaded(remote, monkeypatch):
  codec, read = dc.Codec.load("bpp0.635"), []
  noise = np.random.default_rng(0).integers(0, 256, [200, 200, 3], np.uint8)
  tasks = [photo_files.Task(f"{remote}/photo.png", f"{remote}/photo.deepcomp")]
  files.write_file(tasks[0].photo, encode_png(noise))
  assert not next(photo_files.compress(codec, tasks)).error
  read_file = files.read

  def counted(*arguments):
    read.append(read_file(*arguments))
    return read[-1]
  monkeypatch.setattr(files, "read", counted)
  assert next(photo_files.compress(codec, tasks, resume=True)).skipped
  assert files.size(tasks[0].output) > 1000 and files.size(tasks[0].photo) > 100_000
  assert sorted(map(len, read)) == [16, 1 << 16]


@pytest.mark.slow
def test_an_operating_point_a_classifier_and_a_segmenter(remote):
  shipped = operating_point.OperatingPoint.load("bpp0.0983")
  place = f"{remote}/run/operating_point"
  for _ in range(2):  # the second time in place of the first
    operating_point.save(place, shipped.model, shipped.context_model, {**shipped.info, "name": "mine"}, shipped.mean,
                         shipped.deviation)
  codec, image = dc.Codec.load(place), samples.photos()["coffee"][:45, :70]
  data = codec.compress(image)
  assert codec.operating_point == "mine" and data == dc.Codec.load("bpp0.0983").compress(image)
  assert dc.operating_points.load(place).channels == shipped.channels

  inputs = NetworkInput("representation", codec)
  network = dc.models.CResNet(12, 2, width=0.125)
  classifier = dc.Classifier(network, inputs, ["cup", "cat"])
  classifier.save(f"{remote}/classifier/", place)
  assert files.read_json(f"{remote}/classifier/classifier.json")["operating_point"] == "../run/operating_point"
  segmenter = dc.Segmenter(dc.models.DeepLab.from_classifier(network, 2), inputs, mask_classes.VOC[:2])
  segmenter.save(f"{remote}/segmenter")
  assert dict(dc.Classifier.load(f"{remote}/classifier").classify(data)) == pytest.approx(
      dict(classifier.copy(rounded=True).classify(data)), rel=1e-4)
  np.testing.assert_array_equal(dc.Segmenter.load(f"{remote}/segmenter").segment(data),
                                segmenter.copy(rounded=True).segment(data))

  files.write_file(f"{remote}/classifier/weights.npz", b"cut", overwrite=True)
  with pytest.raises(dc.DeepcompError, match=f"the classifier in {remote}/classifier is damaged"):
    dc.Classifier.load(f"{remote}/classifier")
  for name in (f"{remote}/none", "s3://bucket/point"):
    with pytest.raises(dc.DeepcompError, match="^(no operating point '|expected a path of).*://.*$"):
      dc.Codec.load(name)


@pytest.mark.slow
def test_an_exported_classifier(remote):
  dc.Classifier.load(dc.Classifier.names()[0]).export_saved_model(f"{remote}/model")
  assert set(tf.saved_model.load(f"{remote}/model").signatures) == {"serving_default", "symbols"}


def test_a_run(remote):
  def open_run(settings):
    weight = tf.Variable(0.0)
    run = runs.Run(f"{remote}/run", settings, "classifier")
    run.keep({"weight": weight})
    return weight, run

  weight, run = open_run({"beta": 1})
  for step in (1, 2, 3):
    weight.assign(step)
    run.step.assign(step)
    run.curves("train", {"loss": float(step)})
    run.record({"psnr": 20.0 + step})
    if step < 3:
      run.save()
  weight, run = open_run({"beta": 1})
  assert not run.is_done()
  assert run.restore() == 2 and float(weight) == 2
  run.record({"psnr": 30.0})
  assert [line["psnr"] for line in run.history()] == [21.0, 30.0, 23.0]
  assert files.read_json(f"{remote}/run/settings.json") == {"beta": 1}
  events = [event for path in files.walk(f"{remote}/run/train") for event in tf.compat.v1.train.summary_iterator(path)]
  assert max(event.step for event in events) == 3
  with pytest.raises(dc.DeepcompError, match=f"Received: {remote}/run, with a run of other settings"):
    open_run({"beta": 2})
  files.makedirs(run.result)
  files.write_file(f"{run.result}/weights.npz", b"half of it")
  assert not run.is_done()
  files.write_file(f"{run.result}/classifier.json", b"{}")
  assert run.is_done()
  with pytest.raises(dc.DeepcompError, match="a file system that TensorFlow .*ram://.*Received: s3://bucket/run"):
    runs.Run("s3://bucket/run", {}, "classifier")
  assert not pathlib.Path("ram:").exists() and not pathlib.Path("s3:").exists()


def _classes(folder):
  for split, count in (("train", 3), ("val", 2)):
    for level, name in ((50, "dark"), (200, "bright")):
      (folder / split / name).mkdir(parents=True)
      for i in range(count):
        Image.fromarray(np.full([24, 32, 3], level + i, np.uint8)).save(folder / split / name / f"{i}.png")


def test_a_folder_of_classes(remote, tmp_path):
  _classes(tmp_path)
  _upload(tmp_path, remote)
  here, there = (sources.open_source(folder, "train") for folder in (str(tmp_path), f"{remote}/"))
  assert (there.class_names, there.num_examples) == (["bright", "dark"], 6)
  read = lambda source: sorted((data.numpy(), int(label)) for data, label in source.read(0, 6))
  assert read(there) == read(here)


def test_a_folder_of_masks(remote, tmp_path):
  rng = np.random.default_rng(0)
  for split in ("train", "val"):
    for kind in ("images", "masks"):
      (tmp_path / "set" / kind / split).mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, [8, 8, 3], np.uint8)).save(tmp_path / f"set/images/{split}/a.jpg")
    Image.fromarray(np.full([8, 8], 7, np.uint8)).save(tmp_path / f"set/masks/{split}/a.png")
  (tmp_path / "set/classes.json").write_text('[{"id": 7, "name": "road"}]')
  _upload(tmp_path / "set", f"{remote}/set")
  here, there = (segmentation.open_builder(folder, str(tmp_path / "prepared"))
                 for folder in (str(tmp_path / "set"), f"{remote}/set/"))
  assert there.builder_config.name == here.builder_config.name  # one set, known by the files' names and sizes
  assert there.info.splits["train"].num_examples == 1
  assert [one.name for one in segmentation.classes_of(there)] == ["road"]
  assert [one.id for one in mask_classes.read_classes(f"{remote}/set/classes.json")] == [7]
  with pytest.raises(dc.DeepcompError, match="JSON file of classes. Received: ram://.*none.json"):
    mask_classes.read_classes(f"{remote}/none.json")


def test_a_tfds_set(remote, tmp_path, tfds_knows_ram):
  del tfds_knows_ram

  class Shades(tfds.core.GeneratorBasedBuilder):
    """Plain gray images."""
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
          "image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=["dark", "bright"])}))

    def _split_generators(self, dl_manager):
      del dl_manager
      return {"train": self._generate_examples()}

    def _generate_examples(self):
      return ((i, {"image": np.full([16, 24, 3], 40 * i, np.uint8), "label": i // 3}) for i in range(6))

  Shades(data_dir=str(tmp_path)).download_and_prepare()  # not at ram://, which does not rename folders
  _upload(tmp_path, remote)
  source = sources.open_source("shades", "train", remote)
  assert sorted((int(sources.decode_image(data)[0, 0, 0]), int(label)) for data, label in source.read(0, 6)) == [
      (40 * i, i // 3) for i in range(6)]
  assert next(iter(photos.tfds_crops("shades", "train", remote, 16, 2, seed=0))).shape == (2, 16, 16, 3)
  for name, place in (("none", remote), ("shades", f"{remote}/elsewhere"), ("s3://bucket/images", None)):
    with pytest.raises(dc.DeepcompError, match=r"^[^\n]*$"):
      sources.open_source(name, "train", place)
