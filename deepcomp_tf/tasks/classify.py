"""Classifiers of compressed files: `Classifier`."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from etils import epy
from scipy import special

from deepcomp_tf import threads
from deepcomp_tf.bitstream import FileBytes
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import Errors
from deepcomp_tf.errors import first_of
from deepcomp_tf.tasks.base import Task

with epy.lazy_imports():
  import tensorflow as tf
  from deepcomp_tf import models
  from deepcomp_tf.tasks import last_layer


class Classifier(Task):
  """Classifies compressed files straight from their bytes.

  Examples:
    >>> classifier = Classifier.load(Classifier.names()[0])
    >>> classifier.classify(data)         # bytes -> [(class name, probability), ...], most probable first

  `export_saved_model` gives `logits` and `probabilities`, float32 `[batch, num_classes]`. Networks know objects of the size that
  they were trained on: representations of larger photos are halved until they have about that size (`tasks.halving`), and what is
  between the sizes is seen in both.

  Args:
    network: a `models.ResNet`, `models.CResNet`, `models.Graft` or `models.Backbone`.
    class_names: list of str, in the order of the network's logits; an attribute.
    inputs, info: see `Task`.
  """

  KIND = "classifier"

  def __init__(self, network, inputs, class_names: Sequence[str], info=None):
    super().__init__(network, inputs, class_names, info)
    self.class_names = self.names_in_order

  @classmethod
  def from_json(cls, info, inputs, network=None):
    return cls(network or models.from_blueprint(info, len(info["class_names"])), inputs, info["class_names"], info)

  def to_json(self):
    return {**self.network.blueprint(), **self.labels()}

  def logits(self, stored):
    """uint8 `[batch, h, w, channels]` pixels or symbols -> float32 `[batch, num_classes]`."""
    threads.check_fork()
    return self._forward(self.inputs(stored))

  def run(self, stored, height, width):
    threads.check_fork()
    logits = self.mean_answer(self._forward, stored, height, width)
    return [[(self.class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")]
            for row in special.softmax(logits / self.temperature, axis=-1)]

  @overload
  def classify(self, data: FileBytes, errors: Errors = ...) -> list[tuple[str, float]]: ...
  @overload
  def classify(self, data: Sequence[FileBytes], errors: Errors = ...) -> list[list[tuple[str, float]]]: ...

  def classify(self, data, errors="raise"):
    """Classes of a compressed file, or of several, of any sizes; arguments and errors as of `Task.answer`.

    Returns:
      list of (class name, probability), most probable first; or a list of such lists.
    """
    return self.answer(data, errors)

  def with_classes(self, class_names: Sequence[str]) -> "Classifier":
    """A classifier of other classes, list of str: the same network with a new last layer,
    which `fit` or training has to teach."""
    network = models.with_classes(self.network, len(class_names), self.inputs.channels)
    return Classifier(network, self.inputs, class_names, {key: self.info[key] for key in ("crop_size",) if key in self.info})

  def fit(self, data: Sequence[FileBytes], names: Sequence[str], **settings) -> "Classifier":
    """Trains the last layer on compressed files, and leaves the others as they are: seconds for a hundred photos.

    Examples:
      >>> classifier = Classifier.load("graft_bpp0.330").with_classes(["cat", "dog"])
      >>> classifier.fit(files, ["cat", "dog", "dog", ...]).save("own_classes")

    Photos are brought down to the size that the network knows, as in `classify`.

    Args:
      data: list of files, bytes or `Bitstream`s.
      names: the class of each, one of `class_names`.
      settings: of `last_layer.fit`.

    Returns:
      the classifier itself.
    """
    unknown = sorted(set(names) - set(self.class_names))
    if unknown or not names or len(names) != len(data):
      raise DeepcompError(f"expected a class for each of the {len(data)} files, at least one, of {first_of(self.class_names)}. "
                          f"Received: {len(names)}"
                          + (f", {unknown[0]!r} among them" if unknown else ""))
    see = tf.function(lambda x: self.network.vectors(x, training=False), reduce_retracing=True)
    vectors = self._each(list(data), "raise", lambda *photos: list(self.mean_answer(see, *photos)))
    last_layer.fit(self.network.last_layer, np.stack(vectors), [self.class_names.index(name) for name in names], **settings)
    return self

  def served(self, representation):
    logits = self.network(representation, training=False)
    return {"logits": logits, "probabilities": tf.nn.softmax(logits / self.temperature)}

  HELP = "The most probable classes of photos, straight from their .deepcomp files."

  @classmethod
  def add_arguments(cls, parser):
    parser.add_argument("--top", type=int, default=5, help="Classes to print, by default %(default)s.")

  @classmethod
  def check_arguments(cls, args):
    if args.top < 1:
      raise DeepcompError(f"--top must be at least 1. Received: {args.top}")

  def report(self, args, file, data, answer):
    classes, far = answer[:args.top], self.far_from_trained(data.height, data.width)
    return (f"{file}: " + ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in classes)
            + (f" ({far})" if far else ""),
            {**({"note": far} if far else {}),
             "classes": [{"name": name, "probability": round(probability, 6)} for name, probability in classes]})

  def far_from_trained(self, height, width):
    """What people should know of photos of that size, or an empty text: that they are far from the size the network knows."""
    if not self.trained_size:
      return ""
    seen = min(height, width) / 2 ** self.halvings(height, width)
    if 0.5 < seen / self.trained_size < 2:
      return ""
    return (f"less sure: the photo's shorter side has {min(height, width)} pixels, and the network was trained on "
            f"{self.trained_size}")

  def show(self, answer, picture):
    return {"entries": [f"{name} {100 * probability:.1f} %" for name, probability in answer[:3]], "about": self.describe()}
