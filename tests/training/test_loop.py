"""`Run`: what a folder of a run keeps, refuses and survives."""

import json

import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.training import loop
from deepcomp_tf.training import schedules

SETTINGS = {"steps": 10, "beta": 0.5, "images": None}


def test_restore_continues_from_the_last_checkpoint(tmp_path):
  weight = tf.Variable(1.0)
  run = loop.Run(str(tmp_path), SETTINGS, weight=weight)
  assert run.restore() == 0 and not loop.latest_checkpoint(str(tmp_path))
  for step in range(1, 5):
    run.step.assign_add(1)
    weight.assign(10.0 * step)
    if step in (1, 2, 3):
      run.save()
  assert loop.latest_checkpoint(str(tmp_path))
  again = tf.Variable(0.0)
  resumed = loop.Run(str(tmp_path), SETTINGS, weight=again)
  assert resumed.restore() == 3
  assert float(again) == 30.0
  assert len(list((tmp_path / "checkpoints").glob("*.index"))) == 2


def test_optimizer_state_is_restored(tmp_path):
  def build():
    weight = tf.Variable([1.0, 2.0])
    optimizer = tf.keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5, jit_compile=False)
    optimizer.build([weight])
    return weight, optimizer, loop.Run(str(tmp_path), SETTINGS, weight=weight, optimizer=optimizer)

  def steps(weight, optimizer, count):
    for _ in range(count):
      optimizer.apply_gradients([(2 * weight, weight)])

  weight, optimizer, run = build()
  steps(weight, optimizer, 3)
  run.step.assign(3)
  run.save()
  steps(weight, optimizer, 2)
  resumed, resumed_optimizer, run = build()
  assert run.restore() == 3
  steps(resumed, resumed_optimizer, 2)
  assert resumed.numpy().tolist() == weight.numpy().tolist()
  optimizer.finalize_variable_values([weight])
  resumed_optimizer.finalize_variable_values([resumed])
  assert resumed.numpy().tolist() == weight.numpy().tolist()


def test_other_settings_are_refused(tmp_path):
  loop.Run(str(tmp_path), SETTINGS)
  loop.Run(str(tmp_path), dict(SETTINGS))
  with pytest.raises(dc.DeepcompError, match=r"other settings \(beta was 0.5 and is now 0.7\); give another --run_dir"):
    loop.Run(str(tmp_path), {**SETTINGS, "beta": 0.7})
  with pytest.raises(dc.DeepcompError, match="gamma was None and is now 1"):
    loop.Run(str(tmp_path), {**SETTINGS, "gamma": 1})
  assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS


def _record(run, figures):
  for step, psnr in figures.items():
    run.step.assign(step)
    run.record({"psnr": psnr})


def test_history_of_a_resumed_run_has_each_step_once(tmp_path):
  run = loop.Run(str(tmp_path), SETTINGS)
  assert run.history() == []
  _record(run, {1: 20.0, 2: 21.0, 3: 22.0})
  _record(run, {2: 21.5, 3: 22.5, 4: 23.5})
  assert [(entry["step"], entry["psnr"]) for entry in run.history()] == [(1, 20.0), (2, 21.5), (3, 22.5), (4, 23.5)]


def test_history_survives_a_cut_line(tmp_path):
  run = loop.Run(str(tmp_path), SETTINGS)
  _record(run, {1: 20.0, 2: 21.0, 3: 22.0})
  path = tmp_path / "history.jsonl"
  path.write_text(path.read_text()[:-9])
  assert [(entry["step"], entry["psnr"]) for entry in run.history()] == [(1, 20.0), (2, 21.0)]


def test_records_after_a_cut_line_are_kept(tmp_path):
  run = loop.Run(str(tmp_path), SETTINGS)
  _record(run, {1: 20.0, 2: 21.0})
  path = tmp_path / "history.jsonl"
  path.write_text(path.read_text()[:-9])
  _record(loop.Run(str(tmp_path), SETTINGS), {2: 21.5, 3: 22.5})
  assert [entry["psnr"] for entry in run.history()] == [20.0, 21.5, 22.5]


def test_seconds_are_those_of_all_parts_of_a_run(tmp_path, monkeypatch):
  clock = [1000.0]
  monkeypatch.setattr(loop.time, "time", lambda: clock[0])
  run = loop.Run(str(tmp_path), SETTINGS)
  clock[0] += 60
  _record(run, {1: 20.0})
  run.save()
  clock[0] += 500
  _record(run, {2: 21.0})  # after the checkpoint: done again
  clock[0] += 3600
  resumed = loop.Run(str(tmp_path), SETTINGS)
  assert resumed.restore() == 1
  clock[0] += 30
  assert resumed.seconds() == 60 + 30


def test_summaries_can_be_read_back(tmp_path):
  run = loop.Run(str(tmp_path), SETTINGS)
  for step in (5, 6):
    run.step.assign(step)
    with run.summaries("train"):
      tf.summary.scalar("loss", 2.0 * step)
  read = {}
  for path in (tmp_path / "train").iterdir():
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        read[event.step] = float(tf.make_ndarray(value.tensor))
  assert read == {5: 10.0, 6: 12.0}


def test_json_is_written_whole(tmp_path):
  path = tmp_path / "a.json"
  loop.write_json(str(path), {"b": 1})
  with pytest.raises(TypeError):
    loop.write_json(str(path), {"b": object()})
  assert json.loads(path.read_text()) == {"b": 1}


def test_batch_must_divide_among_the_replicas():
  class TwoReplicas:
    num_replicas_in_sync = 2
  with pytest.raises(dc.DeepcompError, match="--batch_size must be a multiple of the 2 replicas. Received: 3"):
    loop.distribute(TwoReplicas(), lambda: None, 3)


def test_one_replica_gets_the_data_as_it_is():
  dataset = tf.data.Dataset.range(3)
  assert loop.distribute(loop.make_strategy("default"), lambda: dataset, 3) is dataset


def test_epochs_go_on_where_a_run_stopped():
  make = lambda epoch, first: tf.data.Dataset.range(10 * epoch + first, 10 * epoch + 4)
  strategy = tf.distribute.get_strategy()
  whole = [(epoch, int(batch)) for epoch, batch in loop.epoch_batches(strategy, make, 1, 3, 4, 0)]
  assert whole == [(epoch, 10 * epoch + i) for epoch in range(3) for i in range(4)]
  for done in (1, 4, 6, 12):
    rest = [(epoch, int(batch)) for epoch, batch in loop.epoch_batches(strategy, make, 1, 3, 4, done)]
    assert rest == whole[done:]


def test_an_epoch_has_its_steps_whatever_its_data():
  strategy = tf.distribute.get_strategy()
  for size in (3, 7):
    batches = list(loop.epoch_batches(strategy, lambda epoch, first: tf.data.Dataset.range(first, size), 1, 2, 5, 0))  # pylint: disable=cell-var-from-loop
    assert [epoch for epoch, _ in batches] == [0] * 5 + [1] * 5
    assert [int(batch) for _, batch in batches[:5]] == [i % size for i in range(5)]


def test_learning_rate_is_divided_by_10():
  rate = schedules.divided_by_10(0.5, [2, 3], 10)
  assert [float(rate(step)) for step in (0, 19, 20, 29, 30, 99)] == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
  assert schedules.divided_by_10(0.5, [], 10) == 0.5
