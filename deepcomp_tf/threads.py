"""Threads: how many there should be, those that are kept, maps on them, and what a fork leaves of them."""

import collections
import concurrent.futures
import functools
import os
import sys
import threading

from deepcomp_tf.errors import DeepcompError

# Where Linux says how much of its time a container may have on the cores: microseconds, and those of a period.
_QUOTAS = (("/sys/fs/cgroup/cpu.max",), ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def cores():
  """CPU cores that this process may use: those that it may run on, or fewer where its container's share is less."""
  count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  return max(1, min(count, *(_quota(*paths) or count for paths in _QUOTAS)))


def _quota(*paths):
  """Whole cores that a container's share makes, at least one; None where it has no limit."""
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
  """A `ThreadPoolExecutor` of so many threads, kept for the process. What it is given may not wait for others of its work."""
  return concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="deepcomp")


def in_slices(function, count, threads=None, most=16):
  """Calls a function for parts of `count` things, on this thread and others.

  Args:
    function: of a slice.
    count: of the things.
    threads: at most so many; None for as many as there are cores.
    most: things in a part, where there are several threads.
  """
  threads = threads or cores()
  size = max(1, min(most, -(-count // threads)) if threads > 1 else count)
  parts = iter([slice(begin, min(begin + size, count)) for begin in range(0, count, size)])

  def work():
    for part in parts:
      function(part)

  # To wake a thread takes as long as ten files: this one works instead of waiting.
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
  """A forked process has none of the threads of its parent, and waits forever for what they would do."""
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
    # What can be set until then, and is set back.
    threading_options.set_inter_op_parallelism_threads(count + 1)
    threading_options.set_inter_op_parallelism_threads(count)
  except RuntimeError:
    return True
  return False


def check_fork():
  """Refuses to run networks in a process that was forked off one where TensorFlow had begun to work.

  Raises:
    DeepcompError: that is so.
  """
  if _lost_threads:
    raise DeepcompError("expected networks to run in a process that was started by spawn or forkserver "
                        "(multiprocessing.get_context), or forked before TensorFlow ran anything. Received: one that was forked "
                        "after, without TensorFlow's threads")


if hasattr(os, "register_at_fork"):
  os.register_at_fork(after_in_child=_after_fork)


class _Room:
  """What results weigh together is kept below a limit, but for one that weighs more alone.

  They enter in their order: then the oldest, which is the next to leave, never waits for the room of younger ones.
  """

  def __init__(self, most):
    self._most, self._weights, self._next, self._open = most, {}, 0, True
    self._changed = threading.Condition()

  def enter(self, number, weight=0):
    """Waits until there is room for result `number`; does nothing for one that has entered."""
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
  """Like `map`, on threads, with a bounded number of calls ahead of the one that is asked for.

  Args:
    function: of one value; with `most` also of a function of a number, which it calls with what its result will weigh before it
      takes memory for it, and which waits until there is room.
    values: iterable.
    threads: how many.
    ahead: calls that are begun or done before their result is asked for; by default four a thread.
    most: what the results that have not been asked for weigh together, but for one that weighs more alone.

  Yields:
    the results in the order of the values.
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
