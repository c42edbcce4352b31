"""Pillow opens and saves .deepcomp files, as it does those of its own formats."""

import io
import pickle
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
from PIL import UnidentifiedImageError
import pytest

import deepcomp_tf as dc
from deepcomp_tf import pillow
from deepcomp_tf import samples
from deepcomp_tf import shipped

PHOTO = samples.photos()["coffee"][:61, :75]


@pytest.fixture(name="path", scope="module")
def fixture_path(tmp_path_factory):
  path = tmp_path_factory.mktemp("pillow") / "photo.deepcomp"
  path.write_bytes(dc.Codec.load("bpp0.635").compress(PHOTO))
  return path


@pytest.fixture(name="picture", scope="module")
def fixture_picture(path):
  return dc.Codec.load("bpp0.635").decompress(path.read_bytes())


def test_open_reads_the_header_and_load_the_pixels(path, picture):
  with Image.open(path) as image:
    assert (image.format, image.mode, image.size) == ("DEEPCOMP", "RGB", (75, 61))
    assert image.fp.tell() <= 16
    np.testing.assert_array_equal(np.array(image), picture)
    assert image.fp is None  # as of any file that Pillow has opened and read
  buffer = io.BytesIO(path.read_bytes())
  image = Image.open(buffer)
  assert image.crop((8, 8, 40, 32)).tobytes() == picture[8:32, 8:40].tobytes()
  assert not buffer.closed


def test_nothing_is_decoded_before_it_is_asked_for(path):
  code = ("import sys; from PIL import Image; import deepcomp_tf.pillow; image = Image.open(sys.argv[1]); image.verify(); "
          "print(image.size, 'tensorflow' in sys.modules)")
  result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
  assert result.stdout == "(75, 61) False\n"


def test_an_open_image_and_its_copies_are_pickled(path, picture):
  again = pickle.loads(pickle.dumps(Image.open(path)))
  assert again.filename == str(path) and again == Image.open(path)
  np.testing.assert_array_equal(np.array(again.copy()), picture)


def test_verify(path):
  image = Image.open(path)
  image.verify()
  assert image.fp is None
  with pytest.raises(RuntimeError, match="directly after open"):
    image.verify()


def test_damaged_files_raise_what_those_of_other_formats_do(path):
  data = path.read_bytes()
  for damaged in (data[:-3], data[:16], data[:-1] + bytes([data[-1] ^ 1])):
    for read in (Image.Image.load, Image.Image.verify, Image.Image.tobytes):
      image = Image.open(io.BytesIO(damaged))
      read = getattr(image, read.__name__)
      with pytest.raises(OSError, match="^damaged or truncated") as raised:
        read()
      assert isinstance(raised.value.__cause__, dc.BitstreamError)
  for damaged in (data[:2], data[:9], b"dc\x02" + data[3:], b"dc" + bytes(60)):
    with pytest.raises(UnidentifiedImageError):
      Image.open(io.BytesIO(damaged))


def test_a_size_that_is_too_large_is_refused_as_of_all_images(path):
  data = path.read_bytes()
  data = data[:6] + b"\xff\xff\x7f" * 2 + data[8:]
  with pytest.raises(Image.DecompressionBombError):
    Image.open(io.BytesIO(data))


def test_save(tmp_path):
  codec = dc.Codec.load("bpp0.0983")
  image = Image.fromarray(PHOTO)
  image.save(tmp_path / "a.deepcomp", operating_point="bpp0.0983")
  assert (tmp_path / "a.deepcomp").read_bytes() == codec.compress(PHOTO)
  image.save(tmp_path / "b.deepcomp", quality=90)  # an option of other formats means nothing, as elsewhere in Pillow
  assert dc.Codec.load_for((tmp_path / "b.deepcomp").read_bytes()).operating_point == "bpp0.330"
  for options, message in (({"operating_point": "bpp9"}, "no operating point 'bpp9'"), ({"effort": 10}, "`effort` must be")):
    with pytest.raises(dc.DeepcompError, match=message):
      image.save(tmp_path / "c.deepcomp", **options)
  assert not (tmp_path / "c.deepcomp").exists()


def _saved(image):
  image.save(buffer := io.BytesIO(), "deepcomp")
  return buffer.getvalue()


def test_other_modes_are_converted_as_photos_are():
  gray = Image.fromarray(PHOTO).convert("L")
  as_rgb = _saved(gray.convert("RGB"))
  deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
  assert deep.mode == "I;16" and _saved(gray) == _saved(deep) == as_rgb
  over_white = Image.fromarray(PHOTO)
  over_white.putalpha(0)
  assert _saved(over_white) == _saved(Image.new("RGB", over_white.size, "white"))
  with pytest.raises(OSError, match="^cannot write mode F as DEEPCOMP: expected integer samples"):
    _saved(gray.convert("F"))


def test_files_of_another_operating_point_are_read_once_it_is_loaded(tmp_path, monkeypatch):
  codec = dc.Codec.load("bpp0.330")
  data = codec.compress(PHOTO)
  monkeypatch.setattr(shipped, "names", lambda kind: [])  # as if it were not
  for known in ("_by_source", "_by_fingerprint"):
    monkeypatch.setattr(pillow, known, {})
  with pytest.raises(OSError, match="^of an unknown operating point"):
    Image.open(io.BytesIO(data)).load()
  pillow.codec_of("bpp0.330")
  np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data))), codec.decompress(data))


@pytest.mark.parametrize("module", ["imageio.v3", "imageio.v2", "skimage.io"])
def test_what_reads_images_through_pillow(module, path, picture, tmp_path):
  library = pytest.importorskip(module)
  np.testing.assert_array_equal(library.imread(path), picture)
  if module == "imageio.v3":
    library.imwrite(tmp_path / "new.deepcomp", PHOTO, operating_point="bpp0.635")
    assert (tmp_path / "new.deepcomp").read_bytes() == path.read_bytes()


def test_a_folder_with_the_tables_of_a_shipped_operating_point_reads_nothing(tmp_path, monkeypatch):
  shutil.copytree(shipped.find("operating point", "bpp0.330"), tmp_path / "mine")
  for known in ("_by_source", "_by_fingerprint"):
    monkeypatch.setattr(pillow, known, {})
  own = pillow.codec_of(tmp_path / "mine")
  assert pillow.codec_of(str(tmp_path / "mine")) is own
  monkeypatch.setattr(own, "decompress", None)  # another decoder
  image = Image.fromarray(PHOTO)
  image.save(buffer := io.BytesIO(), "deepcomp", operating_point=tmp_path / "mine")
  assert Image.open(buffer).tobytes() == pillow.codec_of("bpp0.330").decompress(buffer.getvalue()).tobytes()
