"""Many photos at a time: the files of one at a time, in order, whatever lies between."""

import threading
import time

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf import threads
from deepcomp_tf.codec import batches
from deepcomp_tf.codec import tiling

NAMES = ("bpp0.0983", "bpp0.330", "bpp0.635")


@pytest.fixture(scope="module", name="codecs")
def fixture_codecs():
  return {name: dc.Codec.load(name) for name in NAMES}


def _mixed_images(count, seed):
  """Parts of the sample photos and noise: a few sizes that come often, some that pad to them, and others."""
  rng, photos = np.random.default_rng(seed), list(samples.photos().values())
  sizes = [(64, 64), (64, 64), (61, 58), (96, 128), (91, 122)]
  for number in range(count):
    height, width = sizes[rng.integers(len(sizes))] if number % 3 else rng.integers(1, 150, 2)
    if number % 10 == 7:
      yield rng.integers(0, 256, [height, width, 3]).astype(np.uint8)
      continue
    photo = photos[rng.integers(len(photos))]
    top, left = rng.integers(photo.shape[0] - height + 1), rng.integers(photo.shape[1] - width + 1)
    yield photo[top:top + height, left:left + width]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_files_are_those_of_one_at_a_time(codecs, name):
  images = [*_mixed_images(40, seed=NAMES.index(name)), *(image[:200, :300] for image in samples.photos().values())]
  assert list(codecs[name].compress_many(images)) == [codecs[name].compress(image) for image in images]


@pytest.mark.slow
def test_batches_of_images_that_are_tiled_or_wait(codecs, monkeypatch):
  monkeypatch.setattr(tiling, "TILE", 12)
  monkeypatch.setattr(batches, "WAITING_IMAGES", 6)
  monkeypatch.setattr(batches, "WAITING_PIXELS", 100_000)
  codec, images = codecs["bpp0.0983"], list(_mixed_images(36, seed=9))
  assert list(codec.compress_many(iter(images))) == [codec.compress(image) for image in images]


def test_batches_of_equal_size(codecs, monkeypatch):
  """As on a GPU: the network is given batches, and the files come in order. Rounding may decide single symbols."""
  monkeypatch.setattr("deepcomp_tf.codec.batches.on_gpu", lambda: True)
  monkeypatch.setattr(tiling, "TILE", 12)
  codec, sizes = codecs["bpp0.330"], []
  images = list(_mixed_images(40, seed=3))
  expected = [codec.encode(image) for image in images]
  encode_batch = codec._encode_batch
  monkeypatch.setitem(codec.__dict__, "_encode_batch", lambda batch: sizes.append(len(batch)) or encode_batch(batch))
  differing = 0
  for data, symbols in zip(codec.compress_many(images), expected, strict=True):
    decoded = codec.symbols(data)
    assert decoded.shape == symbols.shape
    differing += np.count_nonzero(decoded != symbols)
  assert differing <= 2 and max(sizes) >= 8


def test_wrong_images_do_not_stop_the_others(codecs):
  codec, good = codecs["bpp0.0983"], np.zeros([16, 24, 3], np.uint8)
  images = [good, good.astype(np.float32), good, np.zeros([0, 8, 3], np.uint8), dc.DeepcompError("not read"), "text", good]
  results = list(codec.compress_many(images, errors="return"))
  assert [isinstance(result, dc.DeepcompError) for result in results] == [False, True, False, True, True, True, False]
  assert "dtype=float32" in str(results[1]) and "shape=(0, 8, 3)" in str(results[3]) and str(results[4]) == "not read"
  assert {results[number] for number in (0, 2, 6)} == {codec.compress(good)}
  files = codec.compress_many(images)
  assert next(files) == results[0]
  with pytest.raises(dc.DeepcompError, match="dtype=float32"):
    next(files)
  with pytest.raises(dc.DeepcompError, match="raise or return"):
    codec.compress_many(images, errors="ignore")
  assert not list(codec.compress_many([]))


