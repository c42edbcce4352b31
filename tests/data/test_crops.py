"""Crops of compressed files: parts of the right maps, the same again, for each worker its own, without what is damaged."""

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import container
from deepcomp_tf.data import classification
from deepcomp_tf.data import sources
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.part import Part
from deepcomp_tf.data.store import Store
from deepcomp_tf.codec.inputs import NetworkInput

SHAPES = [(9, 12), (7, 7), (8, 10), (12, 9), (7, 9), (10, 10), (8, 8)]
DAMAGED = 2


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


@pytest.fixture(name="maps", scope="module")
def fixture_maps(codec):
  rng = np.random.default_rng(0)
  return [np.clip(np.round(rng.normal(40, 2, [*shape, codec.channels])), 0, 80).astype(np.uint8) for shape in SHAPES]


@pytest.fixture(name="source")
def fixture_source(codec, maps):
  """A source of the maps' files, labelled by their numbers; one is damaged."""
  files = [container.pack(codec.fingerprint, 8 * m.shape[0], 8 * m.shape[1], codec.encode_symbols(m)) for m in maps]
  files[DAMAGED] = files[DAMAGED][:-1]

  return _source(files)


def _source(files, labels=None):
  labels = np.arange(len(files)) if labels is None else labels
  stored = tf.data.Dataset.from_tensor_slices((files, np.array(labels, np.int64)))
  return sources.Source("test", [str(n) for n in range(len(files))], len(files), True, None, "files",
                        lambda: "files", lambda number: f"example {number}",
                        lambda begin, end: stored.skip(begin).take(end - begin),
                        lambda seed: stored.shuffle(len(files), seed=seed))


def _examples(source, codec, cache, folder):
  examples = classification.Examples(sources.in_memory(source) if cache == "encoded" else source, codec)
  return Store.open(str(folder), examples) if cache == "decoded" else examples


@pytest.fixture(name="examples", params=classification.CACHES)
def fixture_examples(request, source, codec, tmp_path):
  """The source's examples with each kind of cache."""
  return _examples(source, codec, request.param, tmp_path)


@pytest.mark.parametrize("cache", classification.CACHES)
def test_training_crops_are_parts_of_their_maps(cache, source, codec, maps, tmp_path):
  stored = list(source.read(0, len(SHAPES)).as_numpy_iterator())
  stored += 4 * [example for number, example in enumerate(stored) if number != DAMAGED]
  examples = _examples(_source(*map(list, zip(*stored))), codec, cache, tmp_path)
  crops = Crops(NetworkInput("representation", codec), True, 48)
  corners, mirrored, seen = set(), set(), set()
  for epoch in range(3):
    batches = list(crops.training_batches(examples, 2, seed=3, epoch=epoch).as_numpy_iterator())
    assert [batch.shape for batch, _ in batches] == [(2, 6, 6, codec.channels)] * 15
    for crop, label in ((crop, label) for batch in batches for crop, label in zip(*batch)):
      whole = maps[label]
      places = [(top, left, flip) for top in range(whole.shape[0] - 5) for left in range(whole.shape[1] - 5)
                for flip in (False, True)
                if (whole[top:top + 6, left:left + 6][:, ::-1 if flip else 1] == crop).all()]
      assert len(places) == 1
      corners.add(places[0][:2])
      mirrored.add(places[0][2])
      seen.add(int(label))
  assert seen == set(range(len(SHAPES))) - {DAMAGED}
  assert mirrored == {False, True} and len(corners) > 12


def test_a_stopped_epoch_goes_on(examples, codec):
  crops = Crops(NetworkInput("representation", codec), True, 48)
  batches = lambda **where: list(crops.training_batches(examples, 2, seed=1, **where).as_numpy_iterator())
  whole, rest = batches(epoch=4), batches(epoch=4, first_step=1)
  assert len(whole) == 3 and len(rest) == 2
  for expected, found in zip(whole[1:], rest):
    for x, y in zip(expected, found):
      np.testing.assert_array_equal(x, y)
  assert any((x[0] != y[0]).any() for x, y in zip(whole, batches(epoch=5)))


def test_workers_read_their_parts(examples, codec):
  crops = Crops(NetworkInput("representation", codec), True, 48)
  batches = lambda *part: list(crops.training_batches(examples, 6, 1, 2, part=Part(*part)).as_numpy_iterator())
  for whole, *parts in zip(batches(0, 1), *(batches(number, 3) for number in range(3)), strict=True):
    for array, *pieces in zip(whole, *parts):
      assert [len(piece) for piece in pieces] == [2, 2, 2]
      same = [(one == other).all() for one, other in zip(array, np.concatenate(pieces))]
      assert sum(same) >= (6 if isinstance(examples, Store) else 5)  # another one may stand in for the damaged one


def test_centers_for_evaluation(examples, codec, maps):
  crops = Crops(NetworkInput("representation", codec), True, 56)
  batches = list(crops.evaluation_batches(examples, 4).as_numpy_iterator())
  assert sum(len(labels) for _, labels in batches) == len(SHAPES) - 1
  labels = np.concatenate([labels for _, labels in batches])
  assert labels.tolist() == [n for n in range(len(SHAPES)) if n != DAMAGED]
  for crop, label in zip(np.concatenate([batch for batch, _ in batches]), labels):
    top, left = (maps[label].shape[0] - 7) // 2, (maps[label].shape[1] - 7) // 2
    np.testing.assert_array_equal(crop, maps[label][top:top + 7, left:left + 7])


def test_damaged_files_are_named(source, codec, tmp_path):
  examples = Store.open(str(tmp_path), classification.Examples(source, codec))
  assert len(examples) == len(SHAPES) - 1
  assert len(examples.skipped) == 1 and examples.skipped[0].startswith(f"example {DAMAGED}: damaged")


@pytest.mark.parametrize("store", [False, True])
def test_many_damaged_files_are_an_error(codec, maps, store, tmp_path):
  files = [container.pack(codec.fingerprint, 8 * m.shape[0], 8 * m.shape[1], codec.encode_symbols(m)) for m in maps]
  files[1], files[4] = files[1][:-1], b"no file"
  source = _source(files)
  with pytest.raises((dc.DeepcompError, tf.errors.OpError), match="at most 5 % of the 7 examples of test to be damaged"):
    examples = classification.Examples(source, codec)
    if store:
      Store.open(str(tmp_path), examples)
    list(Crops(NetworkInput("representation", codec), True, 48).evaluation_batches(examples, 2))


def test_a_damaged_file_counts_once_however_often_it_is_met(source, codec):
  examples = classification.Examples(source, codec)
  batches = Crops(NetworkInput("representation", codec), True, 48).evaluation_batches(examples, 2)
  for _ in range(3):
    assert sum(int(labels.shape[0]) for _, labels in batches) == len(SHAPES) - 1


def test_a_set_of_another_operating_point_is_an_error(source, codec):
  other = source._replace(fingerprint="012345")
  with pytest.raises(dc.DeepcompError, match=f"of the operating point {codec.fingerprint.hex()} .bpp0.0983.. "
                     "Received: test, which was compressed at 012345"):
    classification.Examples(other, codec)
