"""What waits goes through the networks together, one batch at a time; and only so much of it may wait."""

import threading

import pytest

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.serve import batching


def test_jobs_of_a_kind_are_done_together_and_each_has_its_own_result():
  inside, go_on, batches, seen = threading.Event(), threading.Event(), [], []

  def double(items):
    inside.set()
    go_on.wait(30)
    batches.append(items)
    return [DeepcompError("three") if item == 3 else 2 * item for item in items]

  def fail(items):
    raise KeyError(len(items))

  batcher = batching.Batcher({"double": double, "fail": fail}, {"double": 4, "fail": 4}, patience=0,
                             seen=lambda kind, count, seconds: seen.append((kind, count)))
  first = batcher.submit("double", 0)
  assert inside.wait(30)
  failing = batcher.submit("fail", 0)
  others = [batcher.submit("double", number) for number in range(1, 7)]
  others[4].cancel()
  assert len(batcher) == 7
  go_on.set()
  batcher.close()  # does what waits
  assert first.result() == 0 and batches == [[0], [1, 2, 3, 4], [6]]
  assert seen == [("double", 1), ("fail", 1), ("double", 4), ("double", 1)]
  assert [future.result() for future in (others[0], others[1], others[3], others[5])] == [2, 4, 8, 12]
  assert str(others[2].exception()) == "three" and isinstance(failing.exception(), KeyError)
  with pytest.raises(batching.Busy, match="the service ends"):
    batcher.submit("double", 1)


def test_the_first_waits_a_little_for_others():
  batches = []
  batcher = batching.Batcher({"list": lambda items: batches.append(items) or items}, largest=3, patience=30)
  futures = [batcher.submit("list", number) for number in range(3)]  # a full batch does not wait
  assert [future.result(20) for future in futures] == [0, 1, 2] and batches == [[0, 1, 2]]
  batcher.submit("list", 3)
  batcher.close()  # nor one that nobody can join
  assert batches[1:] == [[3]]


def test_places():
  places = batching.Places(2)
  with places:
    with places, pytest.raises(batching.Busy, match="at most 2 requests"), places:
      pass
    with places:
      pass
