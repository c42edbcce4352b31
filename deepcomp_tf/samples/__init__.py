"""A few photos that may be redistributed, for the quickstart and the tests; LICENCES.md says whose they are."""

import os

from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data.photos import list_images


def photos():
  """The sample photos by name: dict of uint8 `[h, w, 3]`."""
  return {os.path.splitext(os.path.basename(path))[0]: read_image(path)
          for path in list_images(os.path.dirname(__file__))}
