"""Threads: how many there should be, those that are kept, and maps on them."""

import collections
import concurrent.futures
import functools
import os


def cores():
  """CPU cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


if hasattr(os, "register_at_fork"):
  os.register_at_fork(after_in_child=pool.cache_clear)  # a forked process has none of the threads


def ordered_map(function, values, threads, ahead=None):
  """Like `map`, on threads, with a bounded number of calls ahead of the one that is asked for.

  Args:
    function: of one value.
    values: iterable.
    threads: how many.
    ahead: calls that are begun or done before their result is asked for; by default four a thread.

  Yields:
    the results in the order of the values.
  """
  ahead = ahead or 4 * threads
  calls = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(threads, "deepcomp_map") as executor:
    try:
      for value in values:
        calls.append(executor.submit(function, value))
        if len(calls) > ahead:
          yield calls.popleft().result()
      while calls:
        yield calls.popleft().result()
    finally:
      for call in calls:
        call.cancel()
