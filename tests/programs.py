"""Running the training programs as people run them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import tensorflow as tf

ROOT = pathlib.Path(__file__).parents[1]


# A training program on a machine that has several logical CPU devices.
_ON_DEVICES = """
import importlib
import sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1)))
from deepcomp_tf.training import flags
flags.main(importlib.import_module("experiments." + sys.argv.pop(1)).main)
"""


def start(program, *flags, devices=None, environment=None):
  """A process of `experiments.<program>`, with so many logical CPU devices; its output is in one pipe."""
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
                 **(environment or {})}
  command = ["-c", _ON_DEVICES, str(devices), program] if devices else ["-m", f"experiments.{program}"]
  return subprocess.Popen([sys.executable, *command, *flags], cwd=ROOT, env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
  """(exit code, output)"""
  output, _ = process.communicate(timeout=600)
  return process.returncode, output


def kill_after_checkpoint(process, run, step):
  """Sends SIGKILL once a run's checkpoint of a step is there."""
  try:
    deadline = time.monotonic() + 300
    while _last_checkpoint(run) < step:
      assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()[-3000:]
      time.sleep(0.02)
  finally:
    process.send_signal(signal.SIGKILL)
  assert finish(process)[0] == -signal.SIGKILL


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


def error(process):
  """The last line of what a failing program says, and all of it."""
  code, output = finish(process)
  assert code not in (0, -signal.SIGKILL), output[-3000:]
  return output.strip().splitlines()[-1], output
