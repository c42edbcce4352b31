"""`Run`: what a folder of a run keeps, refuses and survives."""

import json

import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.data.part import distribute
from deepcomp_tf.training import distribution
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import runs

SETTINGS = {"steps": 10, "beta": 0.5, "images": None}


def _run(folder, settings=None, **state):
  run = runs.Run(str(folder), SETTINGS if settings is None else settings, "result")
  run.keep(state)
  return run


def test_restore_continues_from_the_last_checkpoint(tmp_path):
  weight = tf.Variable(1.0)
  run = _run(tmp_path, weight=weight)
  assert run.restore() == 0 and not runs.latest_checkpoint(str(tmp_path))
  for step in range(1, 5):
    run.step.assign_add(1)
    weight.assign(10.0 * step)
    if step in (1, 2, 3):
      run.save()
  assert runs.latest_checkpoint(str(tmp_path))
  again = tf.Variable(0.0)
  resumed = _run(tmp_path, weight=again)
  assert resumed.restore() == 3
  assert float(again) == 30.0
  assert len(list((tmp_path / "checkpoints").glob("*.index"))) == 2


def test_optimizer_state_is_restored(tmp_path):
  def build():
    weight = tf.Variable([1.0, 2.0])
    adam = optimizers.adam(0.1, use_ema=True, ema_momentum=0.5)
    optimizer = optimizers.Optimizers({"optimizer": (adam, {"weight": weight})})
    return weight, optimizer, _run(tmp_path, weight=weight, **optimizer.named_variables())

  def steps(weight, optimizer, count):
    for _ in range(count):
      optimizer.replica_step(lambda: (tf.reduce_sum(tf.square(weight)), {}))()

  weight, optimizer, run = build()
  steps(weight, optimizer, 3)
  run.step.assign(3)
  run.save()
  steps(weight, optimizer, 2)
  resumed, resumed_optimizer, run = build()
  assert run.restore() == 3
  steps(resumed, resumed_optimizer, 2)
  assert resumed.numpy().tolist() == weight.numpy().tolist()
  before = weight.numpy()
  with optimizers.averaged_weights(optimizer), optimizers.averaged_weights(resumed_optimizer):
    assert resumed.numpy().tolist() == weight.numpy().tolist() != before.tolist()
  assert weight.numpy().tolist() == before.tolist()


def test_other_settings_are_refused(tmp_path):
  _run(tmp_path)
  _run(tmp_path, dict(SETTINGS))
  with pytest.raises(dc.DeepcompError, match=r"other settings \(beta was 0.5 and is now 0.7\)"):
    _run(tmp_path, {**SETTINGS, "beta": 0.7})
  with pytest.raises(dc.DeepcompError, match="gamma was None and is now 1"):
    _run(tmp_path, {**SETTINGS, "gamma": 1})
  assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS


def _record(run, figures):
  for step, psnr in figures.items():
    run.step.assign(step)
    run.record({"psnr": psnr})


def test_a_run_tells_its_software(tmp_path, monkeypatch, caplog):
  for _ in range(2):
    _run(tmp_path).restore()
  first, = json.loads((tmp_path / "software.json").read_text())
  assert (first["version"], first["tensorflow"]) == (dc.__version__, tf.__version__)
  assert "CPU core" in first["device"] or " x " in first["device"]
  monkeypatch.setattr(runs, "software", lambda: {**first, "tensorflow": "3.0.0"})
  with caplog.at_level("WARNING"):
    _run(tmp_path).restore()
  assert f"goes on with other software: tensorflow was {tf.__version__} and is now 3.0.0." in caplog.text
  assert json.loads((tmp_path / "software.json").read_text()) == [first, {**first, "tensorflow": "3.0.0"}]


def test_history_of_a_resumed_run_has_each_step_once(tmp_path):
  run = _run(tmp_path)
  assert run.history() == []
  _record(run, {1: 20.0, 2: 21.0, 3: 22.0})
  _record(run, {2: 21.5, 3: 22.5, 4: 23.5})
  assert [(entry["step"], entry["psnr"]) for entry in run.history()] == [(1, 20.0), (2, 21.5), (3, 22.5), (4, 23.5)]


def test_history_survives_a_cut_line(tmp_path):
  run = _run(tmp_path)
  _record(run, {1: 20.0, 2: 21.0, 3: 22.0})
  path = tmp_path / "history.jsonl"
  path.write_text(path.read_text()[:-9])
  assert [(entry["step"], entry["psnr"]) for entry in run.history()] == [(1, 20.0), (2, 21.0)]


def test_records_after_a_cut_line_are_kept(tmp_path):
  run = _run(tmp_path)
  _record(run, {1: 20.0, 2: 21.0})
  path = tmp_path / "history.jsonl"
  path.write_text(path.read_text()[:-9])
  _record(_run(tmp_path), {2: 21.5, 3: 22.5})
  assert [entry["psnr"] for entry in run.history()] == [20.0, 21.5, 22.5]


