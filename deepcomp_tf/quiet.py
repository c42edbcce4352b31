"""Commands and programs that print nothing but their lines, when TensorFlow starts and when they are interrupted.

`TF_CPP_MIN_LOG_LEVEL` in the environment, if it is not 3, brings TensorFlow's start-up lines back.
"""

import contextlib
import os
import select
import signal
import sys
import tempfile


def run(program):
  """Calls the main function of a command or program, and ends the process without a traceback when it is interrupted.

  Ctrl-C gives exit code 130, and 141 is where nobody reads its output any more, as behind `| head`: the codes that a shell
  gives for these signals. Half-written files have been removed by then, by the `finally` of whoever writes them.

  What cannot be printed, such as a file's name that is no text, is escaped as in Python's strings.
  """
  if hasattr(sys.stdout, "reconfigure"):  # not where a test has put another object in its place
    sys.stdout.reconfigure(errors="backslashreplace")
  try:
    try:
      program()
    finally:
      sys.stdout.flush()  # here, where a pipe's end can still be told
    return
  except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C need not wait for threads
    code = 128 + signal.SIGINT
  except BrokenPipeError:
    if not _without_reader():
      raise  # of a socket, for example
    code = 128 + signal.SIGPIPE
  with open(os.devnull, "wb") as nowhere:
    for output in _without_reader():
      os.dup2(nowhere.fileno(), output)  # the interpreter flushes once more
  sys.exit(code)


def _without_reader():
  """Standard output and standard error (1, 2), where they are pipes whose other end is closed."""
  poll = select.poll()
  for output in (1, 2):
    poll.register(output, 0)
  return [output for output, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]


def heed_interrupts():
  """Ends the process as `run` does when Ctrl-C comes while modules are imported, which takes seconds."""
  def hook(kind, error, traceback):
    if issubclass(kind, KeyboardInterrupt):
      sys.exit(128 + signal.SIGINT)
    before(kind, error, traceback)
  before, sys.excepthook = sys.excepthook, hook


def import_tensorflow():
  """Imports TensorFlow and says nothing about libraries that it looked for, unless the import fails."""
  if "tensorflow" in sys.modules or os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
    return
  # Some lines come before TensorFlow heeds that level.
  with standard_error_if_it_fails():
    import tensorflow  # pylint: disable=unused-import


@contextlib.contextmanager
def standard_error_if_it_fails():
  """Context that holds back what the process writes to standard error, and writes it after all if there is an error."""
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    failed = False
    try:
      yield
    except Exception:
      failed = True
      raise
    finally:
      sys.stderr.flush()
      os.dup2(kept, 2)
      os.close(kept)
      if failed:
        held.seek(0)
        os.write(2, held.read())
