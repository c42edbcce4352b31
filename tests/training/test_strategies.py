"""Every training program on two devices, and in two processes, trains as on one device with the same global batches."""

from concurrent import futures
import functools
import json
import os
import socket

import numpy as np
from PIL import Image
import programs
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.training import starts

pytestmark = pytest.mark.slow

COMMON = ["--checkpoint_every=1", "--summary_every=1"]
CLASSES = ["--train_split=train", "--validation_split=val", "--batch_size=4", "--epochs=1", "--decay_epochs=",
           "--synchronized_batch_norm", *COMMON]
# Of each program: its flags, besides the folders; the folder of its result; and figures of its curves.
PROGRAMS = {
    "compression_pooled": ("train_compression", ["--entropy=pooled", "--centers_l2=0.5", "--rate_step=20",
                                                 "--precision=mixed_float16"], "operating_point"),
    "compression_per_channel": ("train_compression", ["--entropy=per_channel", "--precision=mixed_bfloat16"], "operating_point"),
    "compression_context": ("train_compression", ["--entropy=context", "--gradient_clip=50", "--weight_average=0.9"],
                            "operating_point"),
    "classification": ("train_classification", [
        *CLASSES, "--network=cResNet-12", "--input=representation", "--operating_point=bpp0.0983", "--width=0.125",
        "--crop=representation", "--image_size=40", "--crop_size=32"], "classifier"),
    "graft": ("train_graft", [
        "--preprocessing=none", "--operating_point=bpp0.0983", "--image_size=48", "--crop_size=32", "--batch_size=4", "--steps=5",
        "--adapter_steps=2", "--adapter_filters=8", "--adapter_units=3", "--warmup_steps=1", "--average=0.5",
        "--validate_every=1", *COMMON], "classifier"),
    "joint": ("train_joint", [
        *CLASSES, "--operating_point=bpp0.0983", "--entropy=per_channel", "--beta=50", "--image_size=40", "--crop_size=32",
        "--name=joint", "--tables_from=2", "--held_out=1", "--gradient_clip=5"], "classifier"),
    "segmentation": ("train_segmentation", [
        "--train_split=train", "--validation_split=val", "--batch_size=4", "--steps=3", "--crop_size=32", "--class_ids=0,8",
        *COMMON], "segmenter"),
}
COMPRESSION = ["--held_out=1", "--channels=2", "--num_centers=7", "--crop_size=16", "--beta=100", "--target_entropy=0.1",
               "--learning_rate=1e-3", "--name=tiny", "--batch_size=4", "--steps=3", "--start=klt", "--klt_step=60", *COMMON]
# The entropy of a start is fitted in a few steps.
_start = functools.partial(programs.start, patches=[
    ("deepcomp_tf.training.starts", "fit_entropy", functools.partial(starts.fit_entropy, steps=20))])


