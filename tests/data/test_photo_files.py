"""Plain photos to files and to a set with names, in folders of folders, on Beam and without it."""

import codecs
import functools
import io
import json
import os
import struct
from unittest import mock

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import compressed_photos
from deepcomp_tf.data import photo_files
from deepcomp_tf.tasks import aim

POINT = "bpp0.0983"
LOAD_CODEC = functools.partial(aim.open_codec, POINT)


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
      _ = pipeline | photo_files.on_beam(
          str(photos), None, str(tmp_path / "out"), LOAD_CODEC, False, str(tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["photos"], report["before"]) == (5, before)
    assert [line.split(":")[0] for line in report["failed"]] == [str(photos / "broken.jpg"), str(photos / "in/b.png")]
  assert _outputs(tmp_path / "out") == ["a.deepcomp", "in/b.deepcomp", "in/deep/c.deepcomp"]


@pytest.mark.parametrize("beam", [False, True])
def test_a_set_with_names(photos, tmp_path, beam):
  if beam:
    pytest.importorskip("apache_beam")
  config = compressed_photos.PhotosConfig(
      name="mine", photos=photo_files.find_photos(str(photos)), root=str(photos), load_codec=LOAD_CODEC)
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


def test_an_output_is_done_when_it_is_whole_and_of_that_photo(photos, tmp_path):
  codec, output = dc.Codec.load(POINT), tmp_path / "out.deepcomp"
  task = photo_files.Task(str(photos / "a.jpg"), str(output))
  again = lambda: next(photo_files.compress(codec, [task], resume=True))
  assert not again().skipped and again().skipped
  whole = output.read_bytes()
  output.write_bytes(whole[:-1])
  assert "is no whole file" in str(again().error)
  output.write_bytes(codec.compress(samples.photos()["coffee"][:40, :40]))
  assert "of another photo, of 40x40 pixels; " in str(again().error)
  turned = Image.open(photos / "a.jpg").transpose(Image.Transpose.ROTATE_90)
  exif = Image.Exif()
  exif[0x0112] = 6
  turned.save(photos / "a.jpg", exif=exif)  # upright it is 48x40 again
  output.write_bytes(whole)
  assert again().skipped


def test_two_at_once_write_no_file_twice(photos, tmp_path):
  """The loser of a race is told, or leaves the output alone when it resumes."""
  codec = dc.Codec.load(POINT)
  for resume in (False, True):
    task = photo_files.Task(str(photos / "a.jpg"), str(tmp_path / f"{resume}.deepcomp"))
    first, second = (photo_files.compress(codec, iter([task]), resume=resume) for _ in range(2))
    written, write = [], photo_files._write

    def writing(*arguments, write=write, written=written, second=second):
      if not written:
        written.append(None)
        written[0] = next(second)  # another process, between this one's look and its writing
      return write(*arguments)

    with mock.patch.object(photo_files, "_write", writing):
      loser = next(first)
    assert written[0].size and not loser.size
    assert loser.skipped if resume else "give --overwrite" in str(loser.error)


def test_what_is_in_a_folder(photos, tmp_path, monkeypatch):
  Image.new("RGB", (8, 8)).save(photos / "in/unknown", "png")
  (tmp_path / "linked").mkdir()
  Image.new("RGB", (8, 8)).save(tmp_path / "linked/l.jpg")
  (photos / "album").symlink_to(tmp_path / "linked")
  (photos / "in/back").symlink_to(photos)
  (photos / "in/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
  os.mkfifo(photos / "pipe.jpg")
  scandir = os.scandir

  def refusing(path):
    if str(path).endswith("deep"):
      raise PermissionError(13, "Permission denied", str(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refusing)
  found = photo_files.find_in(str(photos))
  assert [os.path.relpath(path, photos) for path in found.photos] == [
      "a.jpg", "album/l.jpg", "broken.jpg", "in/b.jpg", "in/b.png", "in/gone.jpg", "in/unknown"]
  assert found.unreadable == {str(photos / "in/deep"): "Permission denied"}
  assert [os.path.basename(path) for path in found.others] == ["notes.txt"]
  with pytest.raises(dc.DeepcompError, match="a folder that can be read. Received: .*deep .Permission denied"):
    photo_files.list_photos(str(photos))


def test_lists_of_paths(tmp_path):
  paths = [str(tmp_path / name) for name in ("a.jpg", "line\nend.jpg", os.fsdecode(b"caf\xe9.jpg"))]
  written = tmp_path / "list.txt"
  written.write_bytes(b"\0".join(map(os.fsencode, paths)) + b"\0")
  assert photo_files.find_photos(str(written)) == sorted(paths)
  written.write_bytes(codecs.BOM_UTF8 + b"/a.jpg\r\n/b.jpg\r\n")
  assert photo_files.find_photos(str(written)) == ["/a.jpg", "/b.jpg"]
  written.write_bytes("/a.jpg\n".encode("utf-16"))
  with pytest.raises(dc.DeepcompError, match="in UTF-8. Received: .*list.txt, which is in UTF-16"):
    photo_files.find_photos(str(written))


def test_names_that_are_no_text(tmp_path):
  photos = tmp_path / "photos"
  photos.mkdir()
  names = [b"caf\xe9.png", b"line\nend.png", "\u00e9t\u00e9.png".encode()]
  for name in names:
    with open(os.fsencode(photos) + b"/" + name, "wb") as file:
      Image.new("RGB", (16, 16)).save(file, "png")
  config = compressed_photos.PhotosConfig(
      name="odd", photos=photo_files.find_photos(str(photos)), root=str(photos), load_codec=LOAD_CODEC)
  compressed_photos.CompressedPhotos(config=config, data_dir=str(tmp_path / "sets")).compress()
  stored = tfds.as_numpy(tfds.load("compressed_photos/odd", split="train", data_dir=str(tmp_path / "sets")))
  assert sorted(example["name"] for example in stored) == sorted(names)


def test_below():
  assert photo_files.below("/d/set", "/d/set/a/b.jpg") == "a/b.jpg" and photo_files.below("/d/set/", "/d/set/a.jpg") == "a.jpg"
  assert photo_files.below("/d/set", "/d/set2/x.jpg") == "d/set2/x.jpg"


def test_no_damaged_photo_hurts_another(tmp_path):
  """Formats cut off, empty, of text or of noise, and samples that are refused, between good photos."""
  good, folder = samples.photos()["coffee"][:16, :16], tmp_path / "photos"
  folder.mkdir()
  contents = [b"", b"no image", b"\xff\xd8\xff\xd9", bytes(3000), np.random.default_rng(0).bytes(3000),
              b"II*\0\xff\xff\xff\xff", b"GIF89a"]
  noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, [48, 48, 3], np.uint8))
  for form in ("jpeg", "png", "webp", "tiff", "bmp", "jpeg2000", "avif", "ppm"):
    buffer = io.BytesIO()
    noise.save(buffer, form)
    contents += [buffer.getvalue()[:20], buffer.getvalue()[:buffer.tell() // 2]]
    if form == "png":  # 10^10 pixels
      contents.append(buffer.getvalue()[:16] + struct.pack(">II", 100_000, 100_000) + buffer.getvalue()[24:])
  for number, data in enumerate(contents):
    (folder / f"{number:02}.jpg").write_bytes(data)
    Image.fromarray(good).save(folder / f"{number:02}_good.png")
  tasks, _ = photo_files.tasks_of(photo_files.list_photos(str(folder)), str(folder), str(tmp_path / "out"))
  codec = dc.Codec.load(POINT)
  failed = [done for done in photo_files.compress(codec, tasks, jobs=4) if done.error]
  assert [done.task.photo for done in failed] == [str(folder / f"{number:02}.jpg") for number in range(len(contents))]
  assert all(done.task.photo in str(done.error) for done in failed)
  assert _outputs(tmp_path / "out") == [f"{number:02}_good.deepcomp" for number in range(len(contents))]
