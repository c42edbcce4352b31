"""A remote file system for tests: TensorFlow's own in memory, which lives in one process."""

import uuid

import pytest
import tensorflow as tf


@pytest.fixture(name="remote")
def fixture_remote():
  """A folder at ram://, empty and this test's own."""
  folder = f"ram://{uuid.uuid4().hex}"
  tf.io.gfile.makedirs(folder)
  yield folder
  tf.io.gfile.rmtree(folder)