@pytest.fixture(name="folders", scope="module")
def fixture_folders(tmp_path_factory):
  """Photos of unlike statistics: the histogram of half a batch is not that of the whole; with classes and masks."""
  root = tmp_path_factory.mktemp("sets")
  rng = np.random.default_rng(0)
  for split, count in (("train", 6), ("val", 3)):
    for kind in ("images", "masks"):
      (root / "segmentation" / kind / split).mkdir(parents=True)
    for name, deviation in (("calm", 10), ("wild", 70)):
      (root / "classes" / split / name).mkdir(parents=True)
      for number in range(count):
        pixels = np.clip(rng.normal(128, deviation + 5 * number, [6, 6, 3]), 0, 255).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(pixels).save(root / "classes" / split / name / f"{number}.png")
        Image.fromarray(pixels).save(root / "segmentation/images" / split / f"{name}{number}.png")
        mask = Image.fromarray(
            np.where(rng.random([48, 48]) < 0.1 * number, 255, 8 * (pixels[..., 0] > 128)).astype(np.uint8), "P")
        mask.putpalette(list(range(256)) * 3)
        mask.save(root / "segmentation/masks" / split / f"{name}{number}.png")
  tf.keras.utils.set_random_seed(0)
  convolution = lambda filters: tf.keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")
  pixels = tf.keras.Input([48, 48, 3])
  x = tf.keras.layers.GlobalAveragePooling2D()(convolution(9)(convolution(8)(convolution(6)(convolution(4)(pixels)))))
  backbone = tf.keras.Model(pixels, tf.keras.layers.Dense(2)(x))
  backbone.save(root / "backbone.keras")
  (root / "names.txt").write_text("calm\nwild\n")
  graft = dc.models.Graft(backbone, filters=8, units=3)
  graft.build([None, None, None, 8])
  dc.Classifier(graft, NetworkInput("representation", dc.Codec.load("bpp0.0983")), ["calm", "wild"]).save(root / "graft")
  network = dc.models.CResNet(12, 2, width=0.125)
  inputs = NetworkInput("representation", dc.Codec.load("bpp0.0983"))
  network.build([None, None, None, 8])
  for unit in network.units:  # so that random features do not explode
    unit.bn3.gamma.assign(0.1 * tf.ones_like(unit.bn3.gamma))
  dc.Classifier(network, inputs, ["calm", "wild"]).save(root / "classifier")
  return root


def _flags(folders, name):
  program, flags, result = PROGRAMS[name]
  if program == "train_compression":
    return program, [*COMPRESSION, f"--images={folders}/classes/train/wild", *flags], result
  if program == "train_graft":
    return program, [*flags, f"--backbone={folders}/backbone.keras", f"--class_names={folders}/names.txt",
                     f"--photos={folders}/classes/train", f"--validation_photos={folders}/classes/val",
                     f"--cache_dir={folders}/answers", f"--start={folders}/graft"], result
  if program == "train_segmentation":
    flags = [*flags, f"--dataset={folders}/segmentation", f"--data_dir={folders}/prepared"]
  else:
    flags = [*flags, f"--dataset={folders}/classes"]
  # From random weights, with few examples to normalise over, rounding alone grows to other networks within three steps.
  start = "start" if program == "train_classification" else "classifier"
  return program, [*flags, f"--{start}={folders}/classifier"], result


@pytest.fixture(name="alone", scope="module")
def fixture_alone(folders, tmp_path_factory):
  """Function of a program's name that runs it once on one device, and returns its folder."""
  runs = {}

  def run(name):
    if name not in runs:
      runs[name] = tmp_path_factory.mktemp("alone") / name
      program, flags, _ = _flags(folders, name)
      code, output = programs.finish(_start(program, *flags, f"--run_dir={runs[name]}", devices=1))
      assert code == 0, output[-3000:]
    return runs[name]

  return run


def _scalars(run, part):
  """dict of (name, step) -> value of curves; empty where there are none."""
  return {} if not (run / part).exists() else {(value.tag, event.step): float(tf.make_ndarray(value.tensor))
          for path in (run / part).iterdir() for event in tf.compat.v1.train.summary_iterator(str(path))
          for value in event.summary.value if value.metadata.plugin_data.plugin_name == "scalars"}


def _weights(run):
  """The networks' variables in the last checkpoint."""
  reader = tf.train.load_checkpoint(str(run / "checkpoints"))
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
          if name.startswith("variables/") and "optimizer" not in name}


def _assert_same(one, other, result, precision=1e-3, compare_weights=True, later=None):
  """`later`: the precision after the first step; networks that compute in 16 bits soon go ways of their own."""
  assert (other / result).exists()
  for part in ("train", "validation"):
    expected, found = _scalars(one, part), _scalars(other, part)
    assert expected.keys() == found.keys() and (expected or part == "validation")
    for key, value in expected.items():
      bound = later if later and key[1] > 1 else precision
      assert found[key] == pytest.approx(value, rel=bound, abs=1e-5), key
  if not compare_weights:
    return
  weights, others = _weights(one), _weights(other)
  assert weights.keys() == others.keys() and len(weights) > 20
  for name, value in weights.items():
    # Adam's steps have the size of the learning rate wherever the gradient is not zero, so that noise may turn a few.
    close = np.isclose(others[name], value, rtol=10 * precision, atol=2e-4)
    assert close.mean() > 0.98, (name, np.abs(others[name] - value).max())


