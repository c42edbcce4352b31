"""Files and folders, on this machine or remote, written so that each is there whole or not at all.

`os.path.join`, `dirname`, `basename` and `splitext` do what they should with both sorts of paths (`file_systems.py` says which
there are); `os.path.normpath` does not, `normal` does.
"""

import contextlib
import errno
import glob as local_glob
import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
import zipfile
import zlib

import numpy as np

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import printable
from deepcomp_tf.file_systems import file_system
from deepcomp_tf.file_systems import is_remote
from deepcomp_tf.file_systems import normal


def one_line_of(error):
  """What a command prints for a `DeepcompError`, or for the system's error on a file or folder.

  Raises:
    OSError: the error itself, where it is of something else, such as a pipe.
  """
  if isinstance(error, DeepcompError):
    return str(error)
  if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
    raise error
  place = "" if error.filename is None else f"{printable(os.fsdecode(error.filename))}: "
  return f"expected files and folders that can be read and written. Received: {place}{error.strerror}"


def digest_of(*parts):
  """A digest of bytes: 16 hexadecimal digits."""
  digest = hashlib.sha256()
  for part in parts:
    digest.update(part)
  return digest.hexdigest()[:16]


def open_file(path):
  """A binary file object to read from; a remote file is read whole."""
  return io.BytesIO(read(path)) if is_remote(path) else open(path, "rb")


def read(path, most=-1):
  """The bytes of a file, or the first `most` of them."""
  with file_system(path) as system, system.open(path, "rb") as file:
    return file.read(most)


def read_json(path):
  """The value in a JSON file. Raises a ValueError where it is not JSON."""
  return json.loads(read(path))


def read_arrays(path):
  """The arrays of an npz file, a dict by their names. Raises a ValueError where it is something else, or damaged."""
  try:
    with open_file(path) as file, np.load(file) as arrays:
      return dict(arrays)
  except (EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f"expected an npz file. Received: {path} ({error})") from None


def exists(path):
  """Whether there is a file or folder. Where a file system knows files only, a folder is there when a file is in it."""
  with file_system(path) as system:
    return system.exists(path)


def isdir(path):
  """Whether there is a folder."""
  with file_system(path) as system:
    return system.isdir(path)


def size(path):
  """Bytes of a file."""
  if not is_remote(path):  # epath also asks for the owner's name, which a container may not know
    return os.path.getsize(path)
  with file_system(path) as system:
    return system.stat(path).length


def listdir(folder):
  """Sorted names of what is in a folder."""
  if not is_remote(folder):  # epath leaves out names that end in ~
    return sorted(os.listdir(folder))
  with file_system(folder) as system:
    return sorted(name.rstrip("/") for name in system.listdir(folder))


def walk(folder, on_error=None):
  """Sorted paths of all files in a folder and the folders in it, also in those that are linked there.

  Folders that cannot be read are left out; `on_error` is called with the `OSError`, whose `filename` says which it is.
  """
  if is_remote(folder):
    with file_system(folder) as system:
      return sorted(os.path.join(place, name) for place, _, names in system.walk(folder) for name in names)
  found, seen = [], set()
  for place, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
    here = os.stat(place)
    if (here.st_dev, here.st_ino) in seen:  # links may lead back, or twice to one folder
      folders.clear()
      continue
    seen.add((here.st_dev, here.st_ino))
    paths = (os.path.join(place, name) for name in names)
    # A link to nowhere is found, so that reading it says so; a pipe or a device would keep who reads it waiting.
    found += [path for path in paths if os.path.isfile(path) or not os.path.exists(path)]
  return sorted(found)


def glob(pattern):
  """Sorted paths that a pattern matches. `**` for folders at any depth is for this machine only."""
  if not is_remote(pattern):
    return sorted(local_glob.glob(pattern, recursive=True))
  with file_system(pattern) as system:
    return sorted(system.glob(pattern))


def makedirs(folder):
  """Makes a folder and those it lies in. Raises a DeepcompError where it cannot, for example since a bucket does not exist."""
  try:
    with file_system(folder) as system:
      system.makedirs(folder, exist_ok=True)
  except OSError as error:
    raise DeepcompError(f"expected a folder that can be written. Received: {folder} ({error.strerror})") from None