def test_seconds_are_those_of_all_parts_of_a_run(tmp_path, monkeypatch):
  clock = [1000.0]
  monkeypatch.setattr(runs.time, "time", lambda: clock[0])
  run = _run(tmp_path)
  clock[0] += 60
  _record(run, {1: 20.0})
  run.save()
  clock[0] += 500
  _record(run, {2: 21.0})  # after the checkpoint: done again
  clock[0] += 3600
  resumed = _run(tmp_path)
  assert resumed.restore() == 1
  clock[0] += 30
  assert resumed.seconds() == 60 + 30


def test_summaries_can_be_read_back(tmp_path):
  run = _run(tmp_path)
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


def test_batch_must_divide_among_the_replicas():
  class TwoReplicas:
    num_replicas_in_sync = 2
  with pytest.raises(dc.DeepcompError, match="multiple of the 2 replicas. Received: 3"):
    distribute(TwoReplicas(), lambda part: None, 3)


def test_one_replica_gets_the_data_as_it_is():
  dataset = tf.data.Dataset.range(3)
  assert distribute(distribution.make_strategy("default"), lambda part: dataset, 3) is dataset


def test_epochs_go_on_where_a_run_stopped():
  make = lambda epoch, first, part: tf.data.Dataset.range(10 * epoch + first, 10 * epoch + 4)
  strategy = tf.distribute.get_strategy()
  whole = [int(batch) for batch in runs.epoch_batches(strategy, make, 1, 3, 4, 0)]
  assert whole == [10 * epoch + i for epoch in range(3) for i in range(4)]
  for done in (1, 4, 6, 12):
    rest = [int(batch) for batch in runs.epoch_batches(strategy, make, 1, 3, 4, done)]
    assert rest == whole[done:]


def _steps(run, batches, total, **options):
  weight = tf.Variable(0.0)
  step = lambda x, number: {"x": weight.assign_add(x), "number": tf.cast(number, tf.float32)}
  return list(run.steps(((tf.constant(float(x)),) for x in batches), step, total, checkpoint_every=2, summary_every=3, **options))


def test_steps_are_counted_and_kept(tmp_path):
  run = _run(tmp_path)
  assert _steps(run, range(9), 5) == [1, 2, 3, 4, 5]
  assert _run(tmp_path).restore() == 5
  assert _steps(run, range(9), 7) == [6, 7]


def test_data_that_end_early_are_an_error(tmp_path):
  for count in (0, 3):
    with pytest.raises(dc.DeepcompError, match=f"data for 5 steps. Received: data that ended after step {count}"):
      _steps(_run(tmp_path / str(count)), range(count), 5)


def test_figures_that_are_not_finite_are_an_error(tmp_path):
  with pytest.raises(dc.DeepcompError, match="a lower learning rate may help. Received: x nan"):
    _steps(_run(tmp_path), [float("nan")] * 3, 5)


def test_a_run_is_done_when_its_result_is_there(tmp_path):
  run = _run(tmp_path)
  _record(run, {10: 20.0})
  assert not run.is_done()
  (tmp_path / "result").mkdir()
  assert not run.is_done()  # a folder that is half there
  (tmp_path / "result/result.json").write_text("{}")
  assert run.is_done() and run.is_done(10)


@pytest.mark.parametrize("part", [None, "encoder"])
def test_a_result_that_was_exported_early_is_not_the_end(tmp_path, part):
  run = _run(tmp_path)
  (tmp_path / "result").mkdir()
  for steps, done in ((9, False), (10, True)):
    trained = {"trained": {"steps": steps}}
    info = {"trained": {"steps": 10}, part: trained} if part else trained
    (tmp_path / "result/result.json").write_text(json.dumps(info))
    assert run.is_done(10, part) == done


def test_checkpoints_have_the_projects_own_names(tmp_path):
  model = dc.models.CompressionModel(2, entropy="context")
  model.build([None, None, None, 3])
  trained = {name: variable for name, variable in model.named_variables().items() if variable.trainable}
  optimizer = optimizers.Optimizers({"optimizer": (optimizers.adam(0.1, use_ema=True), trained)}, scale_losses=True)
  run = _run(tmp_path, **model.named_variables(), **optimizer.named_variables())
  run.save()
  names = set(tf.train.load_checkpoint(runs.latest_checkpoint(str(tmp_path))).get_variable_to_shape_map())
  attribute = "/.ATTRIBUTES/VARIABLE_VALUE"
  for name in ("step", "variables/encoder/unit2/conv1/kernel", "variables/entropy/tail", "variables/optimizer/iterations",
               "variables/optimizer/velocities/quantizer/centers", "variables/optimizer/loss_scale",
               "variables/optimizer/model_variables_moving_average/decoder/conv3/bias"):
    assert name + attribute in names, name


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
  _run(tmp_path, weight=tf.Variable(1.0)).save()
  with pytest.raises(dc.DeepcompError, match="without other and 1 others"):
    _run(tmp_path, other=tf.Variable(1.0), another=tf.Variable(2.0)).restore()


def test_settings_of_a_run_from_before_a_flag_existed(tmp_path):
  _run(tmp_path)
  _run(tmp_path, {**SETTINGS, "synchronized_batch_norm": False})
  with pytest.raises(dc.DeepcompError, match="synchronized_batch_norm was False and is now True"):
    _run(tmp_path, {**SETTINGS, "synchronized_batch_norm": True})
