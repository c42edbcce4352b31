"""Threads: how many to use, pools of them, maps over them, and what remains of them after a fork."""

import collections
import concurrent.futures
import functools
import os
import sys
import threading

from deepcomp_tf.errors import DeepcompError

# Where Linux says how much CPU time a container may use: microseconds, and the period that they are for.
_QUOTAS = (("/sys/fs/cgroup/cpu.max",), ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def cores():
  """CPU cores that this process may use: those it may run on, or fewer where its container's share is smaller."""
  count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  return max(1, min(count, *(_quota(*paths) or count for paths in _QUOTAS)))


def _quota(*paths):
  """A container's share in whole cores, at least 1; None where it has no limit."""
  try:
    numbers = []
    for path in paths:
      with open(path, encoding="ascii") as file:
        numbers += file.read().split()
    quota, period = map(int, numbers)
  except (OSError, ValueError):  # there is none, or it says "max"
    return None
  return max(1, -(-quota // period)) if quota > 0 < period else None


@functools.lru_cache(maxsize=4)
def pool(count):
  """A `ThreadPoolExecutor` of `count` threads, kept for the process. Its tasks must not wait for each other."""
  return concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="deepcomp")


def in_slices(function, count, threads=None, most=16):
  """Calls a function of a slice for parts of `count` things, on this thread and others.

  Args:
    function, count: see above.
    threads: the most to use; None for as many as there are cores.
    most: things in a part, where there are several threads.
  """
  threads = threads or cores()
  size = max(1, min(most, -(-count // threads)) if threads > 1 else count)
  parts = iter([slice(begin, min(begin + size, count)) for begin in range(0, count, size)])

  def work():
    for part in parts:
      function(part)

  # Waking a thread takes as long as ten files: the calling thread works, too, instead of waiting.
  helpers = [pool(threads).submit(work) for _ in range(min(threads, -(-count // size)) - 1)]
  try:
    work()
  finally:
    for helper in helpers:
      if not helper.cancel():
        helper.result()


# Whether TensorFlow had begun to work when this process was forked off.
_lost_threads = False


def _after_fork():
  """A forked process has none of its parent's threads, and would wait forever for their work."""
  global _lost_threads
  pool.cache_clear()
  _lost_threads = _lost_threads or _tensorflow_works()


def _tensorflow_works():
  """Whether TensorFlow has run something in this process, beyond being imported."""
  threading_options = getattr(getattr(sys.modules.get("tensorflow"), "config", None), "threading", None)
  if threading_options is None:
    return False
  count = threading_options.get_inter_op_parallelism_threads()
  try:
    # It can be changed until TensorFlow works; it is set back.
    threading_options.set_inter_op_parallelism_threads(count + 1)
    threading_options.set_inter_op_parallelism_threads(count)
  except RuntimeError:
    return True
  return False


def check_fork():
  """Refuses to run networks in a process that was forked after TensorFlow had begun to work.

  Raises:
    DeepcompError: this process is such a fork.
  """
  if _lost_threads:
    raise DeepcompError("expected networks to run in a process that was started by spawn or forkserver "
                        "(multiprocessing.get_context), or forked before TensorFlow ran anything. Received: one that was forked "
                        "after, without TensorFlow's threads")


if hasattr(os, "register_at_fork"):
  os.register_at_fork(after_in_child=_after_fork)


class _Room:
  """Keeps the total weight of results below a limit; a result that is heavier than the limit enters alone.

  Results enter in their order, so that the oldest, which is the next to leave, never waits for younger ones.
  """

  def __init__(self, most):
    self._most, self._weights, self._next, self._open = most, {}, 0, True
    self._changed = threading.Condition()

  def enter(self, number, weight=0):
    """Waits until there is room for result `number`, unless it has entered already."""
    with self._changed:
      if number < self._next:
        return
      self._changed.wait_for(lambda: not self._open or number == self._next and (
          not self._weights or sum(self._weights.values()) + weight <= self._most))
      self._next = number + 1
      if weight:
        self._weights[number] = weight
      self._changed.notify_all()

  def leave(self, number):
    with self._changed:
      self._weights.pop(number, None)
      self._changed.notify_all()

  def close(self):
    """Nobody waits any more."""
    with self._changed:
      self._open = False
      self._changed.notify_all()


def ordered_map(function, values, threads, ahead=None, most=None):
  """Like `map`, on threads, with a bounded number of calls ahead of the result that is asked for.

  Args:
    function: of a value. With `most` its second argument is a function, which it calls with the weight of its result before it
      allocates that, and which waits until there is room.
    values: iterable.
    threads: how many.
    ahead: calls that are begun or done before their result is asked for; by default four a thread.
    most: the total weight of the results that have not been asked for; a heavier result is kept alone.
  """
  ahead = ahead or 4 * threads
  calls, room = collections.deque(), _Room(most)

  def call(number, value):
    try:
      return function(value, functools.partial(room.enter, number))
    finally:
      room.enter(number)

  def finish():
    number, result = calls.popleft()
    yield result.result()
    room.leave(number)

  with concurrent.futures.ThreadPoolExecutor(threads, "deepcomp_map") as executor:
    try:
      for number, value in enumerate(values):
        calls.append((number, executor.submit(function, value) if most is None else executor.submit(call, number, value)))
        if len(calls) > ahead:
          yield from finish()
      while calls:
        yield from finish()
    finally:
      room.close()
      for _, result in calls:
        result.cancel()