@pytest.mark.parametrize("name", PROGRAMS)
def test_two_replicas(folders, alone, tmp_path, name):
  program, flags, result = _flags(folders, name)
  run = tmp_path / "run"
  code, output = programs.finish(_start(program, *flags, f"--run_dir={run}", "--strategy=mirrored", devices=2))
  assert code == 0, output[-3000:]
  rounded = any(flag.startswith("--precision") for flag in flags)
  _assert_same(alone(name), run, result, 1e-2 if rounded else 1e-3, compare_weights=not rounded, later=0.2 if rounded else None)


@pytest.mark.parametrize("name", ["classification", "segmentation"])
def test_two_replicas_go_on_after_a_kill(folders, alone, tmp_path, name):
  program, flags, result = _flags(folders, name)
  run = tmp_path / "run"
  start = lambda: _start(program, *flags, f"--run_dir={run}", "--strategy=mirrored", devices=2)
  programs.kill_after_checkpoint(start(), run, 1)
  code, output = programs.finish(start())
  assert code == 0 and "Continuing from step" in output, output[-3000:]
  expected, found = _scalars(alone(name), "train"), _scalars(run, "train")
  assert expected.keys() == found.keys()
  for key, value in expected.items():
    assert found[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
  assert (run / result).exists()


@pytest.mark.parametrize("name", ["compression_context", "classification", "graft", "joint", "segmentation"])
def test_two_workers_of_which_one_is_the_chief(folders, alone, tmp_path, name):
  program, flags, result = _flags(folders, name)
  run = tmp_path / "run"
  first, second = _free_ports(2)
  cluster = {"chief": [f"localhost:{first}"], "worker": [f"localhost:{second}"]}
  workers = [_start(program, *flags, f"--run_dir={run}", "--strategy=multi_worker", environment={
      "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}})}) for kind in cluster]
  with futures.ThreadPoolExecutor() as readers:  # one whose output nobody reads halts, and so do both
    outputs = list(readers.map(programs.finish, workers))
  assert [code for code, _ in outputs] == [0, 0], outputs[0][1][-3000:] + outputs[1][1][-3000:]
  _assert_same(alone(name), run, result)
  # Only the chief writes results.
  assert not (run / "worker0" / result).exists() and (run / "worker0" / "train").exists()
  assert "worker1" not in os.listdir(run)


@pytest.mark.parametrize("name", ["classification"])
def test_replicas_have_their_own_batch_statistics_unless_synchronized(folders, alone, tmp_path, name):
  program, flags, _ = _flags(folders, name)
  run = tmp_path / "run"
  code, output = programs.finish(_start(
      program, *flags, "--nosynchronized_batch_norm", f"--run_dir={run}", "--strategy=mirrored", devices=2))
  assert code == 0, output[-3000:]
  expected, found = _scalars(alone(name), "train"), _scalars(run, "train")
  assert abs(found["cross_entropy", 1] - expected["cross_entropy", 1]) > 1e-3


def test_a_batch_that_does_not_divide_is_an_error(folders, tmp_path):
  program, flags, _ = _flags(folders, "compression_pooled")
  line, output = programs.error(_start(
      program, *flags, "--batch_size=3", f"--run_dir={tmp_path}/run", "--strategy=mirrored", devices=2))
  assert "a multiple of the 2 replicas. Received: 3" in line and "Traceback" not in output


def _free_ports(count):
  sockets = [socket.socket() for _ in range(count)]
  for one in sockets:
    one.bind(("localhost", 0))
  ports = [one.getsockname()[1] for one in sockets]
  for one in sockets:
    one.close()
  return ports
