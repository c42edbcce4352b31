"""What becomes of every kind of image file."""


import numpy as np
from PIL import Image
import pytest

import deepcomp_tf as dc
from deepcomp_tf.codec import images


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
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
  with pytest.raises(dc.DeepcompError, match="at most 1000 pixels"):
    images.read_image(path)
