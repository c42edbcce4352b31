"""Tests of data read sets as the programs do, without AutoGraph: nothing needs it, and it takes most of a small test's time."""

import pytest
import tensorflow as tf


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
  pyfuncitem.obj = tf.autograph.experimental.do_not_convert(pyfuncitem.obj)
