"""Examples that cannot be decoded: left out, counted and named while they are few, an error when they are not."""

import threading

from absl import logging
import numpy as np

from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import UnreadableError
from deepcomp_tf.files import printable

# The share of a split that may be left out.
ALLOWED_SHARE = 0.05


class Damage:
  """Counts the examples of a split that are left out in an order of them, however often it is gone through.

  Args:
    name: of the split, for people.
    examples: how many it has.
  """

  def __init__(self, name, examples):
    self._name, self._examples, self._lock = name, examples, threading.Lock()
    self._messages = {}

  @property
  def messages(self):
    return list(self._messages.values())

  def add(self, number, error, place=""):
    """Takes note of an example that is left out.

    Args:
      number: its place in the order.
      error: the `DeepcompError` that says what is wrong with it.
      place: where it is, if the error does not say.

    Raises:
      UnreadableError: it could not be read. It is not left out, since nobody knows whether it is damaged.
      DeepcompError: too many are left out. A single example never is.
    """
    if isinstance(error, UnreadableError):
      raise error
    message = f"{place}: {error}" if place else str(error)
    with self._lock:
      if number in self._messages:
        return
      self._messages[number] = message
      count = len(self._messages)
    logging.warning("Left out: %s", printable(message))
    if count > max(1, ALLOWED_SHARE * self._examples):
      raise DeepcompError(f"expected at most {100 * ALLOWED_SHARE:g} % of the {self._examples} examples of {self._name} to be "
                          f"damaged. Received: more, the first: {self.messages[0]}")

  def without_damaged(self, results, place=lambda number: ""):
    """Yields the results that are no `DeepcompError`, and takes note of the others; `place` as of `add`, of a result's number."""
    for number, result in enumerate(results):
      if isinstance(result, DeepcompError):
        self.add(number, result, place(number))
      else:
        yield result

  def keep(self, results, step, fill):
    """The places of a batch's examples that are kept: int32 `[<= len(results)]`.

    Where an example cannot be decoded, `results` has an error, which is raised if it is another than damage. With `fill` others
    take the places of these, so that the batch stays whole; then at least one must be left.
    """
    good, lost = [], []
    for place, result in enumerate(results):
      if not isinstance(result, DeepcompError):
        good.append(place)
      elif isinstance(result, BitstreamError):
        self.add((step, place), result)
        lost.append(place)
      else:
        raise result
    if not fill or not lost:
      return np.array(good, np.int32)
    if not good:
      raise DeepcompError(f"expected a batch with examples that can be decoded. Received: none of {len(lost)}")
    places = np.arange(len(results), dtype=np.int32)
    places[lost] = np.resize(good, len(lost))
    return places


def or_error(function, *args):
  """What a function returns, or the `DeepcompError` that it raises."""
  try:
    return function(*args)
  except DeepcompError as error:
    return error
