"""The thousand classes of ImageNet (ILSVRC 2012), as people call them and by their WordNet ids, and classes found by either."""

import pathlib


def _lines():
  """(WordNet id, name) of each class, in the order of the labels, which is that of the ids."""
  text = pathlib.Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
  return [line.split("\t") for line in text.splitlines()]


def imagenet_classes():
  """Their names, list of str in the order of the labels of TFDS's `imagenet2012`."""
  return [name for _, name in _lines()]


def places_of(names, class_names):
  """The place of each of a set's classes among those of a classifier: list of int, or None where the classifier does not know it.

  Classes are the same by their names, by their names but for capitals and underscores where that is no other class, too, or by
  the WordNet id of ImageNet's class of that name, as TFDS's `imagenet2012` and `imagenette` have it.
  """
  alike, by_id = lambda name: " ".join(name.lower().replace("_", " ").split()), dict(_lines())
  exact = {name: place for place, name in enumerate(class_names)}
  loose = {}
  for place, name in enumerate(class_names):
    loose.setdefault(alike(name), []).append(place)

  def place_of(name):
    for form in (name, by_id.get(name, name)):
      if form in exact:
        return exact[form]
    places = loose.get(alike(by_id.get(name, name)), [])
    return places[0] if len(places) == 1 else None

  return list(map(place_of, names))
