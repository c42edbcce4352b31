"""What becomes of every kind of image file."""

import io
import struct
import sys

import numpy as np
from PIL import Image
from PIL import PngImagePlugin
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec import colors as color_modes
from deepcomp_tf.codec import container
from deepcomp_tf.codec import formats
from deepcomp_tf.codec import images
import icc


def saved(tmp_path, name, array, mode=None, **options):
  path = str(tmp_path / name)
  Image.fromarray(array, mode).save(path, **options)
  return path


def test_rgb_is_read_as_it_is(tmp_path):
  array = np.random.default_rng(0).integers(0, 256, [5, 7, 3], np.uint8)
  for name, options in (("a.png", {}), ("a.webp", {"lossless": True}), ("a.bmp", {})):
    np.testing.assert_array_equal(images.read_image(saved(tmp_path, name, array, **options)), array)


def test_grayscale_and_palette(tmp_path):
  gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
  np.testing.assert_array_equal(images.read_image(saved(tmp_path, "g.png", gray)), np.stack([gray] * 3, axis=-1))
  palette = Image.fromarray(gray % 2, "P")
  palette.putpalette([255, 0, 0, 0, 0, 255])
  palette.save(tmp_path / "p.png")
  expected = np.where((gray % 2)[..., None], [0, 0, 255], [255, 0, 0])
  np.testing.assert_array_equal(images.read_image(str(tmp_path / "p.png")), expected)


def test_transparency_is_laid_over_white(tmp_path):
  rgba = np.zeros([1, 3, 4], np.uint8)
  rgba[0, :, 3] = (0, 51, 255)  # transparent, one fifth, opaque black
  np.testing.assert_array_equal(images.read_image(saved(tmp_path, "t.png", rgba))[0, :, 0], [255, 204, 0])


def test_sixteen_bits_are_rounded(tmp_path):
  deep = np.array([[0, 128, 129, 257, 65535]], np.uint16)
  assert images.read_image(saved(tmp_path, "d.png", deep))[0, :, 0].tolist() == [0, 0, 1, 1, 255]


def test_exif_orientation_is_applied(tmp_path):
  array = np.zeros([4, 6, 3], np.uint8)
  array[0, 0] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned clockwise
  path = saved(tmp_path, "e.png", array, exif=exif)
  turned = images.read_image(path)
  assert turned.shape == (6, 4, 3) and turned[0, 3, 0] == 255


def test_bad_files(tmp_path, monkeypatch):
  with pytest.raises(dc.DeepcompError, match="There is none at"):
    images.read_image(str(tmp_path / "missing.png"))
  (tmp_path / "text.png").write_text("no image")
  with pytest.raises(dc.DeepcompError, match="Pillow can read.*text.png"):
    images.read_image(str(tmp_path / "text.png"))
  path = saved(tmp_path, "whole.png", np.random.default_rng(0).integers(0, 256, [50, 50, 3], np.uint8))
  data = open(path, "rb").read()
  (tmp_path / "cut.png").write_bytes(data[:len(data) // 2])
  with pytest.raises(dc.DeepcompError, match="cut.png"):
    images.read_image(str(tmp_path / "cut.png"))
  with pytest.raises(dc.DeepcompError, match="floating-point"):
    images.read_image(saved(tmp_path, "f.tif", np.ones([2, 2], np.float32)))
  monkeypatch.setattr(container, "MAX_PIXELS", 2499)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1250)  # half of it, as Pillow has it
  with pytest.raises(dc.DeepcompError, match="at most 2499 pixels .*Received: .*whole.png .50x50 pixels."):
    images.read_image(path)
  monkeypatch.setattr(container, "MAX_PIXELS", 2500)
  assert images.read_image(path).shape == (50, 50, 3)


def stored(image, form, **options):
  buffer = io.BytesIO()
  image.save(buffer, form, **options)
  return buffer.getvalue()


def exif_of(*entries):
  """An EXIF block of (tag, type, value) entries; a value of 8 bytes stands behind them."""
  at, table, behind = 8 + 2 + 12 * len(entries) + 4, b"", b""
  for tag, kind, value in entries:
    small = isinstance(value, int)
    table += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value if small else at + len(behind))
    behind += b"" if small else value
  return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + behind


@pytest.mark.parametrize("entry", [
    (0x8769, 4, 0xffffff), (0x011a, 10, struct.pack("<ii", -1, 0)), (0x0112 + 1, 2, 7), (0x8825, 4, 38), (0x010f, 99, 3)])
