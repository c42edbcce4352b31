"""Writing files and folders so that each is there whole or not at all."""

import contextlib
import json
import os
import shutil

from deepcomp_tf.errors import DeepcompError


def write_file(path, data, overwrite=False):
  """Writes bytes to a file.

  Raises:
    DeepcompError: the file exists and `overwrite` is false, or its folder does not exist.
  """
  if not overwrite and os.path.exists(path):
    raise DeepcompError(f"expected to write a new file. Received: {path}, which exists")
  folder = os.path.dirname(path) or "."
  if not os.path.isdir(folder):
    raise DeepcompError(f"expected an existing folder to write to. Received: {folder}")
  temporary = f"{path}.{os.getpid()}.tmp"
  try:
    with open(temporary, "wb") as file:
      file.write(data)
    os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)


def write_json(path, value, **options):
  """Writes a value as JSON, replacing what is there.

  Args:
    **options: of `json.dumps`.
  """
  text = json.dumps(value, **{"indent": 1, **options}) + "\n"
  write_file(path, text.encode(), overwrite=True)


@contextlib.contextmanager
def whole_folder(path):
  """Context that gives a new folder to fill, which takes the place of `path` when the context ends without an error."""
  path = os.path.normpath(path)
  os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
  temporary, old = (f"{path}.{os.getpid()}.{part}" for part in ("tmp", "old"))
  shutil.rmtree(temporary, ignore_errors=True)
  os.mkdir(temporary)
  try:
    yield temporary
    if os.path.exists(path):
      os.rename(path, old)
    os.rename(temporary, path)
  finally:
    for rest in (temporary, old):
      shutil.rmtree(rest, ignore_errors=True)
