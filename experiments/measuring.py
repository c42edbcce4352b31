"""What the benchmarks share: calls that are timed in turns, the machine, memory, and processes that measure for another."""

import functools
import os
import platform
import resource
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from deepcomp_tf import samples
from deepcomp_tf import threads


def clocks():
  """Seconds, and seconds of this process's CPU time, `[2]`: what is between two calls is the difference."""
  return np.array([time.perf_counter(), time.process_time()])


def in_turns(works, rounds, warm_ups=2):
  """Times functions in turns, so that all meet the same machine.

  Args:
    works: dict of functions without arguments by their names. What they return, if it is a tensor, is waited for.
    rounds: calls of each that count.
    warm_ups: calls of each before, which trace and warm up.

  Returns:
    dict of `[rounds, 2]` by the names: what `clocks` say of each call.
  """
  times = {name: [] for name in works}
  for turn in range(-warm_ups, rounds):
    for name, work in works.items():
      begin = clocks()
      result = work()
      if tf.is_tensor(result):
        result.numpy()
      if turn >= 0:
        times[name].append(clocks() - begin)
  return {name: np.array(values) for name, values in times.items()}


def machine():
  """The machine, TensorFlow's version and the day, for the head of a table."""
  return (f"{platform.processor() or platform.machine()}, {threads.cores()} cores, load {os.getloadavg()[0]:.1f}, "
          f"{len(tf.config.list_physical_devices('GPU'))} GPUs, TensorFlow {tf.__version__}, {time.strftime('%Y-%m-%d')}")


def peak_memory():
  """The most resident memory that this process has had, in bytes."""
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def large_photo(height, width):
  """uint8 `[height, width, 3]`: a sample photo laid out like tiles."""
  tile = samples.photos()["coffee"]
  return np.tile(tile, [-(-height // tile.shape[0]), -(-width // tile.shape[1]), 1])[:height, :width]


def start(program, *arguments, cores=None, python=sys.executable, **options):
  """Starts another program of this folder, on some cores only; options are those of `subprocess.Popen`."""
  return subprocess.Popen([python, "-m", f"{__package__}.{program}", *arguments], text=True, stdout=subprocess.PIPE,
                          preexec_fn=cores and functools.partial(os.sched_setaffinity, 0, cores), **options)


def outputs_of(*processes):
  """What processes print until they end, a text for each; ends this process where one of them fails."""
  outputs = [process.communicate()[0] for process in processes]
  if any(process.returncode for process in processes):
    raise SystemExit("error: a measurement failed")
  return outputs
