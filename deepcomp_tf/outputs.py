"""Places for outputs: refused early where they cannot be, made where they are missing. `-` is standard output."""

import os
import sys

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError


STANDARD = "-"


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


def check_new(path, overwrite, resume=None):
  """Refuses a file that may not be overwritten.

  `resume` is the flag of a command that has one, which leaves such a file or goes on with it, or None.
  """
  if files.exists(path) and not (overwrite or resume):
    raise DeepcompError(f"{path} exists; give --overwrite to replace it" + ("" if resume is None else " or --resume to leave it"))


def check(paths, overwrite, resume=None):
  """Refuses files that exist and may not be overwritten, those whose folder cannot be written to, and a terminal."""
  for path in paths:
    if path != STANDARD:
      check_new(path, overwrite, resume)
      check_folder(os.path.dirname(path) or ".")
    elif sys.stdout.isatty():
      raise DeepcompError("expected a pipe or a file behind standard output. Received: a terminal")


def write(path, data, overwrite):
  """Writes a file, and makes the folder that it goes to where it is missing."""
  if path == STANDARD:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return
  files.makedirs(os.path.dirname(path) or ".")
  files.write_file(path, data, overwrite)


def places(names, folders, extension, output_dir=""):
  """Where the outputs of files go: beside them, or below a folder, with the tree of the folders that they were found in.

  Args:
    names: paths of the files.
    folders: dict from such a path to the folder that it was found in; others were named by themselves.
    extension: of the outputs.
    output_dir: the folder; empty: beside the files.

  Returns:
    dict of paths by the files' paths.

  Raises:
    DeepcompError: two files have the same output.
  """
  found, taken = {}, {}
  for name in names:
    place = os.path.relpath(name, folders[name]) if output_dir and name in folders else os.path.basename(name)
    path = os.path.join(output_dir or os.path.dirname(name), os.path.splitext(place)[0] + extension)
    if path in taken:
      raise shared(taken[path], name, path)
    taken[path], found[name] = name, path
  return found


def places_at(names, folders, extension, output):
  """As `places`, for an output that is a file where a single file was named, unless it is a folder or ends in a slash, else a
  folder."""
  if len(names) == 1 and names[0] not in folders and not output.endswith("/") and not files.isdir(output):
    return {names[0]: output}
  if output == STANDARD:
    raise DeepcompError(f"expected a single file for standard output. Received: {len(names)} files")
  return places(names, folders, extension, output)


def shared(first, second, output):
  """The error of two inputs that have the same output."""
  return DeepcompError(f"expected inputs with outputs of their own. Received: {first} and {second}, both for {output}")
