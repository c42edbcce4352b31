"""Running the programs and the command as people run them, but for one thing: TensorFlow is imported once.

Programs are forked off a process that has imported what takes long, and not begun to use it.
"""

import argparse
import contextlib
import importlib
import io
import multiprocessing
from multiprocessing import forkserver
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl import app
from absl.flags import argparse_flags
from PIL import Image
import tensorflow as tf

from deepcomp_tf import samples
from deepcomp_tf.models import resnet

ROOT = pathlib.Path(__file__).parents[1]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tensorflow", "tensorflow_datasets", "numba", "matplotlib.figure"])
# Networks are not kept for LiteRT, which takes seconds.
_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "DEEPCOMP_LITERT": "0"}

# `ARCHITECTURES` of the tests, with units of every form and no more: for what holds at any depth, a third of the work to trace.
SMALL_NETWORKS = {"ResNet-14": (1, 1, 1, 1), "cResNet-12": (0, 2, 1, 1)}
resnet.ARCHITECTURES.update(SMALL_NETWORKS)


class Program:
  """A process of a module's main program, with what it says in a file, or in two.

  `devices` is the number of logical CPU devices that it has; `patches` are (module, name, value) of what is something else there.
  """

  def __init__(self, module, arguments, devices=None, environment=None, cwd=ROOT, errors_apart=False, patches=()):
    arguments, environment = list(map(str, arguments)), {**os.environ, **_ENVIRONMENT, **(environment or {})}
    said = []
    for _ in range(1 + errors_apart):
      handle, path = tempfile.mkstemp(prefix=f"{module}-", suffix=".log")
      os.close(handle)
      said.append(path)
    self._said = [pathlib.Path(path) for path in said]
    self._process = _SERVER.Process(target=_run, args=(module, arguments, devices, environment, str(cwd), said, patches),
                                    daemon=True)
    with mock.patch.dict(os.environ, _ENVIRONMENT):
      forkserver.ensure_running()
    self._process.start()

  @property
  def code(self):
    """The exit code; None while it runs."""
    return self._process.exitcode

  @property
  def output(self):
    """What it has said so far."""
    return self._said[0].read_text(errors="replace")

  def kill(self):
    """Ends it at once, as `kill -9` does."""
    self._process.kill()

  def send(self, number):
    """Sends it a signal."""
    os.kill(self._process.pid, number)

  def wait(self, seconds):
    """[exit code, output], and the errors where they are apart."""
    self._process.join(seconds)
    if self.code is None:
      self.kill()
      raise TimeoutError(f"still running after {seconds} seconds:\n{self.output[-3000:]}")
    said = [path.read_text(errors="replace") for path in self._said]
    for path in self._said:
      path.unlink()
    return [self.code, *said]


def _run(module, arguments, devices, environment, cwd, said, patches):
  for number, path in zip((1, 2), (said[0], said[-1])):
    with open(path, "ab") as file:
      os.dup2(file.fileno(), number)
  os.environ.update(environment)
  os.chdir(cwd)
  sys.path.insert(0, str(ROOT))
  sys.argv = [module, *arguments]
  if module == "experiments.make_figures":  # which tells of every network
    for name in SMALL_NETWORKS:
      del resnet.ARCHITECTURES[name]
  if devices:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices)
  for place, name, value in patches:
    setattr(importlib.import_module(place), name, value)
  runpy.run_module(module, run_name="__main__", alter_sys=True)


def start(program, *flags, **arguments):
  """A `Program` that runs: `experiments.<program>`; `arguments` are those of `Program`."""
  return Program(f"experiments.{program}", flags, **arguments)


def finish(program):
  """(exit code, output)"""
  return program.wait(600)


def deepcomp(*arguments, cwd):
  """A call of the command, which has ended: `subprocess.CompletedProcess`."""
  return subprocess.CompletedProcess(arguments, *Program("deepcomp_tf.cli", arguments, cwd=cwd, errors_apart=True).wait(600))


def deepcomp_here(*arguments, cwd, text=True):
  """As `deepcomp`, in this process, which has loaded the codecs: for tests that call the command again and again. Without `text`,
  standard output is bytes."""
  from deepcomp_tf import cli  # not in programs, which run it as their main module
  output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=how) for how in ("strict", "backslashreplace"))
  before, code = os.getcwd(), 0
  # Flags of programs that a test has imported are not the command's.
  with (mock.patch.object(argparse_flags, "ArgumentParser", argparse.ArgumentParser),
        mock.patch.object(app, "run", lambda main, flags_parser: sys.exit(main(flags_parser(sys.argv)))),
        mock.patch.object(sys, "argv", ["deepcomp", *map(str, arguments)]),
        contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors)):
    os.chdir(cwd)
    try:
      cli.main()
    except SystemExit as end:
      code = end.code or 0
    finally:
      os.chdir(before)
  said = []
  for stream in (output, errors):
    stream.seek(0)
    said.append(stream.read() if text or stream is errors else stream.buffer.read())
  assert isinstance(code, int), code
  return subprocess.CompletedProcess(arguments, code, *said)


def wait_until(true, program):
  """Waits until a function returns something true, while a program runs."""
  deadline = time.monotonic() + 300
  while not true():
    assert program.code is None and time.monotonic() < deadline, program.output[-3000:]
    time.sleep(0.02)


def kill_after_checkpoint(program, run, step):
  """Sends SIGKILL once a run's checkpoint of a step is there."""
  try:
    wait_until(lambda: _last_checkpoint(run) >= step, program)
  finally:
    program.kill()
  assert finish(program)[0] == -signal.SIGKILL


def _last_checkpoint(run):
  """The step of the last checkpoint that a run would continue from; 0 where there is none."""
  path = tf.train.latest_checkpoint(str(run / "checkpoints"))
  return int(path.rsplit("-", 1)[1]) if path else 0


def curve(run, name):
  """dict of step -> value; of a step that a resumed run repeats, the later value."""
  values = {}
  for path in sorted((run / "train").iterdir()):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        if value.tag == name:
          values[event.step] = float(tf.make_ndarray(value.tensor))
  return values


def error(program):
  """The last line of what a failing program says, and all of it."""
  code, output = finish(program)
  assert code not in (0, -signal.SIGKILL), output[-3000:]
  return output.strip().splitlines()[-1], output


def write_photos(folder):
  """Writes small photos, and one that is none, broken.png, into a folder, and returns that."""
  for name, image in samples.photos().items():
    Image.fromarray(image[:96, :120]).save(folder / f"{name}.png")
  (folder / "broken.png").write_bytes(b"no image at all")
  return folder
