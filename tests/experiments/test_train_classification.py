"""The classification programs as people run them: they learn, survive SIGKILL, evaluate, and name what is wrong."""

import csv
import json
import pathlib
import shutil

import numpy as np
from PIL import Image
import programs
import pytest

import deepcomp_tf as dc

pytestmark = pytest.mark.slow

SMALL = ["--train_split=train", "--validation_split=val", "--width=0.125", "--crop_size=32", "--batch_size=8",
         "--epochs=6", "--decay_epochs=4", "--cache=decoded", "--summary_every=2", "--checkpoint_every=4"]
REPRESENTATION = [*SMALL, "--network=cResNet-12", "--input=representation", "--operating_point=bpp0.0983"]
STEPS = 6 * 3


@pytest.fixture(name="sets", scope="module")
def fixture_sets(images, tmp_path_factory):
  folder = tmp_path_factory.mktemp("sets")
  flags = [f"--dataset={images}", "--splits=train,val", "--operating_point=bpp0.0983", f"--output_dir={folder}"]
  code, output = programs.finish(programs.start("compress_dataset", *flags))
  assert code == 0 and "36 examples" in output and "1 images cannot be decoded" in output, output[-3000:]
  code, output = programs.finish(programs.start("compress_dataset", *flags))
  assert code == 0 and "is there already" in output
  name, = (folder / "compressed_classification").iterdir()
  return [f"--dataset=compressed_classification/{name.name}", f"--data_dir={folder}"]


def test_a_set_of_another_folder_of_that_name_is_an_error(images, sets, tmp_path):
  folder = pathlib.Path(sets[1].removeprefix("--data_dir="))
  place, = (folder / "compressed_classification").glob("*/1.0.0")
  assert "expected an image file" in (place / "left_out.txt").read_text()
  other = shutil.copytree(images, tmp_path / pathlib.Path(images).name)
  for photo in other.rglob("*.png"):
    Image.new("RGB", (32, 32)).save(photo)
  line, _ = programs.error(programs.start("compress_dataset", f"--dataset={other}", "--splits=train,val",
                                          "--operating_point=bpp0.0983", f"--output_dir={folder}"))
  assert "holds a set of another source" in line


def _start(run, *flags, devices=None):
  return programs.start("train_classification", f"--run_dir={run}", *flags, devices=devices)


@pytest.fixture(name="finished", scope="module")
def fixture_finished(sets, tmp_path_factory):
  run = tmp_path_factory.mktemp("runs") / "finished"
  code, output = programs.finish(_start(run, *sets, *REPRESENTATION))
  assert code == 0, output[-3000:]
  return run


def _history(run):
  return {line["epoch"]: line for line in map(json.loads, (run / "history.jsonl").read_text().splitlines())}


def test_training_lowers_the_loss(finished):
  loss = programs.curve(finished, "cross_entropy")
  values = [loss[step] for step in sorted(loss)]
  assert np.mean(values[-5:]) < 0.8 * np.mean(values[:3])
  rates = programs.curve(finished, "learning_rate")
  assert rates[2] == pytest.approx(0.025 * 8 / 64) and rates[STEPS] == pytest.approx(0.0025 * 8 / 64)
  assert sorted(_history(finished)) == [1, 2, 3, 4, 5, 6]
  assert all(line["examples"] == 8 for line in _history(finished).values())


def test_run_ends_in_a_classifier(finished, sets, images, tmp_path):
  classifier = dc.Classifier.load(str(finished / "classifier"))
  assert classifier.class_names == ["bright", "dark"] and classifier.operating_point == "bpp0.0983"
  reached = classifier.info["reached_on_validation"]
  for where in (sets, [f"--dataset={images}"]):
    code, output = programs.finish(programs.start(
        "evaluate_classification", f"--classifier={finished / 'classifier'}", "--split=val", *where))
    assert code == 0, output[-3000:]
    if where is sets:
      assert f"top-1 {100 * reached['top_1']:.2f} %" in output
    assert "8 examples" in output
  report, kept = tmp_path / "report", tmp_path / "classifier"
  shutil.copytree(finished / "classifier", kept)
  code, output = programs.finish(programs.start(
      "evaluate_classification", f"--classifier={kept}", "--split=train[:20]", *sets,
      f"--output_dir={report}", "--keep_temperature"))
  assert code == 0, output[-3000:]
  assert f"at {dc.Classifier.load(kept).temperature:.2f}, which fits best" in output
  rows = list(csv.DictReader((report / "classes.csv").open()))
  assert [row["class"] for row in rows] == ["bright", "dark"] and sum(int(row["examples"]) for row in rows) == 20
  right = sum(int(row["examples"]) * float(row["top_1"]) for row in rows)
  assert f"top-1 {100 * right / 20:.2f} %" in output
  assert Image.open(report / "confusion.png").width > 300


