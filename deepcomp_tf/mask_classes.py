"""The classes of segmentation masks, `MaskClass`: Pascal VOC's, and those of a JSON file; and pictures of masks."""

import collections
import io
import json
from typing import NamedTuple

import numpy as np
from PIL import Image

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError

# The id of pixels that belong to no class; no network learns it and no measure counts it.
VOID = 255
# A class of this name stays as it is where masks are laid over photos.
BACKGROUND = "background"


class MaskClass(NamedTuple):
  """A class of a segmentation set: its name, the id of its pixels in masks, 0..254, and (red, green, blue) in pictures."""
  name: str
  id: int
  color: tuple


def numbered(names, ids=None):
  """Classes of these names in VOC's colours; their ids are 0, 1, ... where they are not given."""
  colors = voc_colors()
  ids = range(len(names)) if ids is None else ids
  return [MaskClass(name, number, tuple(colors[number].tolist())) for name, number in zip(names, ids, strict=True)]


def read_classes(path):
  """The classes of a JSON file, a list such as

    [{"id": 7, "name": "road", "color": [128, 64, 128]}, {"id": 11, "name": "building"}, ...]

  in which a class without a color has VOC's of its id. Raises a DeepcompError where it is missing or something else.
  """
  try:
    entries = files.read_json(path)
  except (OSError, ValueError) as error:
    reason = error.strerror if isinstance(error, OSError) else error
    raise DeepcompError(f"expected a JSON file of classes. Received: {path} ({reason})") from None
  return check_classes(entries, path)


def check_classes(entries, source):
  """The list of `MaskClass` that entries of a JSON file describe, see `read_classes`; errors name the `source`."""
  if not isinstance(entries, list) or not entries:
    raise DeepcompError(f'expected a list of {{"id": 0, "name": "..."}} in {source}. Received: {str(entries)[:80]}')
  colors, classes = voc_colors(), []
  for entry in entries:
    try:
      name, number = entry["name"], entry["id"]
      color = entry.get("color", colors[number].tolist() if number in range(VOID) else None)
      right = (isinstance(name, str) and name and number in range(VOID) and len(color) == 3
               and all(value in range(256) for value in color))
    except (AttributeError, KeyError, TypeError):
      right = False
    if not right:
      raise DeepcompError(f'expected {{"id": 0..254, "name": "...", "color": [0..255, 0..255, 0..255]}} in {source}. '
                          f"Received: {json.dumps(entry)[:120]}")
    classes.append(MaskClass(name, number, tuple(color)))
  for part in ("name", "id"):
    (value, count), = collections.Counter(getattr(mask_class, part) for mask_class in classes).most_common(1)
    if count > 1:
      raise DeepcompError(f"expected each {part} once in {source}. Received: {value} more than once")
  return classes


def describe_classes(classes):
  """What `check_classes` reads: list of dicts for a JSON file."""
  return [{"id": known.id, "name": known.name, "color": list(known.color)} for known in classes]


def palette(classes):
  """The colours of mask ids: uint8 `[256, 3]`; VOC's where an id is no class's."""
  colors = voc_colors()
  for mask_class in classes:
    colors[mask_class.id] = mask_class.color
  return colors


def voc_colors():
  """VOC's colours of the ids 0..255: uint8 `[256, 3]`. The bits of an id are dealt out to the channels, highest first."""
  ids = np.arange(256)
  colors = np.zeros([256, 3], np.uint8)
  for bit in range(8):
    for channel in range(3):
      colors[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
  return colors


def encode_mask(mask, classes):
  """uint8 `[h, w]` ids of a list of `MaskClass` -> the bytes of a palette PNG in their colours."""
  image = Image.fromarray(mask)
  image.putpalette(palette(classes).ravel().tolist())
  buffer = io.BytesIO()
  image.save(buffer, "png")
  return buffer.getvalue()


def overlay(image, mask, classes, opacity=0.6):
  """A photo uint8 `[h, w, 3]` with a mask `[h, w]` laid over it; background and what is no class stay as they are.

  Classes have a white outline inside, a pixel wide for each 500 of the longer side, since dark ones are not seen on dark photos.
  """
  blended = np.rint((1 - opacity) * image + opacity * palette(classes)[mask]).astype(np.uint8)
  shown = np.isin(mask, [known.id for known in classes if known.name != BACKGROUND])
  overlaid = np.where(shown[..., np.newaxis], blended, image)
  overlaid[shown & _at_edges(mask, -(-max(mask.shape) // 500))] = 255
  return overlaid


def _at_edges(mask, width):
  """bool `[h, w]`: whether pixels at most `width` away, up, down, left or right, have another value than a pixel."""
  near = np.zeros(mask.shape, bool)
  for distance in range(1, width + 1):
    for rows, other_rows in ((slice(distance, None), slice(-distance)), (slice(-distance), slice(distance, None))):
      near[rows] |= mask[rows] != mask[other_rows]
      near[:, rows] |= mask[:, rows] != mask[:, other_rows]
  return near


# Pascal VOC's, the classes of the paper's section 5.
VOC = tuple(numbered((
    BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")))
