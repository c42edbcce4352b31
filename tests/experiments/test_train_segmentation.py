"""The segmentation program as people run it: it learns, survives SIGKILL, and names what is wrong."""

import json
import shutil

import numpy as np
from PIL import Image
import programs
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec.inputs import NetworkInput

pytestmark = pytest.mark.slow

STEPS = 16
SMALL = ["--validation_split=val", "--train_split=train", "--crop_size=48", "--batch_size=4", f"--steps={STEPS}",
         "--checkpoint_every=4", "--summary_every=2", "--validate_every=8", "--class_ids=0,8", "--learning_rate=0.001",
         "--head_learning_rate=0.003", "--optimizer=adam"]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  """Bright cats on dark ground."""
  root = tmp_path_factory.mktemp("segmentation")
  rng = np.random.default_rng(0)
  for split, count in (("train", 8), ("val", 3)):
    for kind in ("images", "masks"):
      (root / "set" / kind / split).mkdir(parents=True)
    for number in range(count):
      mask = np.zeros([56, 64], np.uint8)
      top, left = rng.integers(0, 28, 2)
      mask[top:top + 28, left:left + 28] = 8
      mask[:2] = 255
      pixels = np.where(mask[..., np.newaxis] == 8, 220, 40) + rng.normal(0, 5, [56, 64, 3])
      Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / f"set/images/{split}/{number}.png")
      image = Image.fromarray(mask, "P")
      image.putpalette(list(range(256)) * 3)
      image.save(root / f"set/masks/{split}/{number}.png")
  return [f"--dataset={root / 'set'}", f"--data_dir={root / 'sets'}"]


@pytest.fixture(name="classifier", scope="module")
def fixture_classifier(tmp_path_factory):
  tf.keras.utils.set_random_seed(0)
  folder = tmp_path_factory.mktemp("classifier")
  network = dc.models.CResNet(12, 2, width=0.125)
  x = tf.random.stateless_normal([16, 8, 8, 8], [0, 1])
  network(x)
  for unit in network.units:  # statistics as after training and small residuals, without which random features explode
    unit.bn3.gamma.assign(0.1 * tf.ones_like(unit.bn3.gamma))
    for layer in (unit.bn1, unit.bn2, unit.bn3, unit.bn_projection):
      if layer is not None:
        layer.momentum = 0.0
  network(x, training=True)
  dc.Classifier(network, NetworkInput("representation", dc.Codec.load("bpp0.0983")), ["a", "b"]).save(folder)
  return f"--classifier={folder}"


def _start(run, *flags, **arguments):
  return programs.start("train_segmentation", f"--run_dir={run}", *flags, **arguments)


@pytest.fixture(name="finished", scope="module")
def fixture_finished(folder, classifier, tmp_path_factory):
  run = tmp_path_factory.mktemp("runs") / "finished"
  code, output = programs.finish(_start(run, *folder, *SMALL, classifier))
  assert code == 0, output[-3000:]
  return run


def _history(run):
  return {line["step"]: line for line in map(json.loads, (run / "history.jsonl").read_text().splitlines())}


def test_training_lowers_the_loss(finished):
  loss = programs.curve(finished, "cross_entropy")
  assert np.mean([loss[step] for step in (12, 14, 16)]) < 0.5 * loss[2]
  assert sorted(_history(finished)) == [8, 16]
  assert programs.curve(finished, "backbone_learning_rate")[8] == pytest.approx(0.001 * 0.5 ** 0.9, rel=1e-3)


def test_run_ends_in_a_segmenter(finished):
  segmenter = dc.Segmenter.load(str(finished / "segmenter"))
  assert segmenter.names_in_order == ["background", "cat"] and segmenter.operating_point == "bpp0.0983"
  assert segmenter.trained_size == 56
  mask = segmenter.segment(segmenter.codec.compress(np.full([37, 51, 3], 40, np.uint8)))
  assert mask.shape == (37, 51) and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 8}


def test_batch_norm_is_the_classifiers(finished, classifier):
  before, after = (one.load(name).network for one, name in (
      (dc.Classifier, classifier.split("=")[1]), (dc.Segmenter, str(finished / "segmenter"))))
  for unit, twin in zip(before.units, after.backbone.units):
    for name in ("moving_mean", "moving_variance", "gamma", "beta"):
      np.testing.assert_array_equal(getattr(twin.bn2, name), getattr(unit.bn2, name), name)
    assert np.abs(twin.conv2.kernel - unit.conv2.kernel).max() > 1e-4


