"""What a word of a search means: classes, by WordNet's synonyms and hypernyms."""

import difflib
import functools
import os

from deepcomp_tf.errors import DeepcompError


@functools.lru_cache(maxsize=None)
def _synsets():
  """Dicts of words.tsv: from a word in lower case to the ids of its synsets, from an id to those right below it, and from the
  name of one of ImageNet's classes to its id. Ids of VOC's classes are voc- and the name."""
  ids, below, classes = {}, {}, {}
  with open(os.path.join(os.path.dirname(__file__), "words.tsv"), encoding="utf-8") as file:
    for line in file:
      if line.startswith("#"):
        continue
      synset, name, above, words = line.rstrip("\n").split("\t")
      for parent in above.split():
        below.setdefault(parent, []).append(synset)
      if name and not synset.startswith("voc-"):
        classes[name] = synset
      for word in filter(None, (*words.split(", "), name)):
        ids.setdefault(word.lower(), set()).add(synset)
  return ids, below, classes


def meaning_of(text, labels):
  """The classes that a word stands for: those that have it as their name, a synonym or a hypernym.

  Args:
    text: such as "dog", "tabby cat" or "dogs".
    labels: names of a classifier's classes.

  Returns:
    (set of these labels, set of names of VOC's classes).

  Raises:
    DeepcompError: it is no class's name, synonym or hypernym; the message names the nearest that are.
  """
  ids, below, classes = _synsets()
  word, known = " ".join(text.lower().split()), {**ids, **{label.lower(): () for label in labels}}
  word = next((form for form in (word, word.removesuffix("s"), word.removesuffix("es")) if form in known), word)
  if word not in known:
    near = difflib.get_close_matches(word, known, 4)
    raise DeepcompError("expected the name of a class of ImageNet or VOC, or a word for several, such as dog, bird or car, since "
                        f"photos are found by labels. Received: {text!r}"
                        + (f"; the nearest are {', '.join(near)}" if near else ""))
  found, todo = set(), list(ids.get(word, ()))
  while todo:
    synset = todo.pop()
    if synset not in found:
      found.add(synset)
      todo += below.get(synset, ())
  return ({label for label in labels
           if label.lower() == word or ({classes[label]} if label in classes else ids.get(label.lower(), set())) & found},
          {synset.removeprefix("voc-") for synset in found if synset.startswith("voc-")})
