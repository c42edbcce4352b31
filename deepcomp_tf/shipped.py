"""The trained networks that come with the package, and those in the folders of `DEEPCOMP_PATH`, by their names."""

import os
import posixpath

from deepcomp_tf import files
from deepcomp_tf.codec import container
from deepcomp_tf.errors import DeepcompError

_PACKAGE = os.path.dirname(__file__)


def json_of(kind):
  """Name of the JSON file by which a folder is known to hold a network of a kind."""
  return f"{kind.replace(' ', '_')}.json"


def _place(kind):
  """The folder of the package with a kind's networks, a folder each: operating_points, inference/classifiers."""
  name = f"{kind.replace(' ', '_')}s"
  beside = os.path.join(_PACKAGE, name)
  return beside if os.path.isdir(beside) else os.path.join(_PACKAGE, "inference", name)


def names(kind):
  """Names of the shipped networks of a kind, sorted; operating points come in order of rate."""
  folder = _place(kind)
  found = os.listdir(folder) if os.path.isdir(folder) else []
  return sorted(name for name in found if os.path.exists(os.path.join(folder, name, json_of(kind))))


def search_path():
  """The folders of the environment variable `DEEPCOMP_PATH`, separated as in PATH,
  in which networks of one's own are looked for."""
  return [folder for folder in os.environ.get("DEEPCOMP_PATH", "").split(os.pathsep) if folder]


def all_names(kind):
  """`names(kind)`, and the paths of the networks of that kind in the folders of `search_path`,
  or in the folders of runs in these."""
  found = names(kind)
  for folder in filter(os.path.isdir, search_path()):
    for name in sorted(os.listdir(folder)):
      places = [os.path.join(folder, name), os.path.join(folder, name, _result(kind))]
      found += [place for place in places if os.path.exists(os.path.join(place, json_of(kind)))][:1]
  return found


def _result(kind):
  """Name of the folder that a run of training writes such a network to."""
  return kind.replace(" ", "_")


def find(kind, name):
  """The folder of a shipped network, or a folder that training wrote. Raises a DeepcompError where there is none.

  Args:
    kind: "operating point", or the KIND of a task.
    name: one of `names(kind)`, or the path of a network's folder or of the run that wrote it, or such a path seen from one of
      `search_path`.
  """
  if not isinstance(name, (str, os.PathLike)):
    raise DeepcompError(f"expected the name or folder of a trained network ({kind}), a str or path. Received: {name!r:.40}")
  for place in (os.path.join(_place(kind), name), name, *(os.path.join(folder, name) for folder in search_path())):
    for folder in (place, os.path.join(place, _result(kind))):
      if files.exists(os.path.join(folder, json_of(kind))):
        return folder
  raise DeepcompError(f"no {kind} {name!r}: expected one of {', '.join(names(kind)) or '(none)'}, "
                      f"or a folder with {json_of(kind)}"
                      + (f", also seen from DEEPCOMP_PATH={os.environ['DEEPCOMP_PATH']}" if search_path() else ""))


def source(kind, name):
  """What names the network that `find` finds, whatever the current folder is later: its name if it is shipped, else its path."""
  folder = os.fspath(find(kind, name))
  if files.is_remote(folder):
    return folder
  place, last = os.path.split(os.path.abspath(folder))
  return last if place == _place(kind) else _absolute(folder)


def _absolute(path):
  """The absolute path, its parents without links, since `..` behind a link leads elsewhere than it seems."""
  above, last = os.path.split(os.fspath(path).rstrip(os.sep))
  return os.path.join(os.path.realpath(above), last) if last.strip(".") else os.path.realpath(path)


def seen_from(folder, path):
  """How an absolute path is written down in a folder: relative where both may be moved together, on a machine or in a bucket."""
  if not files.is_remote(path) and not files.is_remote(folder):
    return os.path.relpath(path, _absolute(folder))
  path, folder = files.normal(path), files.normal(folder)
  bucket = lambda place: place.split("/")[:3] if files.is_remote(place) else []  # its scheme, nothing, its name
  return posixpath.relpath(path, folder) if bucket(path) == bucket(folder) else path


def info_path(kind, name):
  """The JSON file that describes a network; see `find`."""
  return os.path.join(find(kind, name), json_of(kind))


def by_file(kind, name=""):
  """A function from a file's bytes to the codec or trained network for it, which is loaded once.

  Args:
    kind: `dc.Codec`, or a `tasks.base.Task`.
    name: for its `load`; empty: what its `load_for` finds, the shipped network of the file's operating point.
  """
  networks = {}

  def network_for(data):
    key = name or container.read_header(data).fingerprint
    if key not in networks:
      networks[key] = kind.load(name) if name else kind.load_for(data)
    return networks[key]

  return network_for
