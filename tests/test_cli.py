"""The `deepcomp` command, called as a user calls it."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
from pyarrow import parquet
import pytest

from deepcomp_tf import samples
import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import quiet
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.codec.inputs import NetworkInput
from programs import deepcomp
from programs import deepcomp_here
from programs import write_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return write_photos(tmp_path_factory.mktemp("photos"))


def test_compress_info_decompress(folder, tmp_path):
  result = deepcomp_here("compress", str(folder / "coffee.png"), str(folder / "broken.png"), str(folder / "rocket.png"),
                         "--output_dir=.", "--operating_point=bpp0.635", "--effort=0", cwd=tmp_path)
  assert result.returncode == 1
  assert "broken.png" in result.stderr and "2 of 3 files done, 1 failed" in result.stdout
  assert sorted(os.listdir(tmp_path)) == ["coffee.deepcomp", "rocket.deepcomp"]

  result = deepcomp_here("compress", str(folder / "coffee.png"), "--output_dir=.", "--overwrite", cwd=tmp_path)
  assert result.returncode == 0, result.stderr
  expected = dc.Codec.load("bpp0.330").compress(read_image(folder / "coffee.png"), effort=6)
  assert (tmp_path / "coffee.deepcomp").read_bytes() == expected
  result = deepcomp_here("compress", str(folder / "coffee.png"), "--effort=10", cwd=tmp_path)
  assert result.returncode == 1 and "`effort` must be an integer in 0..9. Received: effort=10" in result.stderr
  result = deepcomp_here("compress", str(folder / "coffee.png"), "--output_dir=.", "--overwrite", "--max_bytes=500", "--effort=1",
                         cwd=tmp_path)
  assert result.returncode == 0 and 400 < os.path.getsize(tmp_path / "coffee.deepcomp") <= 500, result.stderr
  deepcomp_here("compress", str(folder / "coffee.png"), "--output_dir=.", "--operating_point=bpp0.635", "--overwrite",
                "--effort=0", cwd=tmp_path)

  result = deepcomp_here("info", "coffee.deepcomp", cwd=tmp_path)
  size = os.path.getsize(tmp_path / "coffee.deepcomp")
  assert result.returncode == 0
  codec = dc.Codec.load("bpp0.635")
  assert (f"120x96 pixels, operating point bpp0.635, encoder version {codec.encoder_version}, "
          f"decoder version {codec.decoder_version}, {size} bytes, {8 * size / (96 * 120):.4f} bits") in result.stdout

  result = deepcomp_here("decompress", "coffee.deepcomp", cwd=tmp_path)
  assert result.returncode == 0, result.stderr
  data = (tmp_path / "coffee.deepcomp").read_bytes()
  np.testing.assert_array_equal(np.array(Image.open(tmp_path / "coffee.png")), dc.Codec.load_for(data).decompress(data))

  result = deepcomp_here("decompress", "coffee.deepcomp", cwd=tmp_path)
  assert result.returncode == 1 and "--overwrite" in result.stderr

  decoded, sizes = dc.Codec.load_for(data).decompress(data), []
  for ending, kind, arguments in (("jpg", "JPEG", ["--quality=30"]), ("jpg", "JPEG", ["--overwrite"]), ("webp", "WEBP", [])):
    result = deepcomp_here("decompress", "coffee.deepcomp", "-o", "lossy", f"--format={ending}", *arguments, cwd=tmp_path)
    path = tmp_path / "lossy" / f"coffee.{ending}"
    assert result.returncode == 0 and Image.open(path).format == kind, result.stderr
    assert 0 < np.abs(np.array(Image.open(path)).astype(int) - decoded).mean() < 10
    sizes.append(path.stat().st_size)
  assert sizes[0] < sizes[1]

  (tmp_path / "cut.deepcomp").write_bytes(data[:-3])
  result = deepcomp_here("decompress", "cut.deepcomp", cwd=tmp_path)
  assert result.returncode == 1 and "damaged or truncated" in result.stderr
  assert not (tmp_path / "cut.png").exists()


def test_compress_folders(folder, tmp_path):
  (tmp_path / "photos/in").mkdir(parents=True)
  for source, place in (("coffee.png", "a.png"), ("rocket.png", "in/a.png"), ("broken.png", "in/broken.png")):
    (tmp_path / "photos" / place).write_bytes((folder / source).read_bytes())
  compress = ("compress", "photos", str(folder / "chelsea.png"), "--output_dir=out", "--jobs=2", "--effort=0")
  result = deepcomp_here(*compress, cwd=tmp_path)
  assert result.returncode == 1 and "3 of 4 files done, 1 failed" in result.stdout
  assert "deepcomp: photos/in/broken.png: expected an image file" in result.stderr.splitlines()[-1]
  files = lambda: sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
  assert files() == ["a.deepcomp", "chelsea.deepcomp", "in/a.deepcomp"]

  (tmp_path / "out/in/a.deepcomp").unlink()
  result = deepcomp_here(*compress, cwd=tmp_path)
  assert result.returncode == 1 and "give --overwrite to replace it or --resume to leave it" in result.stderr
  (tmp_path / "out/in/a.deepcomp").unlink()
  result = deepcomp_here(*compress, "--resume", cwd=tmp_path)
  assert result.returncode == 1 and "3 of 4 files done, 2 of them before, 1 failed" in result.stdout
  assert files() == ["a.deepcomp", "chelsea.deepcomp", "in/a.deepcomp"]
  (tmp_path / "photos/in/broken.png").unlink()
  assert deepcomp_here(*compress, "--resume", cwd=tmp_path).returncode == 0

  lines = [json.loads(line) for line in deepcomp_here("info", "out", "--json", cwd=tmp_path).stdout.splitlines()]
  assert [(line["file"], line["width"], line["operating_point"]) for line in lines] == [
      (f"out/{name}", 120, "bpp0.330") for name in files()]
  lines = deepcomp_here(*compress, "--resume", "--json", cwd=tmp_path).stdout.splitlines()
  assert all(json.loads(line)["before"] for line in lines) and len(lines) == 3

  result = deepcomp_here("info", "out", cwd=tmp_path)
  assert result.returncode == 0, result.stderr
  *lines, last = result.stdout.splitlines()
  assert [line.split(":")[0] for line in lines] == [f"out/{name}" for name in files()] and last == "3 of 3 files done"
  (tmp_path / "out/note.txt").write_text("no photo")
  result = deepcomp_here("decompress", "out", "--output_dir=pictures", cwd=tmp_path)
  assert result.returncode == 0, result.stderr
  assert sorted(map(str, (tmp_path / "pictures").rglob("*.png"))) == [
      str(tmp_path / "pictures" / name) for name in ("a.png", "chelsea.png", "in/a.png")]


def test_what_a_folder_leaves_out_is_said(folder, tmp_path):
  photos = tmp_path / "photos"
  photos.mkdir()
  photo = (folder / "coffee.png").read_bytes()
  for name, data in (("a.png", photo), ("b.jfif", photo), (os.fsdecode(b"caf\xe9"), photo), ("notes.txt", b"")):
    (photos / name).write_bytes(data)
  result = deepcomp_here("compress", "photos", "--effort=0", cwd=tmp_path)
  assert (result.returncode, result.stdout) == (0, "3 of 3 files done\n")
  assert result.stderr.splitlines()[-1] == "Left out: 1 file that is no photo: photos/notes.txt"
  (photos / "c.png").symlink_to("gone.png")
  result = deepcomp_here("compress", "photos", "--resume", "--effort=0", cwd=tmp_path)
  assert (result.returncode, result.stdout) == (1, "3 of 4 files done, 3 of them before, 1 failed\n")
  result = deepcomp("compress", f"photos/{os.fsdecode(b'caf' + bytes([0xe9]))}", "--overwrite", "--effort=0", cwd=tmp_path)
  assert result.returncode == 0 and result.stdout.startswith(r"photos/caf\xe9 -> photos/caf\xe9.deepcomp: 120x96, ")


def given(monkeypatch, data):
  """Lets standard input be these bytes."""
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_and_output(folder, tmp_path, monkeypatch):
  photo = (folder / "coffee.png").read_bytes()
  codec = dc.Codec.load("bpp0.330")
  data = codec.compress(read_image(folder / "coffee.png"))
  (tmp_path / "coffee.deepcomp").write_bytes(data)
  compress = ("compress", "-", "--effort=0")
  for arguments in (compress, (*compress, "-o", "-"),
                    ("compress", str(folder / "coffee.png"), "--effort=0", "-o", "-", "--json")):
    given(monkeypatch, photo)
    result = deepcomp_here(*arguments, cwd=tmp_path, text=False)
    assert result.returncode == 0 and result.stdout == data
    assert "120x96" in result.stderr or json.loads(result.stderr)["bytes"] == len(data)
  given(monkeypatch, data)
  result = deepcomp_here("info", "-", cwd=tmp_path)
  assert result.returncode == 0 and result.stdout.startswith("-: 120x96 pixels, operating point bpp0.330")
  for arguments in (("decompress", "-"), ("decompress", "coffee.deepcomp", "-o", "-")):
    given(monkeypatch, data)
    result = deepcomp_here(*arguments, cwd=tmp_path, text=False)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(result.stdout))), codec.decompress(data))
    assert result.returncode == 0 and result.stderr.endswith(" -> -: 120x96\n")
  given(monkeypatch, b"no photo")
  result = deepcomp_here(*compress, cwd=tmp_path)
  assert result.returncode == 1 and "expected an image file that Pillow can read. Received: -" in result.stderr
  for wrong, message in ((["compress", "-", "-o", "out"], "expected - or a file, such as NAME.deepcomp, for the output of"),
                         (["decompress", "coffee.deepcomp", "-"], "expected a single file for standard output"),
                         (["info", "-", "-"], "expected - for standard input once")):
    result = deepcomp_here(*wrong, cwd=tmp_path)
    assert result.returncode == 1 and message in result.stderr and not result.stdout
  assert os.listdir(tmp_path) == ["coffee.deepcomp"]


def test_the_output_of_a_single_file_may_be_named(folder, tmp_path, monkeypatch):
  photo = str(folder / "coffee.png")
  codec = dc.Codec.load("bpp0.330")
  data = codec.compress(read_image(photo))
  picture = codec.decompress(data)
  given(monkeypatch, (folder / "coffee.png").read_bytes())
  for source, name in ((photo, "new/named.deepcomp"), ("-", "of_input.deepcomp")):
    result = deepcomp_here("compress", source, "-o", name, "--effort=0", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith(f"{source} -> {name}: 120x96"), result.stderr
    assert (tmp_path / name).read_bytes() == data
  for name, kind in (("a.png", "PNG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")):
    result = deepcomp_here("decompress", "of_input.deepcomp", "-o", name, cwd=tmp_path)
    assert result.returncode == 0 and result.stdout == f"of_input.deepcomp -> {name}: 120x96\n", result.stderr
    assert Image.open(tmp_path / name).format == kind
  np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), picture)

  before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
  assert deepcomp_here("compress", photo, "-o", "of_input.deepcomp", "--effort=0", "--resume", cwd=tmp_path).returncode == 0
  for wrong, message in ((["compress", photo, "-o", "of_input.deepcomp"], "of_input.deepcomp exists; give --overwrite"),
                         (["compress", photo, str(folder), "-o", "b.deepcomp"], "expected a single file for b.deepcomp. Rec"),
                         (["decompress", "new", "-o", "b.png"], "expected a single file for b.png. Received: new"),
                         (["decompress", "of_input.deepcomp", "-o", "b.webp", "--format=jpg"],
                          "expected --format=webp for b.webp. Received: --format=jpg"),
                         (["decompress", "of_input.deepcomp", "-o", "b.png", "--quality=80"], "expected --quality in 1 to 100"),
                         (["compress", "-", "-o", "of_input.deepcomp", "--resume"], "--resume is for files that have names")):
    result = deepcomp_here(*wrong, cwd=tmp_path)
    assert result.returncode == 1 and message in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
  assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
  (tmp_path / "c.png").mkdir()  # a folder, whatever it is called
  assert deepcomp_here("decompress", "of_input.deepcomp", "-o", "c.png", cwd=tmp_path).returncode == 0
  assert os.listdir(tmp_path / "c.png") == ["of_input.png"]


def test_compress_makes_larger_photos_smaller(folder, tmp_path):
  def size(*arguments):
    result = deepcomp_here("compress", str(folder / "coffee.png"), "-o", ".", "--effort=0", "--json", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    return tuple(json.loads(result.stdout).get(side) for side in ("width", "height"))

  assert size("--max_side=60") == (60, 48)
  assert dc.Bitstream((tmp_path / "coffee.deepcomp").read_bytes()).width == 60
  assert size("--max_side=60", "--resume") == (None, None)
  result = deepcomp_here("compress", str(folder / "coffee.png"), "-o", ".", "--resume", cwd=tmp_path)
  assert result.returncode == 1 and "coffee.png would have 120x96" in result.stderr
  assert size("--shorter_side=72", "--overwrite") == (90, 72)
  assert size("--max_side=60", "--shorter_side=72", "--overwrite") == (60, 48)
  assert size("--max_side=120", "--shorter_side=400", "--overwrite") == (120, 96)


def test_resuming_from_files(folder, tmp_path):
  codec = dc.Codec.load("bpp0.330")
  (tmp_path / "in/deeper").mkdir(parents=True)
  for name in ("a", "deeper/b"):
    (tmp_path / f"in/{name}.deepcomp").write_bytes(codec.compress(read_image(folder / "coffee.png")))
  decompress = ("decompress", "in", "-o", "out", "--format=webp")
  assert deepcomp_here(*decompress, cwd=tmp_path).returncode == 0
  (tmp_path / "out/a.webp").unlink()
  before = (tmp_path / "out/deeper/b.webp").stat().st_mtime_ns
  assert "in/deeper/b.deepcomp: out/deeper/b.webp exists" in deepcomp_here(*decompress, cwd=tmp_path).stderr
  (tmp_path / "out/a.webp").unlink()
  result = deepcomp_here(*decompress, "--resume", "--json", cwd=tmp_path)
  assert [json.loads(line).get("before") for line in result.stdout.splitlines()] == [None, True]
  assert (tmp_path / "out/a.webp").exists() and (tmp_path / "out/deeper/b.webp").stat().st_mtime_ns == before
  assert "2 of 2 files done, 2 of them before" in deepcomp_here(*decompress, "--resume", cwd=tmp_path).stdout
  Image.new("RGB", (4, 4)).save(tmp_path / "out/a.webp")
  result = deepcomp_here(*decompress, "--resume", cwd=tmp_path)
  assert result.returncode == 1 and "out/a.webp exists and is of another photo, of 4x4 pixels" in result.stderr

  (tmp_path / "in/c.deepcomp").write_bytes(b"damaged")
  info = ("info", "in", "-o", "lines/info.jsonl")
  result = deepcomp_here(*info, cwd=tmp_path)
  assert (result.returncode, result.stdout) == (1, "2 of 3 files done, 1 failed\n")
  path = tmp_path / "lines/info.jsonl"
  whole = path.read_text().splitlines(keepends=True)
  assert [json.loads(line).get("width") for line in whole] == [120, None, 120]
  assert "info.jsonl exists" in deepcomp_here(*info, cwd=tmp_path).stderr
  (tmp_path / "in/c.deepcomp").write_bytes((tmp_path / "in/a.deepcomp").read_bytes())
  path.write_text("".join(whole)[:-20])
  result = deepcomp_here(*info, "--resume", cwd=tmp_path)
  assert (result.returncode, result.stdout) == (0, "3 of 3 files done, 1 of them before\n")
  assert [json.loads(line)["file"] for line in path.read_text().splitlines()] == [
      f"in/{name}.deepcomp" for name in ("a", "c", "deeper/b")]


@pytest.mark.parametrize("args, message", [
    (["compress", "missing.jpg"], "There is none at"),
    (["compress", "none.jpg", "broken.png", "--json"], "expected an image file that Pillow can read"),
    (["compress", "broken.png", "--max_bytes=100", "--effort=0"], "take an --effort above 0. Received: --effort=0"),
    (["compress", "broken.png", "--max_bytes=0"], "must be above 0"),
    (["compress", "broken.png", "--max_side=0"], "--max_side must be at least 1. Received: 0"),
    (["decompress", "broken.png"], "not a compressed image"),
    (["decompress", "x.deepcomp", "--resume", "--overwrite"], "expected --resume or --overwrite. Received: both"),
    (["classify", "broken.png", "none.deepcomp"], "cannot be read"),
    (["classify", "broken.png", "--classifier=graft_bpp0.330"], "not a compressed image"),
    (["segment", "broken.png", "none.png", "-o", "-"], "expected a single file for standard output. Received: 2 files"),
    (["segment", "broken.png", "-o", "m.png", "--overlay=m.png"], "expected an --overlay other than --output"),
    (["embed", "broken.png", "-o", "v.csv"], "expected an --output that ends in .npy or .parquet. Received: v.csv"),
    (["embed", "broken.png", "-o", "v.npy", "--resume"], "ends in .parquet, which names its files. Received: v.npy"),
    (["evaluate", "--images=.", "--peers=jpeg,gif"], "one of the formats jpeg, jpeg2000, webp, avif. Received: gif"),
    (["evaluate", "--dataset=/nowhere"], "expected a TFDS set or a folder. Received: --dataset=/nowhere"),
])
def test_wrong_arguments_are_refused_before_tensorflow_is_loaded(args, message, tmp_path, monkeypatch):
  (tmp_path / "broken.png").write_bytes(b"no photo")
  monkeypatch.setattr(quiet, "import_tensorflow", lambda: pytest.fail("it was loaded"))
  result = deepcomp_here(*args, cwd=tmp_path)
  assert result.returncode == 1 and message in result.stdout + result.stderr
  assert os.listdir(tmp_path) == ["broken.png"]


@pytest.fixture(name="networks", scope="module")
def fixture_networks(tmp_path_factory):
  """An untrained classifier and segmenter of bpp0.330."""
  root = tmp_path_factory.mktemp("networks")
  inputs = NetworkInput("representation", dc.Codec.load("bpp0.330"))
  network = dc.models.CResNet(12, 2, width=0.125)
  dc.Classifier(network, inputs, ["cup", "cat"]).save(root / "classifier")
  dc.Segmenter(dc.models.DeepLab.from_classifier(network, 3), inputs, [mask_classes.VOC[i] for i in (0, 8, 15)]).save(
      root / "segmenter")
  return root


@pytest.mark.slow
def test_classify_and_segment(networks, tmp_path, monkeypatch):
  data = dc.Codec.load("bpp0.330").compress(samples.photos()["chelsea"][:61, :75])
  (tmp_path / "cat.deepcomp").write_bytes(data)
  (tmp_path / "other.deepcomp").write_bytes(dc.Codec.load("bpp0.635").compress(np.zeros([16, 16, 3], np.uint8)))

  result = deepcomp_here("classify", "cat.deepcomp", "other.deepcomp", f"--classifier={networks}/classifier", "--verbose",
                         cwd=tmp_path)
  expected = dc.Classifier.load(str(networks / "classifier")).classify(data)
  assert "knows 2 classes: cup, cat" in result.stdout
  assert f"cat.deepcomp: {expected[0][0]} {100 * expected[0][1]:.1f} %" in result.stdout
  assert result.returncode == 1 and "other.deepcomp: of another operating point" in result.stderr

  both = ("cat.deepcomp", "other.deepcomp", f"--classifier={networks}/classifier")
  result = deepcomp_here("classify", *both, "--json", "--top=1", cwd=tmp_path)
  good, bad = map(json.loads, result.stdout.splitlines())
  assert good["file"] == "cat.deepcomp" and good["classes"][0]["name"] == expected[0][0] and result.stderr == ""
  assert result.returncode == 1 and bad["file"] == "other.deepcomp" and "another operating point" in bad["error"]
  result = deepcomp_here("embed", *both, "--output=v/vectors.npy", cwd=tmp_path)
  assert result.returncode == 1 and "cat.deepcomp -> v/vectors.npy: 256 values" in result.stdout
  vectors = np.load(tmp_path / "v/vectors.npy")
  assert vectors.shape == (2, 256) and np.linalg.norm(vectors[0]) == pytest.approx(1) and np.isnan(vectors[1]).all()
  assert deepcomp_here("embed", *both, "--output=vectors.parquet", cwd=tmp_path).returncode == 1
  table = parquet.read_table(tmp_path / "vectors.parquet")
  assert table["file"].to_pylist() == ["cat.deepcomp"]
  np.testing.assert_array_equal(table["vector"].to_pylist()[0], vectors[0])

  segment = ("segment", "cat.deepcomp", f"--segmenter={networks}/segmenter", "--output=mask.png", "--overlay=new/overlay.png")
  result = deepcomp_here(*segment, cwd=tmp_path)
  assert result.returncode == 0 and "75x61" in result.stdout, result.stderr
  classes = dc.Segmenter.load(str(networks / "segmenter")).segment(data)
  with Image.open(tmp_path / "mask.png") as mask, Image.open(tmp_path / "new/overlay.png") as overlay:
    assert mask.mode == "P" and overlay.size == (75, 61)
    np.testing.assert_array_equal(np.array(mask), classes)
    assert mask.getpalette()[3 * 8:3 * 9] == [64, 0, 0]  # a cat's colour in VOC
  result = deepcomp_here(*segment, cwd=tmp_path)
  assert result.returncode == 1 and "mask.png exists; give --overwrite" in result.stderr

  for kind in ("classifier", "segmenter"):  # as if their operating point had been lost and found
    shutil.copytree(networks / kind, tmp_path / kind)
    path = tmp_path / kind / f"{kind}.json"
    path.write_text(path.read_text().replace('"bpp0.330"', '"lost/point"'))
  for command in (("classify", "cat.deepcomp", "--classifier=classifier"),
                  ("segment", "cat.deepcomp", "--segmenter=segmenter", "--output=again.png")):
    result = deepcomp_here(*command, cwd=tmp_path)
    assert result.returncode == 1 and "'lost/point'" in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
  assert deepcomp_here(*command, "--operating_point=bpp0.330", cwd=tmp_path).returncode == 0

  (tmp_path / "tree/deeper").mkdir(parents=True)
  for name in ("a", "deeper/b"):
    shutil.copy(tmp_path / "cat.deepcomp", tmp_path / f"tree/{name}.deepcomp")
  segment = ("segment", "tree", f"--segmenter={networks}/segmenter", "-o", "masks", "--overlay=overlays/")
  assert deepcomp_here(*segment, cwd=tmp_path).returncode == 0
  for place in ("masks/a.png", "masks/deeper/b.png"):
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / place)), classes)
  (tmp_path / "overlays/a.png").unlink()
  assert "masks/a.png exists; give --overwrite to replace it or --resume" in deepcomp_here(*segment, cwd=tmp_path).stderr
  result = deepcomp_here(*segment, "--resume", cwd=tmp_path)
  assert "2 of 2 files done, 1 of them before" in result.stdout and (tmp_path / "overlays/a.png").exists()
  result = deepcomp_here(*segment[:4], "-", "--overwrite", cwd=tmp_path)
  assert result.returncode == 1 and "expected a single file for standard output. Received: 2 files" in result.stderr
  given(monkeypatch, data)
  result = deepcomp_here("segment", "-", f"--segmenter={networks}/segmenter", "-o", "-", cwd=tmp_path, text=False)
  np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(result.stdout))), classes)

  embed = ("embed", "tree", f"--classifier={networks}/classifier", "-o", "vectors.parquet")
  result = deepcomp_here(*embed, "--resume", cwd=tmp_path)
  assert result.returncode == 0 and parquet.read_table(tmp_path / "vectors.parquet")["file"].to_pylist() == [
      "cat.deepcomp", "tree/a.deepcomp", "tree/deeper/b.deepcomp"]
  assert "2 of 2 files done, 2 of them before" in deepcomp_here(*embed, "--resume", cwd=tmp_path).stdout
  result = deepcomp_here("classify", "tree", "-o", "answers.jsonl", f"--classifier={networks}/classifier", cwd=tmp_path)
  lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
  assert [line["classes"][0]["name"] for line in lines] == 2 * [expected[0][0]] and "2 of 2 files done" in result.stdout

  result = deepcomp_here("segment", "other.deepcomp", f"--segmenter={networks}/segmenter", "--output=none.png", cwd=tmp_path)
  assert result.returncode == 1 and "other.deepcomp: of another operating point" in result.stderr
  assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("args, message", [
    (["compress", "x.jpg", "--operating_point=bpp9"], "no operating point 'bpp9': expected one of bpp0.0983"),
    (["decompress", "missing.deepcomp"], "cannot be read"),
    (["classify", "x.deepcomp", "--operating_point=bpp0.330"], "--operating_point is for --classifier"),
    (["evaluate", "--images=nowhere"], "expected a folder with images"),
    (["compress", "x.png", "--for=networks", "--effort=0"], "--for=networks takes an --effort above 0. Received: --effort=0"),
    (["evaluate", "--effort=0"], "one of the arguments --images --dataset is required"),
    (["compress", "x.jpg", "--jobs=0"], "--jobs must be at least 1"),
    (["compress", "x.jpg", "--resume", "--overwrite"], "expected --resume or --overwrite"),
    (["compress", "x.jpg", "-o", "/dev/null/out", "--operating_point=bpp9"], "a folder to write to. Received: /dev/null/out"),
    (["decompress", "x.deepcomp", "-o", "/dev/null/out"], "Received: /dev/null/out (/dev/null is no folder)"),
    (["decompress", "x.deepcomp", "--quality=90"],
     "expected --quality in 1 to 100, with --format=jpg or --format=webp. Received: --quality=90 with --format=png"),
    (["decompress", "x.deepcomp", "--format=jpg", "--quality=0"], "Received: --quality=0 with --format=jpg"),
    (["segment", "x.deepcomp", "-o", "/dev/null/mask.png"], "folder to write to. Received: /dev/null (/dev/null is no folder)"),
    (["compress", "x.jpg", "--ouptut_dir=out"], "deepcomp compress: error: unrecognized arguments: --ouptut_dir=out"),
    (["compress", "."], "expected a folder with images in it"),
    (["info", "."], "expected a folder with .deepcomp files in it. Received: ."),
    (["info"], "required"),
])
def test_errors_are_one_line(args, message, tmp_path):
  result = deepcomp(*args, cwd=tmp_path)
  assert result.returncode and message in result.stderr
  assert "Traceback" not in result.stderr
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize("command", [[], *([name] for name in ("compress", "decompress", "segment", "embed", "evaluate"))])
def test_help_tells_only_defaults_that_there_are(command, tmp_path):
  result = deepcomp(*command, "--help", cwd=tmp_path)
  assert result.returncode == 0 and result.stdout.startswith(" ".join(["usage: deepcomp", *command]))
  assert not re.search(r"\bdefaults?:? *(None|False)", result.stdout)


def test_version(tmp_path):
  result = deepcomp("--version", cwd=tmp_path)
  assert (result.returncode, result.stdout) == (0, f"deepcomp {dc.__version__}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="may write everywhere")
def test_folders_that_may_not_be_written_to(tmp_path):
  (tmp_path / "kept").mkdir(mode=0o555)
  result = deepcomp("compress", "x.jpg", "--output_dir=kept/new", cwd=tmp_path)
  assert result.returncode == 1 and "a folder that can be written to. Received: kept/new" in result.stderr


def _without_log_level():
  return {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


@pytest.mark.slow
def test_info_and_help_import_no_tensorflow(tmp_path):
  path = tmp_path / "photo.deepcomp"
  path.write_bytes(dc.Codec.load("bpp0.0983").compress(samples.photos()["coffee"][:64, :80]))
  code = ("import atexit, sys; from deepcomp_tf import cli; "
          "atexit.register(lambda: print('imported' if {'tensorflow', 'numba'} & sys.modules.keys() else 'not imported')); "
          "cli.main()")
  for arguments in (["info", str(path)], ["--help"]):
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("not imported\n"), result.stdout
  for wrong in (["classify", "missing.deepcomp"], ["segment", str(path), "-o", str(path)], ["compress", "x.png", "--effort=10"],
                ["embed", "x", "-o", "v.npy", "--classifier=nobody"],
                ["evaluate", f"--images={tmp_path}", "--operating_point=bpp9"]):
    result = subprocess.run([sys.executable, "-c", code, *wrong], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1 and result.stdout == "not imported\n" and len(result.stderr.splitlines()) == 1, result
  result = subprocess.run([sys.executable, "-c", code, "decompress", str(path)], capture_output=True, text=True, check=True)
  assert result.stdout.endswith("\nimported\n")


@pytest.mark.slow
def test_nothing_of_tensorflow_is_said(tmp_path):
  Image.fromarray(samples.photos()["coffee"][:40, :40]).save(tmp_path / "photo.png")
  run = lambda *arguments, **environment: subprocess.run(
      [sys.executable, "-m", *arguments], cwd=tmp_path, env={**_without_log_level(), **environment}, capture_output=True,
      text=True, check=False)
  result = run("deepcomp_tf.cli", "compress", "photo.png", "--operating_point=bpp9", TF_CPP_MIN_LOG_LEVEL="3")
  assert result.returncode == 1 and result.stderr.startswith("deepcomp: no operating point 'bpp9'")
  assert len(result.stderr.splitlines()) == 1
  result = run("deepcomp_tf.cli", "compress", "photo.png")
  assert result.returncode == 0 and result.stderr == "" and len(result.stdout.splitlines()) == 1


def test_outputs_that_would_collide_are_refused(tmp_path):
  for folder in ("a", "b", "out"):
    (tmp_path / folder).mkdir()
    Image.fromarray(samples.photos()["coffee"][:16, :16]).save(tmp_path / folder / "photo.png")
  result = deepcomp("compress", "a/photo.png", "b/photo.png", "--output_dir=out", cwd=tmp_path)
  assert result.returncode == 1
  assert "outputs of their own. Received: a/photo.png and b/photo.png, both for out/photo.deepcomp" in result.stderr
  assert os.listdir(tmp_path / "out") == ["photo.png"]


def test_remote_files(folder, tmp_path):
  there = f"file://{tmp_path}/new"  # a remote path that processes share
  (tmp_path / "new").mkdir()
  result = deepcomp_here("compress", f"file://{folder}/coffee.png", "s3://bucket/photo.png", f"--output_dir={there}",
                         "--effort=0", cwd=tmp_path)
  assert "1 of 2 files done, 1 failed" in result.stdout and "Traceback" not in result.stderr
  assert "s3://bucket/photo.png: expected a" in result.stderr
  result = deepcomp_here("info", f"{there}/coffee.deepcomp", cwd=tmp_path)
  assert result.returncode == 0 and f"{there}/coffee.deepcomp: 120x96 pixels" in result.stdout
  result = deepcomp_here("decompress", f"{there}/coffee.deepcomp", cwd=tmp_path)  # beside it
  assert result.returncode == 0 and Image.open(tmp_path / "new/coffee.png").size == (120, 96)
  result = deepcomp_here("decompress", f"{there}/coffee.deepcomp", f"{there}/none.deepcomp", cwd=tmp_path)
  assert "coffee.png exists; give --overwrite" in result.stderr and "none.deepcomp: cannot be read: No such file" in result.stderr
  result = deepcomp_here("compress", f"{folder}/coffee.png", "--operating_point=gs:/point", f"--output_dir={there}/none",
                         cwd=tmp_path)
  assert result.returncode == 1 and "no operating point 'gs:/point'" in result.stderr
  assert os.listdir(tmp_path) == ["new"]
