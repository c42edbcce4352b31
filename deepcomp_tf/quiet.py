"""Starting TensorFlow without its start-up lines, for commands: their own output stands alone.

`TF_CPP_MIN_LOG_LEVEL=0` in the environment, or any other value, brings TensorFlow's lines back.
"""

import contextlib
import os
import sys
import tempfile


def import_tensorflow():
  """Imports TensorFlow and says nothing about libraries that it looked for, unless the import fails."""
  if "TF_CPP_MIN_LOG_LEVEL" in os.environ or "tensorflow" in sys.modules:
    return
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
  # Some lines come before TensorFlow heeds that level.
  with _standard_error_if_it_fails():
    import tensorflow  # pylint: disable=unused-import


@contextlib.contextmanager
def _standard_error_if_it_fails():
  """Context that holds back what the process writes to standard error, and writes it after all if there is an exception."""
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    failed = True
    try:
      yield
      failed = False
    finally:
      sys.stderr.flush()
      os.dup2(kept, 2)
      os.close(kept)
      if failed:
        held.seek(0)
        os.write(2, held.read())