def test_exif_that_nobody_can_write_again(entry):
  """Only its orientation is wanted."""
  array = np.zeros([16, 24, 3], np.uint8)
  array[:8, :8] = 255
  data = stored(Image.fromarray(array), "jpeg", exif=exif_of((0x0112, 3, 6), entry))
  turned = images.read_image("x", data)
  assert turned.shape == (24, 16, 3) and turned[2, 13].min() > 250 and turned[2, 2].max() < 5


def test_exif_that_cannot_be_read_turns_nothing():
  for exif in (b"Exif\0\0", b"Exif\0\0XX*\0", b"Exif\0\0II*\0\xff\xff\xff\xff"):
    assert images.read_image("x", stored(Image.new("RGB", (24, 16)), "jpeg", exif=exif)).shape == (16, 24, 3)


COLORS = np.array([[[200, 60, 40], [30, 180, 90], [128, 128, 128], [250, 240, 230], [20, 40, 160]]], np.uint8)


@pytest.mark.parametrize("form", ["png", "tiff", "webp", "avif"])
def test_colours_are_brought_to_srgb(form):
  options = {"webp": {"lossless": True}, "avif": {"quality": 100, "subsampling": "4:4:4"}}.get(form, {})
  profile, colors = icc.rgb(icc.DISPLAY_P3, 2.2), COLORS.repeat(8, 0).repeat(8, 1)
  expected = icc.to_srgb(COLORS, icc.DISPLAY_P3, 2.2)
  found = images.read_image("x", stored(Image.fromarray(colors), form, icc_profile=profile, **options))[4:5, 4::8]
  assert np.abs(found - expected).max() <= (4 if form == "avif" else 2) < np.abs(COLORS - expected).max() - 10
  # Transparency is kept apart: half of the colour, half white.
  half = np.concatenate([colors, np.full([*colors.shape[:2], 1], 128, np.uint8)], -1)
  if form != "avif":
    found = images.read_image("x", stored(Image.fromarray(half), form, icc_profile=profile, **options))[4:5, 4::8]
    assert np.abs(found - (128 * expected + 127 * 255) / 255).max() <= 2


def test_profiles_of_gray_and_of_inks():
  gray = np.array([[0, 64, 128, 255]], np.uint8)
  found = images.read_image("x", stored(Image.fromarray(gray), "png", icc_profile=icc.gray(1.0)))
  expected = icc.to_srgb(np.stack([gray] * 3, -1), icc.SRGB, 1.0)
  assert np.abs(found - expected).max() <= 1 and expected[0, 1, 0] > 130
  # Gray in a colour photo's profile, as scanners write it, and with transparency.
  found = images.read_image("x", stored(Image.fromarray(gray), "tiff", icc_profile=icc.rgb(icc.SRGB, 1.0)))
  assert np.abs(found - expected).max() <= 1
  opaque = Image.merge("LA", [Image.fromarray(gray), Image.new("L", (4, 1), 255)])
  assert np.abs(images.read_image("x", stored(opaque, "png", icc_profile=icc.gray(1.0))) - expected).max() <= 1

  inks = {(0, 0, 0, 0): (100, 0, 0), (1, 0, 0, 0): (60, -30, -40), (0, 1, 0, 0): (50, 60, 0)}
  pixels = Image.new("CMYK", (3, 1))
  for place, ink in enumerate(inks):
    pixels.putpixel((place, 0), tuple(255 * amount for amount in ink))
  found = images.read_image("x", stored(pixels, "tiff", icc_profile=icc.cmyk(inks)))
  expected = [icc.lab_to_srgb(*color) for color in inks.values()]
  assert np.abs(found[0] - expected).max() <= 3


def test_profiles_that_change_nothing():
  png = lambda profile: images.read_image("x", stored(Image.fromarray(COLORS), "png", icc_profile=profile))
  srgb = color_modes.SRGB.tobytes()
  for profile in (srgb, b"no profile", icc.rgb(icc.DISPLAY_P3, 2.2)[:200], icc.cmyk({}), icc.gray(1.0)):
    np.testing.assert_array_equal(png(profile), COLORS)


def test_chunks_of_png_that_pillow_finds_too_large():
  texts = PngImagePlugin.PngInfo()
  texts.add_text("Comment", 40_000_000 * "x", zip=True)
  np.testing.assert_array_equal(images.read_image("x", stored(Image.fromarray(COLORS), "png", pnginfo=texts)), COLORS)
  profile = icc.rgb(icc.DISPLAY_P3, 2.2, more=3_000_000)
  found = images.read_image("x", stored(Image.fromarray(COLORS), "png", icc_profile=profile))
  assert np.abs(found - icc.to_srgb(COLORS, icc.DISPLAY_P3, 2.2)).max() <= 2


