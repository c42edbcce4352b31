"""The thousand classes of ImageNet (ILSVRC 2012), as people call them."""

import os


def imagenet_classes():
  """Their names, list of str in the order of the labels: of the WordNet ids, as TFDS's `imagenet2012` has them."""
  path = os.path.join(os.path.dirname(__file__), "imagenet_classes.txt")
  with open(path, encoding="utf-8") as file:
    return file.read().splitlines()
