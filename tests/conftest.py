"""What tests share: small networks, a folder for caches, and a remote file system."""

import os
import uuid

import programs  # pylint: disable=unused-import  # it adds small networks to those that there are
import pytest
import tensorflow as tf


@pytest.fixture(scope="session", autouse=True)
def fixture_cache_home(tmp_path_factory):
  """The user's cache folder, of the programs too."""
  os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache_home"))


@pytest.fixture(name="remote")
def fixture_remote():
  """A folder at ram://, TensorFlow's file system in memory, which lives in one process: empty and this test's own."""
  folder = f"ram://{uuid.uuid4().hex}"
  tf.io.gfile.makedirs(folder)
  yield folder
  tf.io.gfile.rmtree(folder)
