"""Plain photos to files and to a set with names, in folders of folders, on Beam and without it."""

import json
import os

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import compressed_photos
from deepcomp_tf.data import photo_files

POINT = "bpp0.0983"


@pytest.fixture(name="photos")
def fixture_photos(tmp_path):
  """Three good photos in folders, one broken, and one whose output would be another's."""
  image = samples.photos()["coffee"][:40, :48]
  for place in ("photos/a.jpg", "photos/in/b.png", "photos/in/deep/c.webp", "photos/in/b.jpg"):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(tmp_path / place)
  (tmp_path / "photos/broken.jpg").write_bytes(b"no image")
  (tmp_path / "photos/notes.txt").write_text("not a photo")
  return tmp_path / "photos"


def _outputs(folder):
  return sorted(os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names)


def test_tasks(photos):
  paths = photo_files.list_photos(str(photos))
  assert [os.path.relpath(path, photos) for path in paths] == ["a.jpg", "broken.jpg", "in/b.jpg", "in/b.png", "in/deep/c.webp"]
  tasks, refused = photo_files.tasks_of(paths, str(photos), "out")
  assert [task.output for task in tasks] == [f"out/{name}.deepcomp" for name in ("a", "broken", "in/b", "in/deep/c")]
  assert [done.task.photo for done in refused] == [str(photos / "in/b.png")]
  beside, _ = photo_files.tasks_of(paths[:1])
  assert beside[0].output == str(photos / "a.deepcomp")
  assert photo_files.common_root(paths) == str(photos) and photo_files.common_root(["/x/ab/1.png", "/x/ac/2.png"]) == "/x"
  assert photo_files.common_root(["gs://b/p/1.png", "gs://b/q/1.png"]) == "gs://b"


def test_find_photos(photos, tmp_path):
  (tmp_path / "list.txt").write_text(f"{photos}/a.jpg\n\n{photos}/in/b.png\n")
  assert len(photo_files.find_photos(str(tmp_path / "list.txt"))) == 2
  assert photo_files.find_photos(f"{photos}/in/*.png") == [f"{photos}/in/b.png"]
  for nothing in (f"{photos}/*.bmp", f"{tmp_path}/none.txt"):
    with pytest.raises(dc.DeepcompError):
      photo_files.find_photos(nothing)


def test_outputs_are_whole_and_resumed(photos, tmp_path):
  codec, other = dc.Codec.load(POINT), dc.Codec.load("bpp0.635")
  tasks, _ = photo_files.tasks_of(photo_files.list_photos(str(photos)), str(photos), str(tmp_path / "out"))
  done = list(photo_files.compress(codec, tasks, jobs=3))
  assert [one.task for one in done] == tasks
  assert [bool(one.error) for one in done] == [False, True, False, False]
  assert (tmp_path / "out/in/b.deepcomp").read_bytes() == codec.compress(read_image(photos / "in/b.jpg"))
  assert _outputs(tmp_path / "out") == ["a.deepcomp", "in/b.deepcomp", "in/deep/c.deepcomp"]  # nothing half-written

  os.remove(tmp_path / "out/a.deepcomp")
  again = list(photo_files.compress(codec, tasks, resume=True))
  assert [(one.skipped, bool(one.error)) for one in again] == [(False, False), (False, True), (True, False), (True, False)]
  refused = list(photo_files.compress(codec, tasks))
  assert "--resume" in str(refused[0].error) and all(one.error for one in refused)
  foreign = list(photo_files.compress(other, tasks, resume=True))
  assert "is not of bpp0.635" in str(foreign[0].error)
  replaced = list(photo_files.compress(other, tasks, overwrite=True))
  assert dc.Codec.load_for((tmp_path / "out/a.deepcomp").read_bytes()).operating_point == "bpp0.635"
  assert photo_files.report(replaced)["photos"] == 4 and len(photo_files.report(replaced)["failed"]) == 1


def test_files_on_beam(photos, tmp_path):
  beam = pytest.importorskip("apache_beam")
  for before in (0, 3):
    with beam.Pipeline(runner="DirectRunner") as pipeline:
      _ = pipeline | photo_files.on_beam(str(photos), None, str(tmp_path / "out"), POINT, False, str(tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["photos"], report["before"]) == (5, before)
    assert [line.split(":")[0] for line in report["failed"]] == [str(photos / "broken.jpg"), str(photos / "in/b.png")]
  assert _outputs(tmp_path / "out") == ["a.deepcomp", "in/b.deepcomp", "in/deep/c.deepcomp"]


@pytest.mark.parametrize("beam", [False, True])
def test_a_set_with_names(photos, tmp_path, beam):
  if beam:
    pytest.importorskip("apache_beam")
  config = compressed_photos.PhotosConfig(
      name="mine", photos=photo_files.find_photos(str(photos)), root=str(photos), operating_point=POINT)
  builder = compressed_photos.CompressedPhotos(config=config, data_dir=str(tmp_path / "sets"), beam=beam)
  totals = builder.compress(**({"beam_runner": "DirectRunner"} if beam else {}))
  examples = {example["name"].decode(): example["bitstream"] for example in tfds.as_numpy(
      tfds.load("compressed_photos/mine", split="train", data_dir=str(tmp_path / "sets")))}
  assert sorted(examples) == ["a.jpg", "in/b.jpg", "in/b.png", "in/deep/c.webp"]
  codec = dc.Codec.load(POINT)
  for name, data in examples.items():
    np.testing.assert_array_equal(codec.symbols(data), codec.encode(read_image(photos / name)))
  assert totals["examples"] == 4 and totals["bytes"] == sum(map(len, examples.values()))
  assert len(totals["skipped"]) == 1 and totals["skipped"][0].startswith("broken.jpg: ")
