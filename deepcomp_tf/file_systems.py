"""The file systems that a path may lie on, by `etils.epath`.

A path with `://`, such as gs://bucket/run, goes through TensorFlow's file systems, which are imported only then; any other path
goes through `os`. What does not exist raises `FileNotFoundError` as `open` does; whatever else a remote file system refuses is
a `DeepcompError` of one line.
"""

import contextlib
import errno
import os
import posixpath
import re

from etils.epath import backend

from deepcomp_tf import quiet
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line


def is_remote(path):
  """Whether a path is read through TensorFlow's file systems."""
  return re.match(r"[\w+.-]+://", os.fspath(path)) is not None


def normal(path):
  """A path without what changes nothing in it, such as a slash at its end."""
  path = os.fspath(path)
  if not is_remote(path):
    return os.path.normpath(path)
  scheme, place = path.split("://", 1)
  return f"{scheme}://{posixpath.normpath(place) if place else ''}"


@contextlib.contextmanager
def file_system(path):
  """Context that gives epath's functions for a path, and turns a remote file system's errors into those that this file
  promises."""
  if not is_remote(path):
    yield backend.os_backend
    return
  quiet.import_tensorflow()
  import tensorflow as tf  # which local paths do without
  _check_scheme(os.fspath(path), tf.io.gfile)
  try:
    yield backend.tf_backend
  except (FileNotFoundError, tf.errors.NotFoundError):
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
  except (OSError, tf.errors.OpError) as error:
    raise DeepcompError(f"expected a path that can be reached. Received: {path} ({one_line(error)[:300]})") from None


def _check_scheme(path, gfile):
  """Refuses a path whose file system neither TensorFlow has nor tensorflow-io, which adds s3:// and others where it is
  installed."""
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