def test_images_are_read_while_they_are_compressed_but_not_all_at_once(codecs):
  """An endless source gives its first files soon, and nothing runs on when its files are no longer asked for."""
  read, threads, before = [], set(), threading.active_count()

  def source():
    while True:
      read.append(1)
      threads.add(threading.current_thread())
      yield np.full([16, 16, 3], len(read) % 256, np.uint8)

  files = codecs["bpp0.0983"].compress_many(source())
  for _ in range(100):
    next(files)
  assert len(read) <= 100 + batches.WAITING_IMAGES + batches.BATCH * (batches._BATCHES_TO_CODE + 3)
  assert threading.current_thread() not in threads
  files.close()
  stopped = len(read)
  time.sleep(0.05)
  assert len(read) == stopped and threading.active_count() <= before + 1  # the entropy coder keeps its threads


@pytest.mark.parametrize("gpu", [False, True])
def test_a_source_may_wait_for_the_files_of_what_it_gave(codecs, monkeypatch, gpu):
  monkeypatch.setattr("deepcomp_tf.codec.batches.on_gpu", lambda: gpu)
  image, delivered = np.zeros([16, 16, 3], np.uint8), threading.Semaphore(0)

  def source():
    for count in (1, 2, 1):
      yield from [image] * count
      for _ in range(count):
        assert delivered.acquire(timeout=5), "the file does not come"

  for _ in codecs["bpp0.0983"].compress_many(source()):
    delivered.release()


def test_an_error_of_the_source_is_raised(codecs):
  def source():
    yield np.zeros([8, 8, 3], np.uint8)
    raise OSError("the disk is gone")

  with pytest.raises(OSError, match="disk is gone"):
    list(codecs["bpp0.0983"].compress_many(source()))


def test_ordered_map():
  begun = []

  def values():
    for number in range(50):
      begun.append(number)
      yield number

  results = threads.ordered_map(lambda number: time.sleep(0.002 * (number % 3)) or number ** 2, values(), threads=4, ahead=6)
  assert next(results) == 0 and len(begun) <= 8
  assert list(results) == [number ** 2 for number in range(1, 50)]


def test_results_that_wait_have_a_bound():
  """Whatever the threads, in their order, and however the calls are spread in time; an error gives its room back."""
  held, most, peak, lock = [0], 100, [0], threading.Lock()
  weights = np.random.default_rng(0).integers(1, 60, 80).tolist()
  weights[5] = 500  # alone it is let in

  def make(number, enter):
    time.sleep(0.001 * (number % 3))
    if number == 7:
      raise OSError("damaged")
    enter(weights[number])
    with lock:
      held[0] += weights[number]
      peak[0] = max(peak[0], held[0] if number != 5 else 0)
    return number

  def guarded(number, enter):
    try:
      return make(number, enter)
    except OSError:
      return None

  order = []
  for number, result in enumerate(threads.ordered_map(guarded, range(80), threads=16, most=most)):
    order.append(result)
    with lock:
      held[0] -= weights[number] if number != 7 else 0
  assert order == [None if number == 7 else number for number in range(80)]
  assert peak[0] <= most + max(weights[:5] + weights[6:])  # one may be on its way to who asked for it
  stopped = threads.ordered_map(make, range(80), threads=16, most=most)
  next(stopped)
  stopped.close()  # does not wait for those that wait for room


def test_cores_are_those_of_the_container(tmp_path, monkeypatch):
  quota = tmp_path / "cpu.max"
  monkeypatch.setattr(threads, "_QUOTAS", ((str(quota),), (str(tmp_path / "none"), str(tmp_path / "none"))))
  monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(32)))
  for text, expected in (("max 100000", 32), ("200000 100000", 2), ("150000 100000", 2), ("20000 100000", 1),
                         ("-1 100000", 32), ("", 32)):
    quota.write_text(text)
    assert threads.cores() == expected
