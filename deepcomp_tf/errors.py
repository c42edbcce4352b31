"""The exceptions of the library, all of them `ValueError`s too, how messages become one line, and what they say of installing."""

import contextlib
import os
from typing import Literal

# What functions of several files do with a `DeepcompError`; see `failed`.
Errors = Literal["raise", "return"]


class DeepcompError(ValueError):
  """Something given to the library is not what it must be; the message says what was expected and what came."""


class BitstreamError(DeepcompError):
  """A compressed file is damaged, truncated, of another operating point, or not a compressed file at all."""


class UnreadableError(DeepcompError):
  """A file is missing or cannot be read, which says nothing of what is in it: it does not count as damaged."""


def one_line(error):
  """An error's message without what TensorFlow wraps around it."""
  line = (str(error).strip() or type(error).__name__).splitlines()[0]
  return line.split("}} ")[-1].split(" [Op:")[0]


def first_of(names, most=5):
  """The first of a list of names, for messages, and an ellipsis where there are more."""
  return ", ".join([*names[:most], "..."][:len(names)])


def check_errors(errors):
  """Refuses another value of the argument `errors` than those that functions of several files or images take; see `failed`."""
  if errors not in ("raise", "return"):
    raise DeepcompError(f"`errors` must be raise or return. Received: errors={errors!r}")


def failed(error, number, count, errors):
  """A file's `DeepcompError`, for the results of a function of `count` files; with errors="raise" it is raised, with the file's
  number."""
  if errors == "raise":
    raise error if count == 1 else type(error)(f"file {number} of {count}: {error}")
  return error


def passed_on(results, errors):
  """A generator's results, of which the `DeepcompError`s are raised, or with errors="return" given as they are."""
  check_errors(errors)

  def pass_on():
    with contextlib.closing(results):
      for result in results:
        if errors == "raise" and isinstance(result, DeepcompError):
          raise result
        yield result

  return pass_on()


def printable(name):
  """A name, or a text with names in it, on one line: line breaks and bytes that are no text are escaped as in Python's
  strings."""
  if name.isprintable():
    return name
  text = os.fsencode(name).decode(errors="backslashreplace")
  return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def to_install(extra):
  """The command that adds an extra: for a checkout one that keeps it an editable installation, else for what pip installed."""
  checkout = os.path.exists(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "setup.py"))
  return f"pip install -c constraints.txt -e '.[{extra}]'" if checkout else f"pip install 'deepcomp_tf[{extra}]'"
