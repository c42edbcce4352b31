"""The thousand classes of ImageNet (ILSVRC 2012), as people call them."""

import pathlib


def imagenet_classes():
  """Their names, list of str in the order of the labels: of the WordNet ids, as TFDS's `imagenet2012` has them."""
  return pathlib.Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
