"""What tests share: the order of their files, a folder for caches, and a remote file system."""

import collections
import os
import uuid

import pytest
import tensorflow as tf


def pytest_collection_modifyitems(items):
  """Files with most tests of whole programs come first, so that no worker is left with them at the end."""
  slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
  items.sort(key=lambda item: (-slow[item.path], item.path))


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