def test_killed_run_continues_as_if_nothing_had_happened(finished, sets, tmp_path):
  run = tmp_path / "killed"
  programs.kill_after_checkpoint(_start(run, *sets, *REPRESENTATION), run, 8)
  assert not (run / "classifier").exists()
  code, output = programs.finish(_start(run, *sets, *REPRESENTATION))
  assert code == 0 and "Continuing from step" in output, output[-3000:]
  for name in ("cross_entropy", "learning_rate"):
    resumed = programs.curve(run, name)
    for step, value in programs.curve(finished, name).items():
      assert resumed[step] == pytest.approx(value, rel=2e-2), (name, step)
  assert _history(run)[6]["top_1"] == _history(finished)[6]["top_1"]


def test_a_kill_between_the_last_step_and_the_network_loses_nothing(finished, sets, tmp_path):
  run = tmp_path / "killed"
  programs.kill_after_checkpoint(_start(run, *sets, *REPRESENTATION), run, STEPS)
  assert not (run / "classifier").exists()
  code, output = programs.finish(_start(run, *sets, *REPRESENTATION))
  assert code == 0 and f"Continuing from step {STEPS}" in output, output[-3000:]
  before, after = (dc.Classifier.load(str(folder / "classifier")) for folder in (finished, run))
  assert after.info["reached_on_validation"]["examples"] == 8
  assert before.class_names == after.class_names and after.info["trained"]["steps"] == STEPS


def test_a_set_of_another_operating_point_is_refused(sets, tmp_path):
  line, output = programs.error(_start(tmp_path / "run", *sets, *REPRESENTATION, "--operating_point=bpp0.635", "--cache=none"))
  assert "expected a set of the operating point" in line and "(bpp0.635)" in line and "Traceback" not in output
  assert not (tmp_path / "run/classifier").exists()


def test_a_run_of_an_earlier_version_goes_on(images, tmp_path):
  """From step 4 of 6, after version 0.2.0 wrote the checkpoint; the expected figures are those that it went on to."""
  run = shutil.copytree(programs.ROOT / "tests/training/golden/classification_run", tmp_path / "run")
  (tmp_path / "images").symlink_to(images)
  before = (run / "settings.json").read_bytes()
  code, output = programs.finish(_start(
      run, f"--dataset={tmp_path}/images", *REPRESENTATION, "--width=0.02", "--epochs=2",
      "--decay_epochs=1", "--summary_every=1"))
  assert code == 0 and "Continuing from step 4" in output, output[-3000:]
  assert programs.curve(run, "cross_entropy") == pytest.approx({5: 0.68288, 6: 0.23703}, rel=1e-2)
  assert [(line["step"], line["epoch"]) for line in map(json.loads, (run / "history.jsonl").read_text().splitlines())] == [
      (3, 1), (6, 2)]
  assert _history(run)[2]["cross_entropy"] == pytest.approx(0.56301, rel=1e-2)
  assert (run / "settings.json").read_bytes() == before
  line, _ = programs.error(_start(
      tmp_path / "other", f"--dataset={images}", *REPRESENTATION, "--width=0.02", "--start=graft_bpp0.0983", "--epochs=1"))
  assert "expected a classifier to start from of cResNet-12" in line


def test_a_finished_run_is_left_alone(finished, sets):
  before = (finished / "history.jsonl").read_bytes()
  code, output = programs.finish(_start(finished, *sets, *REPRESENTATION))
  assert code == 0 and "is done" in output
  assert (finished / "history.jsonl").read_bytes() == before


def test_original_pixels_with_a_broken_image_on_two_devices(images, tmp_path):
  flags = [f"--dataset={images}", *SMALL, "--network=ResNet-14", "--input=original", "--epochs=1"]
  code, output = programs.finish(_start(tmp_path / "run", *flags, "--strategy=mirrored", devices=2))
  assert code == 0 and "1 examples of" in output and "left out" in output, output[-3000:]
  assert dc.Classifier.load(str(tmp_path / "run/classifier")).operating_point is None
  assert len(programs.curve(tmp_path / "run", "loss")) == 2


