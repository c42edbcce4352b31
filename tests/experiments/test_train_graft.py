"""`train_graft` and `evaluate_graft` as programs, with a small backbone that Keras saved."""

import json

import numpy as np
from PIL import Image
import programs
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.evaluation import agreement

pytestmark = pytest.mark.slow


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  """A backbone that tells reddish, greenish and bluish photos apart, and photos."""
  folder = tmp_path_factory.mktemp("graft")
  tf.keras.utils.set_random_seed(0)
  pixels = tf.keras.Input([32, 32, 3])
  eighth = tf.keras.layers.AveragePooling2D(8, name="eighth")(pixels)
  twice = tf.keras.layers.Conv2D(6, 1, use_bias=False, name="twice")(eighth)
  normalized = tf.keras.layers.BatchNormalization(name="normalized")(twice)
  mean = tf.keras.layers.GlobalAveragePooling2D()(normalized)
  logits = tf.keras.layers.Dense(3, use_bias=False)(mean)
  network = tf.keras.Model(pixels, logits, name="colours")
  network.get_layer("twice").set_weights([np.tile(np.eye(3), 2)[None, None]])
  network.layers[-1].set_weights([np.tile(0.05 * (3 * np.eye(3) - 1), [2, 1])])
  network.save(folder / "colours.keras")
  (folder / "names.txt").write_text("red\ngreen\nblue\n")
  rng = np.random.default_rng(0)
  for split, count in (("train", 24), ("val", 9)):
    (folder / split).mkdir()
    for number in range(count):
      photo = rng.integers(0, 120, [4, 4, 3]) + 80 * (np.arange(3) == number % 3)
      Image.fromarray(photo.astype(np.uint8).repeat(8, 0).repeat(8, 1)).save(folder / split / f"{number:02}.png")
  return folder


def _flags(folder, run, *more):
  return ["train_graft", f"--backbone={folder}/colours.keras", "--preprocessing=none", f"--class_names={folder}/names.txt",
          "--operating_point=bpp0.0983", f"--photos={folder}/train", f"--validation_photos={folder}/val", "--image_size=32",
          "--crop_size=24", "--batch_size=8", "--adapter_filters=8", "--adapter_units=1",
          "--adapter_bottleneck=0", "--warmup_steps=2", "--average=0.5",
          "--learning_rate=0.01", "--adapter_learning_rate=0.01", f"--run_dir={run}", "--checkpoint_every=2", "--summary_every=1",
          *more]


