"""A few photos that may be redistributed, for the quickstart and the tests; LICENCES.md says whose they are."""

import json
import os

import numpy as np
from PIL import Image

from deepcomp_tf.codec.images import read_image
from deepcomp_tf.codec.images import list_images


_ANSWERS = os.path.join(os.path.dirname(__file__), "backbone_answers.json")


def backbone_answers():
  """What the backbone of the shipped grafts says of the photos' squares in the middle, before they are compressed.

  `experiments.evaluate_graft --record_samples` wrote it, since the backbone itself is not shipped.

  Returns:
    the backbone's name, and a dict from the photos' names to [class name, probability], most probable first.
  """
  with open(_ANSWERS, encoding="utf-8") as file:
    recorded = json.load(file)
  return recorded["backbone"], recorded["answers"]


def photos(longer_side=None):
  """The sample photos by name: dict of uint8 `[h, w, 3]`, reduced to a longer side in pixels where one is given."""
  found = {}
  for path in list_images(os.path.dirname(__file__)):
    image = read_image(path)
    if longer_side:
      scale = longer_side / max(image.shape[:2])
      size = [round(scale * edge) for edge in image.shape[1::-1]]
      image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    found[os.path.splitext(os.path.basename(path))[0]] = image
  return found
