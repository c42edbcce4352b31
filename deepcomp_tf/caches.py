"""What takes long to make, kept in folders on local disk, which all processes of a machine share."""

import contextlib
import fcntl
import json
import os

from absl import logging

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError

# The file of such a folder that says what it was made of.
INFO = "store.json"

# Where they are unless another place is named.
CACHE_DIR = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "deepcomp_tf")


def path_of(cache_dir, name, made_of):
  """Where the folder of `cached_folder` is, or would be; arguments as there."""
  cache_dir = cache_dir or CACHE_DIR
  if files.is_remote(cache_dir):
    raise DeepcompError(f"expected a cache_dir on this machine, since processes map its files. Received: {cache_dir}")
  return os.path.join(cache_dir, f"{name}-{files.digest_of(json.dumps(made_of, sort_keys=True).encode())}")


def cached_folder(cache_dir, name, made_of, fill):
  """The folder of what takes long to make, filled now where no process has done so before.

  Args:
    cache_dir: the folder of such folders on a local disk, made where it is missing; empty: `CACHE_DIR`.
    name: what the folder's name begins with.
    made_of: dict of what it depends on, for JSON; what is made of other things lies in another folder.
    fill: function of an empty folder that writes into it, and returns a dict of what else its store.json says.
  """
  folder = path_of(cache_dir, name, made_of)
  files.makedirs(os.path.dirname(folder))
  if not os.path.isdir(folder):
    with _lock(f"{folder}.lock"):
      if not os.path.isdir(folder):  # another process may have filled it meanwhile
        with files.whole_folder(folder, last=INFO) as new:
          files.write_json(os.path.join(new, INFO), {**made_of, **fill(new)})
  return folder


@contextlib.contextmanager
def _lock(path):
  """Context that one process of the machine is in at a time."""
  with open(path, "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      logging.info("Waiting for another process that fills %s.", path.removesuffix(".lock"))
      fcntl.flock(file, fcntl.LOCK_EX)
    yield
