"""Files and folders, on this machine or remote, written so that each is there whole or not at all.

A path with `://`, such as gs://bucket/run, is read and written through TensorFlow's file systems (`tf.io.gfile`), which are
imported only then; any other path through `os`. `os.path.join`, `dirname`, `basename` and `splitext` do what they should with
both; `os.path.normpath` does not, `normal` does. What does not exist raises `FileNotFoundError` as `open` does, whatever else a
remote file system refuses a `DeepcompError` of one line.
"""

import contextlib
import errno
import glob as local_glob
import hashlib
import io
import json
import os
import posixpath
import re
import shutil
import tempfile
import uuid
import zipfile
import zlib

import numpy as np

from deepcomp_tf import quiet
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line


def is_remote(path):
  """Whether a path is read through TensorFlow's file systems."""
  return re.match(r"[\w+.-]+://", os.fspath(path)) is not None


@contextlib.contextmanager
def _remote(path):
  """Context that gives `tf.io.gfile` for a path, and turns its errors into those that this file promises."""
  quiet.import_tensorflow()
  import tensorflow as tf  # which local paths do without
  _check_scheme(os.fspath(path), tf.io.gfile)
  try:
    yield tf.io.gfile
  except tf.errors.NotFoundError:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
  except tf.errors.OpError as error:
    raise DeepcompError(f"expected a path that can be reached. Received: {path} ({one_line(error)[:300]})") from None


def _check_scheme(path, gfile):
  """Refuses a path of a file system that TensorFlow does not have, nor an installed tensorflow-io, which brings s3:// too."""
  scheme, reason = path.split("://", 1)[0], ""
  if scheme not in gfile.get_registered_schemes():
    try:
      import tensorflow_io  # which registers its file systems  # pylint: disable=unused-import
    except ImportError as error:
      reason = f" ({one_line(error)})"
  if scheme not in gfile.get_registered_schemes():
    known = ", ".join(sorted(f"{known}://" for known in gfile.get_registered_schemes() if known))
    raise DeepcompError(f"expected a path of a file system that TensorFlow or tensorflow-io{reason} has: {known}. "
                        f"Received: {path}")


def normal(path):
  """A path without what changes nothing in it, such as a slash at its end."""
  path = os.fspath(path)
  if not is_remote(path):
    return os.path.normpath(path)
  scheme, place = path.split("://", 1)
  return f"{scheme}://{posixpath.normpath(place) if place else ''}"


