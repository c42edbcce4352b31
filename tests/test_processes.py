"""Codecs and networks in other processes: pickled, spawned, and forked off too late."""

import multiprocessing
import pickle

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.codec.operating_point import OperatingPoint


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


@pytest.fixture(name="data", scope="module")
def fixture_data(codec):
  return codec.compress(samples.photos()["coffee"][:64, :64])  # so that TensorFlow has run in this process


@pytest.fixture(name="classifier", scope="module")
def fixture_classifier(codec, tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("networks") / "classifier")
  dc.Classifier(dc.models.CResNet(12, 2, width=0.125), NetworkInput("representation", codec), ["cup", "cat"]).save(folder)
  return dc.Classifier.load(folder)


def test_what_is_pickled_is_loaded_again(codec, data, classifier, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for one, call in ((codec, "decompress"), (classifier, "classify")):
    pickled = pickle.dumps(one)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(getattr(pickle.loads(pickled), call)(data), getattr(one, call)(data))
  point = OperatingPoint.load("bpp0.0983")
  point.source = None  # as in training
  for one, said in ((dc.Codec(point), "network bpp0.0983 that is not saved"), (classifier.copy(), "classifier that was loaded")):
    with pytest.raises(dc.DeepcompError, match=said):
      pickle.dumps(one)


def _in_a_fork(one, call, *arguments):
  """What a forked process gets of a call: its result, or the error's line."""
  receive, send = multiprocessing.Pipe()

  def work():
    try:
      send.send(getattr(one, call)(*arguments))
    except dc.DeepcompError as error:
      send.send(str(error))
  process = multiprocessing.get_context("fork").Process(target=work)
  process.start()
  try:
    assert receive.poll(60), f"{call} does not answer"
    return receive.recv()
  finally:
    process.kill()
    process.join()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_networks_are_refused_in_a_fork_and_symbols_are_read(codec, data, classifier):
  np.testing.assert_array_equal(_in_a_fork(codec, "symbols", data), codec.symbols(data))
  for one, call, given in ((codec, "decompress", data), (codec, "compress", np.zeros([16, 16, 3], np.uint8)),
                           (classifier, "classify", data),
                           (dc.Codec.load("bpp0.635"), "compress", np.zeros([16, 16, 3], np.uint8))):
    assert "Received: one that was forked after" in _in_a_fork(one, call, given)
  assert tf.config.threading.get_inter_op_parallelism_threads() == 0  # looking has changed nothing


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_started_anew(codec, data, method):
  with multiprocessing.get_context(method).Pool(1) as pool:
    result = pool.apply_async(codec.decompress, (data,)).get(120)
  np.testing.assert_array_equal(result, codec.decompress(data))