def test_a_trained_classifier_can_go_on(finished, sets, tmp_path):
  start = f"--start={finished}/classifier"
  # No learning: what it started from is what comes out.
  flags = [*sets, *REPRESENTATION, start, "--epochs=1", "--decay_epochs=", "--learning_rate=0"]
  code, output = programs.finish(_start(tmp_path / "run", *flags))
  assert code == 0, output[-3000:]
  before, after = (dc.Classifier.load(str(run / "classifier")).network for run in (finished, tmp_path / "run"))
  for (name, variable), other in zip(before.named_variables().items(), after.named_variables().values()):
    if "bn" not in name:
      np.testing.assert_array_equal(other, variable, name)
  line, _ = programs.error(_start(tmp_path / "other", *flags, "--network=cResNet-51"))
  assert "cResNet-51" in line and "Received: --start=" in line


def test_own_classes_in_one_command(images, tmp_path):
  flags = ["--flagfile=flags/classification/own_classes.flags", f"--dataset={images}/train", "--start=graft_bpp0.0983",
           "--resize=", "--crop_size=32", "--examples_per_class=4", "--last_layer_steps=50"]
  code, output = programs.finish(_start(tmp_path / "run", *flags))
  assert code == 0 and "A new last layer, for 2 classes in place of 1000" in output, output[-3000:]
  own, shipped = dc.Classifier.load(str(tmp_path / "run/classifier")), dc.Classifier.load("graft_bpp0.0983")
  assert own.class_names == ["bright", "dark"] and own.info["reached_on_validation"]["top_1"] == 1.0
  assert _weights_but(own, "logits") == pytest.approx(_weights_but(shipped.copy(rounded=True), "logits"))
  code, output = programs.finish(_start(tmp_path / "run", *flags))
  assert code == 0 and "The run is done" in output
  code, output = programs.finish(_start(tmp_path / "whole", *flags, "--epochs=1", "--batch_size=4"))
  assert code == 0, output[-3000:]
  whole = dc.Classifier.load(str(tmp_path / "whole/classifier"))
  assert _weights_but(whole, "logits") != pytest.approx(_weights_but(shipped, "logits"), rel=1e-9)
  line, _ = programs.error(_start(tmp_path / "other", *flags, "--start_share=0.5"))
  assert "expected --start_share with a classifier to --start from that knows the same classes" in line


def _weights_but(classifier, name):
  return {key: float(abs(variable.numpy()).mean()) for key, variable in classifier.network.named_variables().items()
          if name not in key and "kernel" in key}


@pytest.mark.parametrize("flags, message", [
    (["--network=cResNet-39", "--input=decoded", "--operating_point=bpp0.330"], "--network=cResNet-39 --input=decoded"),
    (["--network=ResNet-50", "--input=decoded"], "--operating_point=None"),
    (["--input=original"], "expected --network and --input, or --start. Received: --network=None --input=original"),
    (["--network=ResNet-50", "--input=original", "--epochs=0"], "with --start. Received: --last_layer_steps=0 --epochs=0"),
    (["--start=graft_bpp0.0983", "--epochs=0"], "expected --epochs or --last_layer_steps above 0"),
    (["--network=ResNet-50", "--input=original", "--crop_size=33"], "crop_size=33"),
    (["--network=ResNet-50", "--input=original", "--resize=64"], "--resize must be 0 or 2 numbers, none below 0. Received: 64"),
    (["--network=ResNet-50", "--input=original", "--decay_epochs=0,2"], "--decay_epochs must rise"),
    (["--network=ResNet-50", "--input=original", "--validation_split=test"], "train, val"),
    (["--network=ResNet-50", "--input=original", "--batch_size=64"], "--batch_size must be at most the 28"),
])
def test_bad_values_are_named(images, tmp_path, flags, message):
  line, output = programs.error(_start(tmp_path / "run", f"--dataset={images}", *SMALL, *flags))
  assert message in line and "Traceback" not in output


def test_unknown_classes_are_named(finished, images, tmp_path):
  (tmp_path / "val").mkdir()
  (images / "val/dark").rename(tmp_path / "val/dim")
  try:
    line, _ = programs.error(programs.start(
        "evaluate_classification", f"--classifier={finished / 'classifier'}", "--split=val", f"--dataset={tmp_path}"))
  finally:
    (tmp_path / "val/dim").rename(images / "val/dark")
  assert "bright, dark" in line and "Received: dim" in line