def rmtree(folder):
  """Removes a folder and all that is in it, if it is there."""
  if not is_remote(folder):  # as much of it as can be removed
    shutil.rmtree(folder, ignore_errors=True)
  elif isdir(folder):
    with file_system(folder) as system:
      system.rmtree(folder)


class ExistsError(DeepcompError):
  """A new file would replace a file that exists."""


def write_file(path, data, overwrite=False):
  """Writes bytes to a file: it is there whole or not at all.

  Where it may not be overwritten, two processes cannot both write it on a local disk. Object stores copy instead of renaming:
  there the later of two writers wins if both begin within the time of a request.

  Raises:
    ExistsError: the file exists and `overwrite` is false.
    DeepcompError: its folder does not exist.
  """
  exists_error = ExistsError(f"expected to write a new file. Received: {path}, which exists")
  if not overwrite and exists(path):
    raise exists_error
  folder = os.path.dirname(path) or "."
  if not is_remote(folder) and not os.path.isdir(folder):  # remote folders may come into being with the files in them
    raise DeepcompError(f"expected an existing folder to write to. Received: {folder}")
  temporary = _temporary(folder)
  try:
    with file_system(path) as system:
      try:
        with system.open(temporary, "wb") as file:
          file.write(data)
        if not overwrite and not _claim(temporary, path):
          raise exists_error
        system.replace(temporary, path)
      finally:
        with contextlib.suppress(FileNotFoundError):
          system.remove(temporary)
  except FileNotFoundError:
    raise DeepcompError(f"expected an existing bucket or folder to write to. Received: {folder}") from None


def _temporary(folder):
  """A name in a folder that nobody else uses, on this machine or another: two containers may have the same process ids."""
  return os.path.join(folder, f".{uuid.uuid4().hex}.tmp")


def _claim(temporary, path):
  """Whether a file that does not exist may be made here, which on a local disk only the first process that asks may."""
  if is_remote(path):
    return not exists(path)
  try:
    os.link(temporary, path)
  except FileExistsError:
    return False
  except OSError:  # a file system without links: an empty file keeps the place
    try:
      os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
      return False
  return True


def write_json(path, value, **options):
  """Writes a value as JSON, replacing what is there; options are those of `json.dumps`."""
  text = json.dumps(value, **{"indent": 1, **options}) + "\n"
  write_file(path, text.encode(), overwrite=True)


def append_line(path, text):
  """Adds a line to a file, whose last line may be cut off. A remote file is written anew, since few file systems append."""
  line = text.encode() + b"\n"
  if is_remote(path):
    before = read(path) if exists(path) else b""
    write_file(path, before + (b"\n" if before and not before.endswith(b"\n") else b"") + line, overwrite=True)
    return
  with open(path, "ab+") as file:
    if file.tell():
      file.seek(-1, os.SEEK_END)
      if file.read(1) != b"\n":
        file.write(b"\n")
    file.write(line)


@contextlib.contextmanager
def whole_folder(path, last):
  """Context that gives a new folder on this machine to fill. It takes the place of `path` when the context ends without an error.

  Remote file systems do not rename folders at a stroke. There it is copied file by file; the file `last` is removed before all
  others and written after them, so that a folder with that file in it is whole.

  Args:
    path: the folder; those that it lies in are made.
    last: name of the file by which such a folder is known.
  """
  path = normal(path)
  if is_remote(path):
    with tempfile.TemporaryDirectory() as new:
      yield new
      with contextlib.suppress(FileNotFoundError), file_system(path) as system:
        system.remove(os.path.join(path, last))
      rmtree(path)
      for file in sorted(walk(new), key=lambda file: file == os.path.join(new, last)):
        target = os.path.join(path, os.path.relpath(file, new))
        makedirs(os.path.dirname(target))
        write_file(target, read(file), overwrite=True)
    return
  parent = os.path.dirname(path) or "."
  makedirs(parent)
  temporary, old = _temporary(parent), _temporary(parent)
  os.mkdir(temporary)
  try:
    yield temporary
    with contextlib.suppress(FileNotFoundError):
      os.rename(path, old)
    try:
      os.rename(temporary, path)
    except OSError as error:
      if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
        raise  # else another writer has put its folder there meanwhile, which is whole, too
  finally:
    if os.path.exists(old) and not os.path.exists(path):  # interrupted between the two
      os.rename(old, path)
    for rest in (temporary, old):
      shutil.rmtree(rest, ignore_errors=True)

