"""Pictures for people: what must be seen on them is on them."""

import io

import numpy as np
from PIL import Image

from deepcomp_tf import mask_classes
from deepcomp_tf.evaluation import figures

# Red as JPEG keeps it exactly at every quality would be too much to ask; this is how near it comes.
NEAR = 24


def _colors(png):
  """{color: how many pixels have it}"""
  with Image.open(io.BytesIO(png)) as image:
    pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
  colors, counts = np.unique(pixels, axis=0, return_counts=True)
  return dict(zip(map(tuple, colors.tolist()), counts))


def _pixels_near(png, color):
  return sum(count for found, count in _colors(png).items() if np.abs(np.subtract(found, color)).max() <= NEAR)


def test_dark_classes_are_seen_on_the_background():
  mask = np.zeros([40, 60], np.uint8)
  mask[10:30, 20:40] = 8  # a cat, (64, 0, 0)
  colors = _colors(figures.segmentation_figure([[[("mask", mask)]]], mask_classes.VOC))
  assert colors[64, 0, 0] > 1000 and colors[240, 240, 240] > 1000 and colors.get((0, 0, 0), 0) < 300


def test_a_detail_is_shown_and_not_the_whole_photo():
  photo = np.zeros([128, 160, 3], np.uint8)
  photo[...] = 0, 0, 200
  photo[32:64, 32:80] = 200, 0, 0
  decoded = np.zeros_like(photo)
  decoded[32:64, 32:80] = 0, 200, 0
  png = figures.detail_figure([("photo", photo, (32, 32), [("bpp0.330", 900, decoded)])], height=32, width=48)
  detail = _pixels_near(png, (0, 200, 0))
  assert detail > 50_000  # ours, the detail alone
  # The original's and JPEG's detail, and the photo, of which it is a small part.
  assert 1.8 * detail < _pixels_near(png, (200, 0, 0)) < 2.4 * detail
  assert _pixels_near(png, (0, 0, 200)) < detail
