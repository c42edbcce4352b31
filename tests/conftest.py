"""What tests share: small networks, the shipped codecs, a folder for caches, and a remote file system."""

import functools
import os
from unittest import mock
import uuid

import numpy as np
import programs  # pylint: disable=unused-import  # it adds small networks to those that there are
import pytest
import tensorflow as tf

import deepcomp_tf as dc


@pytest.fixture(scope="session", autouse=True)
def fixture_cache_home(tmp_path_factory):
  """The user's cache folder, of the programs too. Networks are not kept for LiteRT, which takes seconds."""
  os.environ["XDG_CACHE_HOME"], os.environ["DEEPCOMP_LITERT"] = str(tmp_path_factory.mktemp("cache_home")), "0"


@pytest.fixture(name="remote")
def fixture_remote():
  """A folder at ram://, TensorFlow's file system in memory, which lives in one process: empty and this test's own."""
  folder = f"ram://{uuid.uuid4().hex}"
  tf.io.gfile.makedirs(folder)
  yield folder
  tf.io.gfile.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def fixture_shipped_codecs():
  """Shipped operating points are loaded once a process, since it takes a second or two to trace what they compute."""
  load = dc.Codec.load
  shared = functools.cache(load)

  def load_once(name, encoder_version=None, aim=None):
    plain = encoder_version is None and aim is None and name in dc.operating_points.names()
    return shared(name) if plain else load(name, encoder_version, aim)

  with mock.patch.object(dc.Codec, "load", staticmethod(load_once)):
    yield
  for name in dc.operating_points.names():  # no test has changed what the next one takes
    for found, expected in zip(shared(name).model.weights, load(name).model.weights, strict=True):
      np.testing.assert_array_equal(found, expected)