def test_a_graft_learns_what_its_backbone_says_without_labels(folder, tmp_path):
  steps = ["--adapter_steps=60", "--steps=120", "--validate_every=60", "--more_sizes=48,64/2", "--vector_weight=1"]
  code, output = programs.finish(programs.start(*_flags(folder, tmp_path / "run", *steps)))
  assert code == 0, output[-3000:]
  assert "decoding and the whole colours take" in output
  history = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
  assert [line["step"] for line in history] == [60, 120] and history[-1]["top_1"] == 1.0 and history[-1]["photos"] == 9
  assert history[-1]["top_1_at_48"] == history[-1]["top_1_at_64"] == 1.0
  errors = programs.curve(tmp_path / "run", "map_error")
  assert errors[60] < 0.3 * errors[1]
  errors = programs.curve(tmp_path / "run", "vector_error")
  assert np.mean([errors[step] for step in range(116, 121)]) < 0.8 * np.mean([errors[step] for step in range(61, 66)])
  classifier = dc.Classifier.load(str(tmp_path / "run/classifier"))
  of_graft = classifier.network.named_variables()
  for statistic, value in (("mean", 0), ("variance", 1)):  # the backbone's; those of its maps are far from it
    np.testing.assert_array_equal(of_graft[f"remainder/normalized/moving_{statistic}"], np.full(6, value))
  for number in range(9):
    photo = np.asarray(Image.open(folder / f"val/{number:02}.png"))
    assert classifier.classify(classifier.codec.compress(photo))[0][0] == ["red", "green", "blue"][number % 3]

  rival = ["--input=decoded", "--adapter_steps=0", "--steps=6", "--train_last_layer"]
  code, output = programs.finish(programs.start(*_flags(folder, tmp_path / "rival", *rival)))
  assert code == 0 and "decoding and the whole colours:" in output, output[-3000:]
  code, output = programs.finish(programs.start(
      "evaluate_graft", f"--classifiers={tmp_path}/run/classifier,{tmp_path}/rival/classifier", f"--photos={folder}/val",
      f"--backbone={folder}/colours.keras", f"--record={tmp_path}/record.json", "--preprocessing=none", "--image_size=64"))
  assert code == 0, output[-3000:]
  graft, large, decoded, rival = json.loads((tmp_path / "record.json").read_text())["rows"]
  assert graft["top_1"] == large["top_1"] == decoded["top_1"] == rival["top_1"] == 1.0 and large["bits_per_pixel"] > 0
  assert graft["multiply_adds"] < decoded["multiply_adds"] == rival["multiply_adds"]
  assert [row["way"] for row in (decoded, rival)] == ["colours on photos decoded at bpp0.0983",
                                                      "colours, trained on decoded photos, at bpp0.0983"]

  # Of photos of another size than the backbone's 32 pixels: a 1x1 convolution from 3 to 6 channels on 8x8 positions, a dense layer.
  backbone = dc.models.Backbone(tf.keras.models.load_model(folder / "colours.keras"), preprocessing="none")
  assert agreement.costs(classifier.network, classifier.codec.model, backbone, 64)[2] == 64 * 3 * 6 + 6 * 3

  other = ["--adapter_steps=0", "--steps=1", f"--start={tmp_path}/run/classifier", "--operating_point=bpp0.330"]
  for run, share in (("other", 0.0), ("between", 0.5)):
    code, output = programs.finish(programs.start(*_flags(folder, tmp_path / run, *other, f"--start_share={share}")))
    assert code == 0, output[-3000:]
  before, after, between = (dc.Classifier.load(str(tmp_path / run / "classifier")).network.named_variables()
                            for run in ("run", "other", "between"))
  alike = [name for name in before if name != "adapter/first/kernel"]
  assert 0.002 < max(float(np.abs(before[name] - after[name]).max()) for name in alike) < 0.05  # a small step, not random weights
  for name in alike:
    np.testing.assert_allclose(between[name], (before[name] + after[name]) / 2, atol=5e-4, err_msg=name)


def test_a_run_that_is_killed_in_either_part_goes_on_as_if_it_had_not_been(folder, tmp_path):
  steps = ["--adapter_steps=6", "--steps=12", "--adapter_bottleneck=4", "--views=1", "--adapter_crop_size=16"]
  whole = programs.start(*_flags(folder, tmp_path / "whole", *steps))
  killed = _flags(folder, tmp_path / "killed", *steps)
  for step in (4, 10):
    programs.kill_after_checkpoint(programs.start(*killed), tmp_path / "killed", step)
  for program in (whole, programs.start(*killed)):
    code, output = programs.finish(program)
    assert code == 0, output[-3000:]
  one, other = (dict(np.load(tmp_path / name / "classifier/weights.npz")) for name in ("whole", "killed"))
  for name, value in one.items():
    np.testing.assert_allclose(other[name], value, atol=2e-3, err_msg=name)


def test_bad_flags(folder, tmp_path):
  for flags, message in (
      (["--crop_size=28"], "--crop_size must be a multiple of 8, at most the photos' 32. Received: 28"),
      (["--adapter_crop_size=40"], "--adapter_crop_size must be a multiple of 8, at most the photos' 32. Received: 40"),
      (["--cut=nowhere"], "must be a layer of colours"),
      (["--class_names=" + str(folder / "val/00.png")], "expected a text file of class names"),
      (["--more_sizes=40/2"], "and 448/2 for what is halved, a multiple of 16. Received: 40/2"),
      (["--more_sizes=32/2"], "--crop_size must be a multiple of 8, at most the photos' 16. Received: 24"),
      (["--more_photos=elsewhere"], "--more_photos are those of --more_sizes. Received: --more_photos=elsewhere alone"),
      (["--adapter_steps=9"], "--adapter_steps must be at most --steps=2. Received: 9"),
      (["--start=graft_bpp0.0983", "--start_share=0.5"], "--start_share takes a --start, all of which is trained on, without "
       "--adapter_steps. Received: --start=graft_bpp0.0983, --adapter_steps=1"),
      (["--photos=nowhere"], "expected a folder of photos, or a TFDS set and its split"),
      (["--backbone=ResNet51"], "expected a file, or one of EfficientNet-Lite0")):
    line, output = programs.error(programs.start(*_flags(folder, tmp_path / "run", "--adapter_steps=1", "--steps=2", *flags)))
    assert message in line and "Traceback" not in output
