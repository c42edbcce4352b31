"""Sets of compressed files: TFDS opens them, a stopped run goes on, Beam writes the same."""

import functools
import os
import shutil

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf.data import chunks
from deepcomp_tf.data import compressed
from deepcomp_tf.data import sources
from deepcomp_tf.tasks import aim

POINT = "bpp0.0983"


@pytest.fixture(name="images")
def fixture_images(tmp_path):
  rng = np.random.default_rng(0)
  for split, count in (("train", 5), ("val", 2)):
    for name in ("ant", "bee"):
      folder = tmp_path / "images" / split / name
      folder.mkdir(parents=True)
      for i in range(count):
        pixels = rng.integers(0, 256, [3 + i, 4, 3]).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
  (tmp_path / "images/train/ant/broken.jpg").write_bytes(b"no image")
  return str(tmp_path / "images")


@pytest.fixture(name="small_chunks", autouse=True)
def fixture_small_chunks(monkeypatch):
  monkeypatch.setattr(compressed, "CHUNK", 4)


def _builder(images, folder, **arguments):
  config = compressed.CompressedConfig(
      name=f"images-{POINT}", source=images, splits=("train", "val"), load_codec=functools.partial(aim.open_codec, POINT),
      shorter_side=arguments.pop("shorter_side", 0))
  return compressed.CompressedClassification(config=config, data_dir=str(folder), **arguments)


def _examples(folder, split):
  dataset, info = tfds.load(f"compressed_classification/images-{POINT}", split=split, data_dir=str(folder),
                            with_info=True)
  return [(example["bitstream"], info.features["label"].int2str(int(example["label"])))
          for example in tfds.as_numpy(dataset)]


def _expected(images, split):
  codec = dc.Codec.load(POINT)
  source = sources.open_source(images, split)
  result = []
  for data, label in source.read(0, source.num_examples).as_numpy_iterator():
    if data != b"no image":
      result.append((codec.compress(sources.decode_image(data).numpy()), source.class_names[label]))
  return sorted(result)


def test_tfds_opens_what_was_compressed(images, tmp_path):
  totals = _builder(images, tmp_path / "sets").compress()
  for split in ("train", "val"):
    assert sorted(_examples(tmp_path / "sets", split)) == _expected(images, split)
  assert totals["examples"] == 14
  assert len(totals["skipped"]) == 1 and "ant" in totals["skipped"][0]
  assert totals["bytes"] == sum(len(data) for split in ("train", "val") for data, _ in _expected(images, split))
  assert totals["symbols"] == 8 * sum(2 * (3 + i) * 4 for i in [*range(5), *range(2)])
  metadata = tfds.builder(f"compressed_classification/images-{POINT}", data_dir=str(tmp_path / "sets")).info.metadata
  assert metadata["operating_point"] == POINT
  folder, = (tmp_path / "sets/compressed_classification").iterdir()
  assert [path.name for path in folder.iterdir()] == ["1.0.0"]  # nothing half-done is left


def test_a_stopped_run_goes_on(images, tmp_path, monkeypatch):
  read_photos, save, read, saved = compressed.read_photos, chunks.Kept.save, [], []

  def reading(*args):
    read.append(args[-1])
    return read_photos(*args)

  def stopping(kept, chunk, result):
    if len(saved) == 1:
      raise KeyboardInterrupt
    saved.append(chunk)
    save(kept, chunk, result)

  monkeypatch.setattr(compressed, "read_photos", reading)
  monkeypatch.setattr(chunks.Kept, "save", stopping)
  with pytest.raises(KeyboardInterrupt):
    _builder(images, tmp_path / "sets").compress()
  monkeypatch.setattr(chunks.Kept, "save", save)
  read.clear()
  totals = _builder(images, tmp_path / "sets").compress()
  assert saved == [("train", 0, 4)] and read == [("train", 4, 11), ("val", 0, 4)]  # neighbours as one
  assert totals["examples"] == 14 and len(totals["skipped"]) == 1
  for split in ("train", "val"):
    assert sorted(_examples(tmp_path / "sets", split)) == _expected(images, split)


def test_chunks_of_other_settings_are_not_used(images, tmp_path, monkeypatch):
  """What is left of a run with another size of images is no part of this one."""
  def stopping(kept, chunk, result):
    save(kept, chunk, result)
    raise KeyboardInterrupt

  save = chunks.Kept.save
  monkeypatch.setattr(chunks.Kept, "save", stopping)
  with pytest.raises(KeyboardInterrupt):
    _builder(images, tmp_path / "sets", shorter_side=16).compress()
  monkeypatch.setattr(chunks.Kept, "save", save)
  _builder(images, tmp_path / "sets").compress()
  assert sorted(_examples(tmp_path / "sets", "train")) == _expected(images, "train")


def test_folders_of_one_name_are_two_sources(images, tmp_path, monkeypatch):
  """Neither the chunks of a stopped run nor a finished set are taken for those of another folder called images."""
  other = tmp_path / "other/images"
  shutil.copytree(images, other)
  for path in other.rglob("*.png"):
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
  save = chunks.Kept.save

  def stopping(kept, chunk, result):
    save(kept, chunk, result)
    raise KeyboardInterrupt

  monkeypatch.setattr(chunks.Kept, "save", stopping)
  with pytest.raises(KeyboardInterrupt):
    _builder(images, tmp_path / "sets").compress()
  monkeypatch.setattr(chunks.Kept, "save", save)
  builder = _builder(str(other), tmp_path / "sets")
  builder.compress()
  assert sorted(_examples(tmp_path / "sets", "train")) == _expected(str(other), "train")
  assert builder.source_identity() != _builder(images, tmp_path / "sets").source_identity()
  moved = shutil.copytree(images, tmp_path / "moved/images")  # a copy elsewhere is the same source
  assert _builder(images, tmp_path / "x").source_identity() == _builder(str(moved), tmp_path / "x").source_identity()


def test_what_is_left_out_is_named(images, tmp_path):
  totals = _builder(images, tmp_path / "sets").compress()
  assert totals["skipped"] == ["train/ant/broken.jpg: expected an image file that Pillow can read"]


@pytest.mark.slow
def test_beam_writes_the_same(images, tmp_path):
  totals = _builder(images, tmp_path / "sets", beam=True).compress(beam_runner="DirectRunner")
  assert totals == _builder(images, tmp_path / "others").compress()
  for split in ("train", "val"):
    assert sorted(_examples(tmp_path / "sets", split)) == _expected(images, split)


def test_images_are_resized_before(images, tmp_path):
  totals = _builder(images, tmp_path / "sets", shorter_side=16).compress()
  codec = dc.Codec.load(POINT)
  for data, _ in _examples(tmp_path / "sets", "train"):
    assert min(codec.symbols(data).shape[:2]) == 2
  assert os.path.isdir(tmp_path / "sets") and totals["examples"] == 14
