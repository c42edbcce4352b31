"""ImageNet's classes by name and by WordNet id."""

import pathlib

import pytest
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf.tasks import imagenet


def test_classes_are_found_by_their_names_or_by_their_ids():
  names = imagenet.imagenet_classes()
  for file, count in (("datasets/imagenet2012/labels.txt", 1000), ("image_classification/imagenette_labels.txt", 10)):
    ids = (pathlib.Path(tfds.__file__).parent / file).read_text().split()
    places = imagenet.places_of(ids, names)
    assert len(places) == count and None not in places
    if count == 1000:  # TFDS's labels are ours
      assert places == list(range(1000))
    else:
      assert [names[place] for place in places] == [
          "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck", "gas pump",
          "golf ball", "parachute"]
      assert imagenet.places_of([names[place].lower().replace(" ", "_") for place in places], names) == places


def test_names_that_differ_in_capitals_alone_are_different_classes():
  names = imagenet.imagenet_classes()
  dog, coat = names.index("Cardigan"), names.index("cardigan")
  assert imagenet.places_of(["Cardigan", "cardigan", "CARDIGAN", "n02963159"], names) == [dog, coat, None, coat]
  assert imagenet.places_of(["unicorn"], names) == [None]


@pytest.mark.parametrize("name", [name for name in dc.Classifier.names() if "birds" not in name])
def test_the_shipped_classifiers_know_imagenettes_ids(name):
  known = files.read_json(shipped.info_path("classifier", name))["class_names"]
  places = imagenet.places_of(["n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042",
                               "n03425413", "n03445777", "n03888257"], known)
  assert len(set(places)) == 10 and None not in places