def printable(name):
  """A name, or a text with names in it, on one line: what is no text, or would end the line, as Python writes it in a string."""
  if name.isprintable():
    return name
  text = os.fsencode(name).decode(errors="backslashreplace")
  return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def one_line_of(error):
  """What a command says of a `DeepcompError`, or of the system's error for a file or folder.

  Raises:
    OSError: of something else, such as a pipe.
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
  if is_remote(path):
    with _remote(path) as gfile, gfile.GFile(path, "rb") as file:
      return file.read(most)
  with open(path, "rb") as file:
    return file.read(most)


def read_json(path):
  """The value in a JSON file.

  Raises:
    ValueError: it is none.
  """
  return json.loads(read(path))


def read_arrays(path):
  """The arrays of an npz file, a dict by their names.

  Raises:
    ValueError: it is none, or damaged.
  """
  try:
    with open_file(path) as file, np.load(file) as arrays:
      return dict(arrays)
  except (EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f"expected an npz file. Received: {path} ({error})") from None


def exists(path):
  """Whether there is a file or folder. Where a file system knows files only, a folder is there when a file is in it."""
  if is_remote(path):
    with _remote(path) as gfile:
      return gfile.exists(path)
  return os.path.exists(path)


def isdir(path):
  """Whether there is a folder."""
  if is_remote(path):
    with _remote(path) as gfile:
      return gfile.isdir(path)
  return os.path.isdir(path)


def size(path):
  """Bytes of a file."""
  if is_remote(path):
    with _remote(path) as gfile:
      return gfile.stat(path).length
  return os.path.getsize(path)


def listdir(folder):
  """Sorted names of what is in a folder."""
  if is_remote(folder):
    with _remote(folder) as gfile:
      return sorted(name.rstrip("/") for name in gfile.listdir(folder))
  return sorted(os.listdir(folder))


def walk(folder, on_error=None):
  """Sorted paths of all files in a folder and the folders in it, also in those that are linked there.

  Args:
    folder: of the files.
    on_error: called with the `OSError` of a folder that cannot be read, whose `filename` says which; None to leave it out.
  """
  if is_remote(folder):
    with _remote(folder) as gfile:
      return sorted(os.path.join(place, name) for place, _, names in gfile.walk(folder) for name in names)
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
  if is_remote(pattern):
    with _remote(pattern) as gfile:
      return sorted(gfile.glob(pattern))
  return sorted(local_glob.glob(pattern, recursive=True))


def makedirs(folder):
  """Makes a folder and those it lies in, where they are missing.

  Raises:
    DeepcompError: it cannot be made, for example since its bucket does not exist.
  """
  try:
    if not is_remote(folder):
      os.makedirs(folder, exist_ok=True)
    else:
      with _remote(folder) as gfile:
        gfile.makedirs(folder)
  except OSError as error:
    raise DeepcompError(f"expected a folder that can be written. Received: {folder} ({error.strerror})") from None


def rmtree(folder):
  """Removes a folder and all that is in it, if it is there."""
  if not is_remote(folder):
    shutil.rmtree(folder, ignore_errors=True)
  elif isdir(folder):
    with _remote(folder) as gfile:
      gfile.rmtree(folder)


def check_place(folder):
  """Refuses a folder on this machine that does not exist; remote ones may come into being with the files in them.

  Raises:
    DeepcompError: that is so.
  """
  if not is_remote(folder) and not os.path.isdir(folder):
    raise DeepcompError(f"expected an existing folder to write to. Received: {folder}")


class ExistsError(DeepcompError):
  """There is a file already where a new one should be written."""


def write_file(path, data, overwrite=False):
  """Writes bytes to a file: it is there whole or not at all.

  Where it may not be overwritten, two processes cannot both write it on a local disk. Object stores copy in place of renaming,
  so that there the later of two that begin within the time of a request wins.

  Raises:
    ExistsError: the file exists and `overwrite` is false.
    DeepcompError: its folder does not exist.
  """
  exists_error = ExistsError(f"expected to write a new file. Received: {path}, which exists")
  if not overwrite and exists(path):
    raise exists_error
  folder = os.path.dirname(path) or "."
  check_place(folder)
  temporary = os.path.join(folder, f".{uuid.uuid4().hex}.tmp")
  if is_remote(path):
    try:
      with _remote(path) as gfile:
        with gfile.GFile(temporary, "wb") as file:
          file.write(data)
        if not overwrite and gfile.exists(path):
          gfile.remove(temporary)
          raise exists_error
        gfile.rename(temporary, path, overwrite=True)
    except FileNotFoundError:
      raise DeepcompError(f"expected an existing bucket or folder to write to. Received: {folder}") from None
    return
  try:
    with open(temporary, "wb") as file:
      file.write(data)
    if not overwrite:
      _claim(temporary, path)
    os.replace(temporary, path)
  except FileExistsError:
    raise exists_error from None
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(temporary)


def _claim(temporary, path):
  """Makes a file that does not exist; of two processes that try, one gets a FileExistsError."""
  try:
    os.link(temporary, path)
  except FileExistsError:
    raise
  except OSError:  # a file system without links: an empty file keeps the place
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def write_json(path, value, **options):
  """Writes a value as JSON, replacing what is there.

  Args:
    **options: of `json.dumps`.
  """
  text = json.dumps(value, **{"indent": 1, **options}) + "\n"
  write_file(path, text.encode(), overwrite=True)


def append_line(path, text):
  """Adds a line to a file, behind one that a kill cut off. A remote file is written anew, since few file systems append."""
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
  """Context that gives a new folder to fill, on this machine, which takes the place of `path` when the context ends without an
  error.

  Remote file systems do not rename folders at a stroke: there the folder is copied file by file, the file `last` removed before
  all others and written after them. A remote folder is whole when that file is in it.

  Args:
    path: of the folder; those that it lies in are made.
    last: name of the file that tells the folder.
  """
  path = normal(path)
  if is_remote(path):
    with tempfile.TemporaryDirectory() as new:
      yield new
      _put_in_place(new, path, last)
    return
  makedirs(os.path.dirname(path) or ".")
  temporary, old = (f"{path}.{os.getpid()}.{part}" for part in ("tmp", "old"))
  shutil.rmtree(temporary, ignore_errors=True)
  os.mkdir(temporary)
  try:
    yield temporary
    if os.path.exists(path):
      os.rename(path, old)
    os.rename(temporary, path)
  finally:
    if os.path.exists(old) and not os.path.exists(path):  # interrupted between the two
      os.rename(old, path)
    for rest in (temporary, old):
      shutil.rmtree(rest, ignore_errors=True)


def _put_in_place(folder, path, last):
  """Copies a folder of this machine to a remote path, in place of what is there; see `whole_folder`."""
  if exists(os.path.join(path, last)):
    with _remote(path) as gfile:
      gfile.remove(os.path.join(path, last))
  rmtree(path)
  names = [os.path.relpath(file, folder) for file in walk(folder)]
  for name in sorted(names, key=lambda name: name == last):
    target = os.path.join(path, name)
    makedirs(os.path.dirname(target))
    write_file(target, read(os.path.join(folder, name)), overwrite=True)
