"""Places for outputs: refused early where they cannot be, made where they are missing."""

import os

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError


def check_folder(folder):
  """Refuses a folder on this machine that is missing and cannot be made, or that cannot be written to."""
  if files.is_remote(folder):
    return
  place = os.path.abspath(folder)
  while not os.path.lexists(place):
    place = os.path.dirname(place)
  if not os.path.isdir(place):
    raise DeepcompError(f"expected a folder to write to. Received: {folder} ({place} is no folder)")
  if not os.access(place, os.W_OK | os.X_OK):
    raise DeepcompError(f"expected a folder that can be written to. Received: {folder} ({place} may not be written to)")


def check_new(path, overwrite):
  """Refuses a file that may not be overwritten."""
  if files.exists(path) and not overwrite:
    raise DeepcompError(f"{path} exists; give --overwrite to replace it")


def check(paths, overwrite):
  """Refuses files that exist and may not be overwritten, and those whose folder cannot be written to."""
  for path in paths:
    check_new(path, overwrite)
    check_folder(os.path.dirname(path) or ".")


def write(path, data, overwrite):
  """Writes a file, and makes the folder that it goes to where it is missing."""
  files.makedirs(os.path.dirname(path) or ".")
  files.write_file(path, data, overwrite)
