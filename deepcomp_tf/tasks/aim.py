"""What a search for a photo's symbols weighs beside the picture: that networks go on answering as they do on the photo."""

import functools
import threading

import tensorflow as tf

from deepcomp_tf import models
from deepcomp_tf.codec import container
from deepcomp_tf.codec import operating_point as points
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.tasks import teachers
from deepcomp_tf.tasks.classify import Classifier

# Factors on the picture's loss, on the answers' divergence in nats, and on the bits,
# by whom the files are for; see docs/decisions.md.
_FACTORS = {"networks": (0.5, 300.0, 1.8), "both": (1.0, 50.0, 1.1)}

_opening = threading.Lock()


class SameAnswers:
  """An aim of `codec.search`: a graft is to answer on the symbols as its teacher does on the photo itself.

  >>> codec = dc.Codec.load("bpp0.0983", aim=SameAnswers("bpp0.0983", "networks"))
  >>> data = codec.compress(image, effort=4)

  The loss is the Kullback-Leibler divergence of the graft's classes from the teacher's (section 6 of the paper has the
  classifier's loss beside that of compression, there to train with), and a part of what the picture counts alone.

  Args:
    operating_point: name or folder of the operating point.
    readers: "networks", or "both" people and networks; an attribute.
    classifier: `Classifier` with a `models.Graft`, or what `Classifier.load` takes; by default the shipped graft.
    teacher: the graft's `tasks.teachers.Teacher`; by default the trained network that the graft was cut from.

  Attributes:
    picture, bits: factors on the loss of the picture, and on the bits.

  Raises:
    DeepcompError: there is no such graft, it is of another operating point, or its teacher's weights are not installed.
  """

  def __init__(self, operating_point, readers, classifier=None, teacher=None):
    if readers not in _FACTORS:
      raise DeepcompError(f"`readers` must be one of {', '.join(_FACTORS)}. Received: readers={readers!r}")
    self._made_of = operating_point, readers, classifier, teacher
    self.readers = readers
    self.picture, self._weight, self.bits = _FACTORS[readers]
    fingerprint = points.fingerprint(operating_point)
    if classifier is None:
      classifier = Classifier.load_for(container.pack(fingerprint, 1, 1, b""))
    elif not isinstance(classifier, Classifier):
      classifier = Classifier.load(classifier)
    network = classifier.network
    if not isinstance(network, models.Graft) or classifier.codec.fingerprint != fingerprint:
      raise DeepcompError(f"expected a graft at the operating point {operating_point}. Received: {network.architecture} at "
                          f"{classifier.operating_point}")
    self._classifier = classifier
    teacher = teacher or teachers.load_teacher(network.source, class_names=classifier.class_names)
    self._answers = teacher.answers(network.cut)

  def loss(self, values, photo):
    """See `codec.search`."""
    _, wanted = self._answers(photo)
    found = self._classifier.network(self._classifier.inputs.normalize(values), training=False)
    answers = tf.nn.softmax(wanted)
    divergence = (tf.nn.softmax_cross_entropy_with_logits(answers, found)
                  - tf.nn.softmax_cross_entropy_with_logits(answers, wanted))
    return self._weight * tf.reduce_mean(divergence)

  def __reduce__(self):
    return type(self), self._made_of


def load(readers, operating_point):
  """The `aim` of a `Codec` at an operating point for one of `codec.READERS`: None for people."""
  return None if readers == "people" else SameAnswers(operating_point, readers)


def open_codec(operating_point, readers="people"):
  """The `Codec` of an operating point, which searches for `readers` as of `load`; loaded once a process, with its networks."""
  with _opening:
    return _open_codec(operating_point, readers)


@functools.lru_cache(maxsize=2)
def _open_codec(operating_point, readers):
  codec = Codec.load(operating_point, aim=load(readers, operating_point))
  codec.model  # made now, not by several threads  # pylint: disable=pointless-statement
  return codec
