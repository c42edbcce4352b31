"""What the benchmarks share: calls that are timed in turns, the machine, memory, and processes that measure for another."""

import os
import platform
import resource
import statistics
import time

import numpy as np
import tensorflow as tf

from deepcomp_tf import samples


def in_turns(works, repeats, clock=time.perf_counter, warm_ups=2):
  """Times functions in turns, so that all meet the same machine.

  Args:
    works: dict of functions without arguments by their names. What they return, if it is a tensor, is waited for.
    repeats: calls of each that count.
    clock: function that returns seconds.
    warm_ups: calls of each before, which trace and warm up.

  Returns:
    dict of the median seconds by the names.
  """
  times = {name: [] for name in works}
  for turn in range(-warm_ups, repeats):
    for name, work in works.items():
      begin = clock()
      result = work()
      if tf.is_tensor(result):
        result.numpy()
      if turn >= 0:
        times[name].append(clock() - begin)
  return {name: statistics.median(values) for name, values in times.items()}


def machine():
  """The processor, its cores, the GPUs and TensorFlow's version, for the head of a table."""
  return (f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"{len(tf.config.list_physical_devices('GPU'))} GPUs, TensorFlow {tf.__version__}")


def peak_memory():
  """The most resident memory that this process has had, in bytes."""
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def large_photo(height, width):
  """uint8 `[height, width, 3]`: a sample photo laid out like tiles."""
  tile = samples.photos()["coffee"]
  return np.tile(tile, [-(-height // tile.shape[0]), -(-width // tile.shape[1]), 1])[:height, :width]


def outputs_of(processes):
  """What processes print until they end, a text for each; ends this process where one of them fails."""
  outputs = [process.communicate()[0] for process in processes]
  if any(process.returncode for process in processes):
    raise SystemExit("error: a measurement failed")
  return outputs
