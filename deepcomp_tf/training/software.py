"""What code, libraries and device a result came from."""

import importlib.metadata
import os
import platform
import subprocess

import tensorflow as tf

import deepcomp_tf
from deepcomp_tf.threads import cores


def software():
  """dict of texts that say which code, libraries and device a result came from.

  version of this package; commit of the checkout that it lies in, as `git describe --always --dirty` names it, "" where it lies
  in none; versions of python, tensorflow, keras and numpy; device: GPUs, or CPU cores.
  """
  return {"version": deepcomp_tf.__version__, "commit": _commit(), "python": platform.python_version(),
          **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
          "device": device()}


def device():
  """GPUs, or CPU cores where TensorFlow finds none: a text such as "2 x Tesla T4"."""
  gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
          for gpu in tf.config.list_physical_devices("GPU")]
  return f"{len(gpus)} x {gpus[0]}" if gpus else f"{cores()} CPU cores"


def differences(before, now):
  """How two results of `software` differ: "" or a text such as "tensorflow was 2.15.1 and is now 2.21.0"."""
  return ", ".join(f"{name} was {before.get(name, 'not told')} and is now {value}" for name, value in now.items()
                   if before.get(name, "not told") != value)


def _commit():
  root = os.path.dirname(os.path.dirname(os.path.abspath(deepcomp_tf.__file__)))
  if not os.path.exists(os.path.join(root, ".git")):
    return ""
  try:
    return subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True,
                          check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):  # no git, or a checkout that belongs to somebody else
    return ""