def test_transparency_of_one_colour(tmp_path):
  deep = np.array([[500, 501, 65535]], np.uint16)
  data = stored(Image.fromarray(deep), "png", transparency=500)
  assert images.read_image("x", data)[0, :, 0].tolist() == [255, 2, 255]
  data = stored(Image.fromarray(COLORS), "png", transparency=(30, 180, 90))
  assert images.read_image("x", data)[0, :2].tolist() == [[200, 60, 40], [255, 255, 255]]
  palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
  palette.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])
  assert images.read_image("x", stored(palette, "gif", transparency=1))[0, :, 0].tolist() == [9, 255, 7]


def test_whatever_a_decoder_raises_is_that_photos_error(monkeypatch):
  data = stored(Image.fromarray(COLORS), "png")
  for error in (struct.error("unpack"), KeyError(7), ZeroDivisionError(), RecursionError(), MemoryError(), AssertionError()):
    def load(*_, error=error):
      raise error
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_prepare", load)
    with pytest.raises(dc.DeepcompError, match="Received: the.png"):
      images.read_image("the.png", data)


@pytest.mark.parametrize("form, module, options", [("heif", "pillow_heif", {"quality": 100, "chroma": 444}),
                                                   ("jxl", "pillow_jxl", {"lossless": True})])
def test_formats_of_plugins(tmp_path, monkeypatch, form, module, options):
  plugin = pytest.importorskip(module)
  if form == "heif":
    plugin.register_heif_opener()
  colors = COLORS.repeat(16, 0).repeat(16, 1)
  path = tmp_path / "photo"
  path.write_bytes(stored(Image.fromarray(colors), form, icc_profile=icc.rgb(icc.DISPLAY_P3, 2.2), **options))
  assert images.is_photo(str(path))
  found = images.read_image(str(path))[8:9, 8::16]
  expected = COLORS if form == "jxl" else icc.to_srgb(COLORS, icc.DISPLAY_P3, 2.2)  # that plugin writes no profiles
  assert np.abs(found - expected).max() <= 6
  formats.load_plugin.cache_clear()
  monkeypatch.setitem(sys.modules, module, None)
  assert images.is_photo(str(path))
  with pytest.raises(dc.DeepcompError, match=r"'.\[formats\]'. Received: .*photo"):
    images.read_image(str(path))


def test_what_counts_as_a_photo(tmp_path):
  jpeg = stored(Image.fromarray(COLORS), "jpeg")
  contents = {"a.jfif": jpeg, "b.JPE": jpeg, "noending": jpeg, "c.bin": stored(Image.fromarray(COLORS), "ppm"), "d.tga": jpeg,
              "broken.jpg": b"", "e.NEF": b"", "notes.txt": b"P notes", "._a.jpg": b"\0\5\x16\7",
              "f.deepcomp": jpeg, "g.json": b"{}"}
  for name, data in contents.items():
    (tmp_path / name).write_bytes(data)
  photos = {name for name in contents if images.is_photo(str(tmp_path / name))}
  assert photos == {"a.jfif", "b.JPE", "noending", "c.bin", "d.tga", "broken.jpg", "e.NEF"}
  with pytest.raises(dc.DeepcompError, match="camera's raw file"):
    images.read_image(str(tmp_path / "e.NEF"))


def test_encode_picture():
  photo = samples.photos()["coffee"][:40, :60]
  sizes = {}
  for kind, quality in (("png", None), ("jpg", 1), ("jpg", None), ("jpg", 100), ("webp", 1), ("webp", None), ("webp", 100)):
    data = images.encode_picture(photo, kind, quality)
    assert Image.open(io.BytesIO(data)).format == images.PICTURE_KINDS[kind]
    sizes.setdefault(kind, []).append(len(data))
  for kind in ("jpg", "webp"):
    assert sorted(set(sizes[kind])) == sizes[kind]
  np.testing.assert_array_equal(images.read_image("", images.encode_picture(photo, "png")), photo)
  for kind, quality, message in (("png", 90, "for jpg and webp"), ("jpg", 0, "1..100"), ("webp", 101, "1..100")):
    with pytest.raises(dc.DeepcompError, match=message):
      images.encode_picture(photo, kind, quality)
  with pytest.raises(dc.DeepcompError, match="^expected a picture that a webp file can hold. Received: one of 16384x1 pixels"):
    images.encode_picture(np.zeros([1, 16384, 3], np.uint8), "webp")
  with pytest.raises(dc.DeepcompError, match="^expected a picture that a jpg file can hold. Received: one of 65536x1 pixels"):
    images.encode_picture(np.zeros([1, 65536, 3], np.uint8), "jpg")
