"""Work that takes all of the machine, done on one thread, a batch at a time: `Batcher`; and how much of it may wait: `Places`."""

import collections
import concurrent.futures
import threading
import time

from deepcomp_tf.errors import DeepcompError

# Seconds that the first of a batch waits for others.
PATIENCE = 0.005


class Busy(DeepcompError):
  """As many are served as may."""


class Places:
  """Context for those that may be served at a time; one more is refused as `Busy`."""

  def __init__(self, most):
    self.most, self._free = most, threading.BoundedSemaphore(most)

  def __enter__(self):
    if not self._free.acquire(blocking=False):
      raise Busy(f"expected at most {self.most} requests at a time. Received: one more; try again in a few seconds")

  def __exit__(self, *error):
    self._free.release()


class _Job:
  """Something to be done: its kind, what is done with, when it came, and the `Future` of its result."""

  def __init__(self, kind, item):
    self.kind, self.item, self.since, self.future = kind, item, time.monotonic(), concurrent.futures.Future()


class Batcher:
  """Does jobs on a thread of its own. Those of one kind that wait at the same time are done together, the oldest first.

  Examples:
    >>> batcher = Batcher({"double": lambda items: [2 * item for item in items]})
    >>> batcher.submit("double", 3).result()
    6

  Args:
    work: dict from kinds to functions of a list of items, which return a list of results, in which exceptions are those of single
      items.
    largest: jobs of a batch, at most; a dict from kinds, or one number for all.
    patience: seconds that the first of a batch waits for others.
    seen: called with the kind, the number of jobs and the seconds of each batch that is done.
  """

  def __init__(self, work, largest=16, patience=PATIENCE, seen=lambda kind, count, seconds: None):
    self._work, self._patience, self._seen = work, patience, seen
    self._largest = largest if isinstance(largest, dict) else dict.fromkeys(work, largest)
    self._waiting, self._open, self._changed = collections.deque(), True, threading.Condition()
    self._thread = threading.Thread(target=self._run, name="deepcomp_batches")
    self._thread.start()

  def __len__(self):
    """How many jobs wait."""
    return len(self._waiting)

  def submit(self, kind, item):
    """The `Future` of a job's result. Raises `Busy` once it is closed. How many may wait is up to who submits, see `Places`."""
    job = _Job(kind, item)
    with self._changed:
      if not self._open:
        raise Busy("expected no more requests, since the service ends. Received: one more")
      self._waiting.append(job)
      self._changed.notify_all()
    return job.future

  def close(self):
    """Does what waits; then the thread ends."""
    with self._changed:
      self._open = False
      self._changed.notify_all()
    self._thread.join()

  def _next(self):
    """The jobs of the next batch; none at the end."""
    with self._changed:
      self._changed.wait_for(lambda: self._waiting or not self._open)
      if not self._waiting:
        return []
      first = self._waiting[0]
      alike = lambda: [job for job in self._waiting if job.kind == first.kind][:self._largest[first.kind]]
      full = lambda: not self._open or len(alike()) == self._largest[first.kind]
      self._changed.wait_for(full, max(0, first.since + self._patience - time.monotonic()))
      batch = alike()
      self._waiting = collections.deque(job for job in self._waiting if job not in batch)
      return batch

  def _run(self):
    while batch := self._next():
      begin, kind = time.monotonic(), batch[0].kind
      batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
      if not batch:
        continue
      try:
        results = list(self._work[kind]([job.item for job in batch]))
        if len(results) != len(batch):
          raise ValueError(f"expected {len(batch)} results of {kind}. Received: {len(results)}")
      except BaseException as error:  # who asked is told, and the next batch may go well  # pylint: disable=broad-except
        results = [error] * len(batch)
      self._seen(kind, len(batch), time.monotonic() - begin)
      for job, result in zip(batch, results):
        if isinstance(result, BaseException):
          job.future.set_exception(result)
        else:
          job.future.set_result(result)
