"""Who writes, and who evaluates what, among workers; which precision is slow."""

import json
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from deepcomp_tf.training import distribution


@pytest.mark.parametrize("cluster, task, name", [
    (None, None, ""),
    ({"worker": ["a:1", "b:1"]}, ("worker", 0), ""), ({"worker": ["a:1", "b:1"]}, ("worker", 1), "worker1"),
    ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("chief", 0), ""),
    ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, ("worker", 0), "worker0"),
])
def test_one_process_writes(monkeypatch, cluster, task, name):
  """The chief, or the first worker where there is none."""
  if cluster is None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
  else:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": dict(zip(("type", "index"), task))}))
  assert distribution.worker_name() == name


def test_one_process_evaluates_all():
  seen = []

  def evaluate(own):
    for index in own:
      seen.append(index)
      yield [index, index ** 2]

  strategy = tf.distribute.get_strategy()
  np.testing.assert_array_equal(distribution.share_work(strategy, 4, 2, evaluate), [[0, 0], [1, 1], [2, 4], [3, 9]])
  assert seen == [0, 1, 2, 3]
  assert distribution.share_work(strategy, 0, 2, evaluate).shape == (0, 2)


@pytest.mark.parametrize("policy, instructions, warned", [
    ("mixed_bfloat16", "avx2 fma", True), ("mixed_bfloat16", "avx512_bf16", False), ("float32", "avx2 fma", False)])
def test_slow_bfloat16_is_warned_of(monkeypatch, tmp_path, caplog, policy, instructions, warned):
  (tmp_path / "cpuinfo").write_text(f"flags\t: fpu {instructions}\n")
  monkeypatch.setattr(distribution, "_CPU_INFO", tmp_path / "cpuinfo")
  monkeypatch.setattr(tf.config, "list_logical_devices", lambda: [tf.config.LogicalDevice("/device:CPU:0", "CPU")])
  with distribution.precision(policy):
    pass
  assert ("30 times as long" in caplog.text) == warned


def test_a_run_says_which_devices_it_has(caplog):
  with caplog.at_level("INFO", logger="absl"):
    distribution.make_strategy("default")
  expected = r"Training on \d+ x .*; replicas" if tf.config.list_physical_devices("GPU") else (
      r"Training on \d+ CPU cores, since TensorFlow finds no GPU; replicas in all: 1\.")
  assert len(re.findall(expected, caplog.text)) == 1


@pytest.mark.parametrize("replicas, expected", [(1, 8), (3, 6), (8, 8), (16, 16)])
def test_no_batch_is_too_small_for_its_replicas(replicas, expected):
  strategy = mock.Mock(num_replicas_in_sync=replicas)
  assert distribution.shared_alike(8, strategy) == expected
