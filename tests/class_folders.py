"""Folders of small classification sets, for tests: split/class/*.png."""

import io

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")
SIZES = {"train": [(40, 48), (48, 40), (64, 40), (40, 40)], "val": [(48, 48)]}


def number(split, label, index):
  return 10 * label + index + (100 if split == "val" else 0)


def write(root, sizes_of=SIZES):
  """Images whose pixels tell their row, their column, and a number that tells their class."""
  for split, sizes in sizes_of.items():
    for label, name in enumerate(CLASSES):
      (root / split / name).mkdir(parents=True)
      for index, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([rows, columns, np.full_like(rows, number(split, label, index))], -1).astype(np.uint8)
        Image.fromarray(pixels).save(root / split / name / f"{index}.png")
  return str(root)


def jpeg(pixels, orientation):
  """The bytes of a JPEG file whose EXIF has an orientation."""
  exif = Image.Exif()
  exif[0x0112] = orientation
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, "jpeg", quality=95, exif=exif)
  return buffer.getvalue()
