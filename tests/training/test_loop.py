"""The loop of the training programs, on a network of one weight: its order, stages, resuming and early export."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.training import loop
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import runs


class Stopped(Exception):
  """What ends a run in the middle."""


@pytest.fixture(name="train")
def fixture_train(monkeypatch, tmp_path):
  """Function that trains a weight from 8 towards 0, and gives (what happened in turn, what was exported)."""
  def train(folder, stop_at=None, **flags):
    monkeypatch.setattr(loop, "FLAGS", types.SimpleNamespace(**{
        "run_dir": str(tmp_path / folder), "batch_size": 1, "checkpoint_every": 1, "summary_every": 1, "precision": "float32",
        "export_now": False, "data_note": "none", **flags}))
    strategy, events, exported = tf.distribute.get_strategy(), [], {}
    weight, bias = tf.Variable(0.0), tf.Variable(1.0)

    def parts(name, variables):
      events.append((name, float(weight)))
      return {f"{name}_optimizer": (optimizers.averaging_adam(0.1, 0.5), variables)}

    def loss(x, step):
      del step
      value = tf.square(weight * x) + tf.square(bias)
      return value, {"loss": value}

    def start():
      events.append("start")
      weight.assign(8.0)

    def measure(kept):
      if stop_at is not None and kept is None and float(weight) != 8.0:
        raise Stopped
      return {"weight": float(weight) if kept is None else kept, "all": [1, 2]}

    def export(kept, trained, reached):
      exported.update(kept=kept, steps=trained["steps"], reached=reached, weight=float(weight))
      (tmp_path / folder / "result").mkdir(exist_ok=True)
      (tmp_path / folder / "result/result.json").write_text(json.dumps({"trained": trained}))

    data = lambda first, part: tf.data.Dataset.range(first + 1, 100).map(lambda x: 1.0 + 0.1 * tf.cast(x % 3, tf.float32))
    stages = [loop.Stage(2, loss, lambda: parts("first", {"weight": weight}), data),
              loop.Stage(2, loss, lambda: parts("none", {}), data),
              loop.Stage(6, loss, lambda: parts("both", {"weight": weight, "bias": bias}), data)]
    loop.train(strategy, stages, {"weight": weight, "bias": bias}, program="train_x", settings={"a": 1}, result="result",
               measure=measure, every=stop_at or 2, export=export, keep=lambda: float(weight), start=start, measure_start=True)
    return events, exported, float(weight)

  return train


def _history(tmp_path, folder):
  return runs.read_history(str(tmp_path / folder))


def test_weights_are_there_before_the_optimizers(train, tmp_path):
  events, exported, weight = train("run")
  assert events == ["start", ("first", 8.0), ("both", 8.0)]
  history = _history(tmp_path, "run")
  assert [line["step"] for line in history] == [0, 2, 4, 6] and history[0]["weight"] == 8.0 and history[-1]["all"] == [1, 2]
  # What is kept, measured and exported is the average, which lags behind; the training weight is back afterwards.
  assert exported["weight"] == exported["kept"] == history[-1]["weight"] > weight
  assert exported["steps"] == 6
  assert train("run")[:2] == ([], {})  # it is done


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(train, tmp_path):
  _, whole, weight = train("whole")
  for stop_at in (1, 3, 5):  # before the first checkpoint after the start, in the first stage, in the second
    folder = f"stopped{stop_at}"
    with pytest.raises(Stopped):
      train(folder, stop_at=stop_at)
    events, exported, resumed = train(folder)
    assert "start" not in events
    assert (exported, resumed) == (whole, weight)


def test_early_export(train, tmp_path):
  with pytest.raises(dc.DeepcompError, match="--export_now takes a run with a checkpoint"):
    train("run", export_now=True)
  with pytest.raises(Stopped):
    train("run", stop_at=3)
  _, early, _ = train("run", export_now=True)
  assert early["steps"] == 2
  _, late, _ = train("run")
  assert late["steps"] == 6 and late == train("whole")[1]


def test_too_few_examples(monkeypatch):
  monkeypatch.setattr(loop, "FLAGS", types.SimpleNamespace(batch_size=4))
  assert loop.steps_per_epoch(11) == 2
  with pytest.raises(dc.DeepcompError, match="--batch_size must be at most the 3 training examples. Received: 4"):
    loop.steps_per_epoch(3)


def test_networks_begin_alike_whatever_was_prepared_before(monkeypatch):
  monkeypatch.setattr(loop, "FLAGS", types.SimpleNamespace(seed=3, precision="float32"))
  begun = []
  for drawn_before in (0, 2):
    for _ in range(drawn_before):
      tf.keras.layers.Dense(4).build([None, 4])
    with loop.networks(tf.distribute.get_strategy()):
      layer = tf.keras.layers.Dense(4)
      layer.build([None, 4])
    begun.append(layer.kernel.numpy())
  np.testing.assert_array_equal(*begun)