def test_a_graft_becomes_a_segmenter(folder, tmp_path):
  code, output = programs.finish(_start(
      tmp_path / "run", *folder, *SMALL, "--classifier=graft_bpp0.330", "--steps=120", "--validate_every=60",
      "--checkpoint_every=60", "--optimizer=adam", "--learning_rate=0.0003", "--head_learning_rate=0.003"))
  assert code == 0, output[-3000:]
  loss = programs.curve(tmp_path / "run", "cross_entropy")
  share = 28 * 28 / (54 * 64)  # of cats among the pixels that are not void
  best_constant = -share * np.log(share) - (1 - share) * np.log(1 - share)
  assert np.mean([loss[step] for step in (112, 114, 116, 118, 120)]) < min(0.65 * best_constant, 0.5 * loss[2])
  segmenter = dc.Segmenter.load(str(tmp_path / "run/segmenter"))
  assert isinstance(segmenter.network.backbone, dc.models.Graft) and segmenter.info["trained"]["settings"]["cut"] == "block5_add"
  before, after = dc.Classifier.load("graft_bpp0.330").network.named_variables(), segmenter.network.backbone.named_variables()
  for name, stays in (("depthwise", True), ("project", False)):
    kernels = (variables[f"remainder/block9_{name}/kernel"] for variables in (before, after))
    assert np.array_equal(*kernels) == stays
  mask = segmenter.segment(segmenter.codec.compress(np.full([37, 51, 3], 40, np.uint8)))
  assert mask.shape == (37, 51) and set(np.unique(mask)) <= {0, 8}


def test_the_pooling_learns_first(folder, classifier, tmp_path):
  """Alone for half of the steps, across a kill, then with the backbone; or to the end,
  and the backbone stays the classifier's."""
  half, all_of_them = tmp_path / "half", tmp_path / "all"
  flags = [*folder, *SMALL, classifier, "--optimizer=sgd", "--learning_rate=0.003", "--head_learning_rate=0.0003"]
  programs.kill_after_checkpoint(_start(half, *flags, "--head_steps=8"), half, 4)
  for run, steps in ((half, 8), (all_of_them, STEPS)):
    code, output = programs.finish(_start(run, *flags, f"--head_steps={steps}"))
    assert code == 0, output[-3000:]
    assert sorted(programs.curve(run, "cross_entropy")) == list(range(2, STEPS + 1, 2))
  assert max(programs.curve(half, "pooling_learning_rate")) == 8
  assert programs.curve(half, "backbone_learning_rate")[12] == pytest.approx(0.003 * 0.5 ** 0.9, rel=1e-3)
  before = dc.Classifier.load(classifier.split("=")[1]).network.units[0].conv2.kernel
  trained, kept = (dc.Segmenter.load(str(run / "segmenter")).network.backbone.units[0].conv2.kernel
                   for run in (half, all_of_them))
  np.testing.assert_array_equal(kept, before)
  assert np.abs(trained - before).max() > 1e-4
  line, _ = programs.error(_start(half, *flags, f"--head_steps={STEPS + 1}"))
  assert f"--head_steps must be at most --steps={STEPS}. Received: {STEPS + 1}" in line


def test_bfloat16_begins_as_float32_does(folder, classifier, tmp_path):
  # At rates low enough that rounding does not grow.
  flags = [*SMALL, classifier, "--optimizer=sgd", "--learning_rate=0.0003", "--head_learning_rate=0.001"]
  for precision in ("float32", "mixed_bfloat16"):
    code, output = programs.finish(_start(tmp_path / precision, *folder, *flags, f"--precision={precision}"))
    assert code == 0, output[-3000:]
  exact, rounded = (programs.curve(tmp_path / precision, "cross_entropy") for precision in ("float32", "mixed_bfloat16"))
  assert rounded[2] == pytest.approx(exact[2], rel=0.02) and rounded[2] != exact[2]
  assert rounded[STEPS] == pytest.approx(exact[STEPS], rel=0.05)


def test_killed_run_continues_as_if_nothing_had_happened(finished, folder, classifier, tmp_path):
  run = tmp_path / "killed"
  programs.kill_after_checkpoint(_start(run, *folder, *SMALL, classifier), run, 8)
  assert not (run / "segmenter").exists()
  code, output = programs.finish(_start(run, *folder, *SMALL, classifier))
  assert code == 0 and "Continuing from step" in output, output[-3000:]
  resumed = programs.curve(run, "cross_entropy")
  for step, value in programs.curve(finished, "cross_entropy").items():
    assert resumed[step] == pytest.approx(value, rel=1e-2), step
  assert _history(run)[16]["mean_iou"] == pytest.approx(_history(finished)[16]["mean_iou"], abs=1e-2)


