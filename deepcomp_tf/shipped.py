"""The trained networks that come with the package, by their names."""

import os
import posixpath

from deepcomp_tf import files
from deepcomp_tf.codec import container
from deepcomp_tf.errors import DeepcompError

_PACKAGE = os.path.dirname(__file__)

# Where each kind lies in the package, and the file that tells a folder of that kind.
_KINDS = {
    "operating point": ("operating_points", "operating_point.json"),
    "classifier": ("inference/classifiers", "classifier.json"),
    "segmenter": ("inference/segmenters", "segmenter.json"),
}


def names(kind):
  """Names of the shipped operating points, classifiers or segmenters, sorted; operating points come in order of rate."""
  place, file = _KINDS[kind]
  folder = os.path.join(_PACKAGE, place)
  return sorted(name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, file)))


def find(kind, name):
  """The folder of a shipped network, or a folder that training wrote.

  Args:
    kind: "operating point", "classifier" or "segmenter".
    name: one of `names(kind)`, or a path.

  Raises:
    DeepcompError: there is no such network.
  """
  place, file = _KINDS[kind]
  if not isinstance(name, (str, os.PathLike)):
    raise DeepcompError(f"expected the name or folder of a trained network ({kind}), a str or path. Received: {name!r:.40}")
  for folder in (os.path.join(_PACKAGE, place, name), name):
    if files.exists(os.path.join(folder, file)):
      return folder
  raise DeepcompError(f"no {kind} {name!r}: expected one of {', '.join(names(kind)) or '(none)'}, or a folder with {file}")


def source(kind, name):
  """What names the network that `find` finds, whatever the current folder is later: its name if it is shipped, else its path.

  Raises:
    DeepcompError: there is none.
  """
  folder = os.fspath(find(kind, name))
  if files.is_remote(folder):
    return folder
  place, own = os.path.split(os.path.abspath(folder))
  return own if place == os.path.join(_PACKAGE, _KINDS[kind][0]) else _absolute(folder)


def _absolute(path):
  """The absolute path, its parents without links, since `..` behind a link leads elsewhere than it seems."""
  above, last = os.path.split(os.fspath(path).rstrip(os.sep))
  return os.path.join(os.path.realpath(above), last) if last.strip(".") else os.path.realpath(path)


def seen_from(folder, path):
  """An absolute path as it is written down in a folder: relative where both can be moved together, on one machine or in a bucket."""
  if not files.is_remote(path) and not files.is_remote(folder):
    return os.path.relpath(path, _absolute(folder))
  path, folder = files.normal(path), files.normal(folder)
  (scheme, inside), (own, own_inside) = (place.split("://", 1) if files.is_remote(place) else ("", place)
                                         for place in (path, folder))
  if (scheme, inside.split("/")[0]) != (own, own_inside.split("/")[0]):
    return path
  return posixpath.relpath(inside, own_inside)


def info_path(kind, name):
  """The JSON file that describes a network; see `find`."""
  return os.path.join(find(kind, name), _KINDS[kind][1])


class ByFile:
  """Codecs or trained networks for files: the named one, or those of the files' operating points, each loaded once.

  Args:
    kind: `dc.Codec` or a `StoredNetwork`.
    name: for its `load`; empty: what its `load_for` finds.
    loaded: called with each one that is loaded.
    **options: for its `load`, with a name.
  """

  def __init__(self, kind, name="", loaded=lambda one: None, **options):
    self._kind, self._name, self._announce, self._options = kind, name, loaded, options
    self._loaded = {}

  def for_data(self, data):
    key = self._name or container.read_header(data).fingerprint
    if key not in self._loaded:
      self._loaded[key] = self._kind.load(self._name, **self._options) if self._name else self._kind.load_for(data)
      self._announce(self._loaded[key])
    return self._loaded[key]