def test_evaluation_gives_what_training_recorded(finished, folder, tmp_path):
  sheet = tmp_path / "sheet.png"
  evaluate = ["evaluate_segmentation", f"--segmenters={finished}/segmenter", *folder, "--split=val", "--examples=2",
              "--well_covered_ids=8,12", f"--contact_sheet={sheet}"]
  code, output = programs.finish(programs.start(*evaluate))
  assert code == 0, output[-3000:]
  figures = {line.rsplit(maxsplit=1)[0].strip(): float(line.rsplit(maxsplit=1)[1]) for line in output.splitlines()
             if line.startswith(("mIoU", "cat ", "background"))}
  recorded = _history(finished)[STEPS]
  assert figures["mIoU"] == pytest.approx(100 * recorded["mean_iou"], abs=0.01)
  assert [figures["background"], figures["cat"]] == pytest.approx([100 * iou for iou in recorded["iou"]], abs=0.1)
  # Only pixels labelled as cats: what of them was found, of the union of it with what was not.
  assert figures["cat"] - 0.05 <= figures["mIoU, well covered"] <= 100  # one is printed with one decimal, one with two
  with Image.open(sheet) as image:
    assert image.format == "PNG" and image.height > image.width

  # Beside it a network for pixels that sees cats everywhere.
  pixels = tf.keras.Input([32, 32, 3])
  maps = tf.keras.layers.AveragePooling2D(8, name="eighth")(pixels)
  network = tf.keras.Model(pixels, tf.keras.layers.Conv2D(21, 1)(maps), name="cats")
  network.layers[-1].set_weights([np.zeros([1, 1, 3, 21]), np.eye(21)[8]])
  network.save(tmp_path / "cats.keras")
  code, output = programs.finish(programs.start(*evaluate, f"--backbone={tmp_path}/cats.keras", "--preprocessing=none"))
  assert code == 0, output[-3000:]
  assert "cats on original photos: " in output and "cats on photos decoded at " in output
  rows = {line.rsplit(maxsplit=3)[0].strip(): [float(cell) for cell in line.rsplit(maxsplit=3)[1:]]
          for line in output.splitlines() if line.startswith(("cat  ", "background", "pixel accuracy"))}
  assert rows["cat"][0] == figures["cat"] and rows["background"][1:] == [0, 0]
  assert rows["cat"][1] == rows["cat"][2] == pytest.approx(rows["pixel accuracy"][1], abs=0.06)
  line, _ = programs.error(programs.start(*evaluate[:-2], "--well_covered_ids=8,8"))
  assert "--well_covered_ids must be different ids of 0 background" in line and "Received: 8,8" in line


def test_classes_of_the_folder_come_with_the_segmenter(folder, classifier, tmp_path):
  """As for Cityscapes: ids with gaps, colours of their own, no background."""
  source, target = folder[0].split("=")[1], tmp_path / "streets"
  shutil.copytree(source, target)
  for path in target.glob("masks/*/*.png"):
    with Image.open(path) as image:
      ids = np.array(image)
    Image.fromarray(np.select([ids == 0, ids == 8], [7, 26], 255).astype(np.uint8)).save(path)
  (target / "classes.json").write_text(json.dumps([
      {"id": 7, "name": "road", "color": [128, 64, 128]}, {"id": 26, "name": "car", "color": [0, 0, 142]},
      {"id": 33, "name": "bicycle"}]))
  run = tmp_path / "run"
  flags = [flag for flag in SMALL if not flag.startswith("--class_ids")]
  code, output = programs.finish(_start(run, f"--dataset={target}", folder[1], *flags, classifier))
  assert code == 0, output[-3000:]
  segmenter = dc.Segmenter.load(str(run / "segmenter"))
  assert [(one.name, one.id) for one in segmenter.classes] == [("road", 7), ("car", 26), ("bicycle", 33)]
  photo = target / "images/val/0.png"
  with Image.open(photo) as image:
    (tmp_path / "photo.deepcomp").write_bytes(segmenter.codec.compress(np.array(image)))
  result = programs.deepcomp("segment", tmp_path / "photo.deepcomp", f"--segmenter={run}/segmenter",
                             f"--output={tmp_path / 'mask.png'}", cwd=tmp_path)
  assert result.returncode == 0, result.stderr
  with Image.open(tmp_path / "mask.png") as mask:
    assert set(np.unique(mask)) <= {7, 26, 33} and mask.getpalette()[3 * 26:3 * 27] == [0, 0, 142]
  code, output = programs.finish(programs.start(
      "evaluate_segmentation", f"--segmenters={run}/segmenter", f"--dataset={target}", folder[1], "--split=val",
      f"--contact_sheet={tmp_path / 'sheet.png'}"))
  assert code == 0, output[-3000:]
  figures = {line.split()[0]: line.split()[-1] for line in output.splitlines() if line.startswith(("road", "car", "mIoU"))}
  history = _history(run)[STEPS]
  assert float(figures["mIoU"]) == pytest.approx(100 * history["mean_iou"], abs=0.01)
  assert float(figures["road"]) == pytest.approx(100 * history["iou"][0], abs=0.1)


@pytest.mark.parametrize("flags, message", [
    (["--class_ids=0,21"], "20 tvmonitor. Received: 0,21"),
    (["--random_scale=2"], "--random_scale must be 0 or 2 numbers, none below 0. Received: 2"),
    (["--validation_split=test"], "Received: 'test'"),
    (["--classifier=nowhere"], "no classifier 'nowhere'"),
    (["--precision=mixed_float16"], "Received: --precision=mixed_float16"),
])
def test_bad_values_are_named(folder, classifier, tmp_path, flags, message):
  line, output = programs.error(_start(tmp_path / "run", *folder, *SMALL, classifier, *flags))
  assert message in line and "Traceback" not in output
