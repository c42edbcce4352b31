"""Joint training as people run it: it learns both, survives SIGKILL, leaves an operating point and its classifier."""

import json
import shutil

import numpy as np
from PIL import Image
import programs
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput

pytestmark = pytest.mark.slow

STEPS = 4 * 3
LEARNING = ["--compression_learning_rate=1e-4", "--gradient_clip=10"]


@pytest.fixture(name="images", scope="module")
def fixture_images(tmp_path_factory):
  """Places of two photos."""
  root = tmp_path_factory.mktemp("photos")
  rng = np.random.default_rng(0)
  for split, count in (("train", 14), ("val", 4)):
    for name in ("chelsea", "rocket"):
      (root / split / name).mkdir(parents=True)
      photo = samples.photos()[name]
      for i in range(count):
        y, x = (rng.integers(0, edge - 40) for edge in photo.shape[:2])
        Image.fromarray(photo[y:y + 40, x:x + 40]).save(root / split / name / f"{i}.png")
  return root


@pytest.fixture(name="start", scope="module")
def fixture_start(images, tmp_path_factory):
  """Flags of a run that starts from a classifier of the two classes of `images`, which takes one for the other."""
  tf.keras.utils.set_random_seed(0)
  folder = tmp_path_factory.mktemp("classifier")
  inputs = NetworkInput("representation", dc.Codec.load("bpp0.0983"))
  network = dc.models.CResNet(12, 2, width=0.125)
  network.build([None, None, None, 8])
  for unit in network.units:  # so that random features do not explode, and twelve steps go somewhere on every CPU
    unit.bn3.gamma.assign(0.1 * tf.ones_like(unit.bn3.gamma))
  paths = sorted(images.glob("train/*/*.png"))
  symbols = inputs.encode(tf.stack([np.array(Image.open(path))[:32, :32] for path in paths]))
  network.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
  network.fit(inputs(symbols), np.array([path.parent.name == "chelsea" for path in paths]), epochs=4, batch_size=14, verbose=0)
  dc.Classifier(network, inputs, ["chelsea", "rocket"]).save(folder)
  return [f"--dataset={images}", "--train_split=train", "--validation_split=val", "--image_size=40", "--crop_size=32",
          "--batch_size=8", "--epochs=4", "--decay_epochs=3", "--cache=decoded", "--summary_every=1", "--checkpoint_every=3",
          f"--classifier={folder}", "--operating_point=bpp0.0983", "--entropy=context", "--beta=20",
          "--name=joint", "--tables_from=6", "--held_out=2", "--learning_rate=0.02", "--gradient_clip=0.1"]


def _start(run, *flags, **arguments):
  return programs.start("train_joint", f"--run_dir={run}", *flags, **arguments)


@pytest.fixture(name="finished", scope="module")
def fixture_finished(start, tmp_path_factory):
  run = tmp_path_factory.mktemp("runs") / "finished"
  code, output = programs.finish(_start(run, *start, *LEARNING))
  assert code == 0, output[-3000:]
  return run


def _history(run):
  return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def _cross_entropy(classifier, images):
  """Mean over the middles of all training photos, normalized as in training."""
  paths = sorted(images.glob("train/*/*.png"))
  symbols = classifier.inputs.encode(tf.stack([np.array(Image.open(path))[4:36, 4:36] for path in paths]))
  labels = np.array([classifier.class_names.index(path.parent.name) for path in paths])
  logits = classifier.network(classifier.inputs(symbols), training=True)
  return np.mean(tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))


def test_the_classifier_unlearns_its_mistake(finished, images, start):
  before, = (flag.split("=")[1] for flag in start if flag.startswith("--classifier="))
  codec = dc.Codec.load(str(finished / "operating_point"))
  after = _cross_entropy(dc.Classifier.load(str(finished / "classifier"), codec), images)
  assert after < 0.5 * _cross_entropy(dc.Classifier.load(before), images)
  assert [line["epoch"] for line in _history(finished)] == [0, 1, 2, 3, 4, 4]


def test_it_is_measured_as_classifiers_of_compressed_sets_are(finished, images, start, tmp_path):
  """At its start and at its end, on the files of the whole images, whose representation is cropped."""
  fixed, = (flag.split("=")[1] for flag in start if flag.startswith("--classifier="))
  for line, classifier, codec in ((0, fixed, "bpp0.0983"), (-1, finished / "classifier", finished / "operating_point")):
    codec = dc.Codec.load(str(codec))
    classifier = dc.Classifier.load(str(classifier), codec)
    found = []
    for path in sorted(images.glob("val/*/*.png")):
      symbols = codec.symbols(codec.compress(np.array(Image.open(path))))[np.newaxis, :4, :4]  # of 5, the middle
      found.append(np.argmax(classifier.network(classifier.inputs(symbols))) == classifier.class_names.index(path.parent.name))
    assert _history(finished)[line]["top_1"] == pytest.approx(np.mean(found))


def test_it_ends_in_an_operating_point_with_its_classifier(finished):
  codec = dc.Codec.load(str(finished / "operating_point"))
  base = dc.Codec.load("bpp0.0983")
  assert codec.operating_point == "joint" and codec.fingerprint != base.fingerprint
  np.testing.assert_array_equal(codec.mean, base.mean)  # the classifier was trained on these
  image = samples.photos()["chelsea"][:48, :40]
  data = codec.compress(image)
  assert codec.decompress(data).shape == image.shape
  moved = [np.abs(a.numpy() - b.numpy()).max() for a, b in
           zip(codec.model.encoder.trainable_variables, base.model.encoder.trainable_variables)]
  assert min(moved) > 0  # every weight of the encoder was trained
  classifier = dc.Classifier.load(str(finished / "classifier"))
  assert [name for name, _ in classifier.classify(data)] in (["chelsea", "rocket"], ["rocket", "chelsea"])
  with pytest.raises(dc.DeepcompError, match="trained on the operating point"):
    dc.Classifier.load(str(finished / "classifier"), base)
  with pytest.raises(dc.BitstreamError, match="another operating point"):
    classifier.classify(base.compress(image))


def test_killed_run_continues_as_if_nothing_had_happened(finished, start, tmp_path):
  run = tmp_path / "killed"
  programs.kill_after_checkpoint(_start(run, *start, *LEARNING), run, 9)
  assert not (run / "operating_point").exists()
  code, output = programs.finish(_start(run, *start, *LEARNING))
  assert code == 0 and "Continuing from step" in output, output[-3000:]
  for name in ("mse", "cross_entropy"):
    resumed = programs.curve(run, name)
    for step, value in programs.curve(finished, name).items():
      assert resumed[step] == pytest.approx(value, rel=2e-2), (name, step)


def test_the_control_leaves_the_classifier_and_keeps_the_quantizer(finished, start, tmp_path):
  del finished
  point = tmp_path / "bpp0.0983"
  shutil.copytree(programs.ROOT / "deepcomp_tf/operating_points/bpp0.0983", point)
  info = json.loads((point / "operating_point.json").read_text())
  info["trained"]["settings"].update(temperature=2.0, centers_l2=0.5)
  (point / "operating_point.json").write_text(json.dumps(info))
  code, output = programs.finish(_start(tmp_path / "run", *start, f"--operating_point={point}", "--compression_only",
                                        "--gamma=0.01", "--epochs=1", "--decay_epochs=", "--target_entropy=8"))
  assert code == 0, output[-3000:]
  settings = json.loads((tmp_path / "run/operating_point/operating_point.json").read_text())["trained"]["settings"]
  assert (settings["temperature"], settings["centers_l2"]) == (2.0, 0.5)
  first = {name: programs.curve(tmp_path / "run", name)[1] for name in ("loss", "mse", "bits_per_symbol")}
  penalty = 0.5 * np.sum(dc.Codec.load("bpp0.0983").model.quantizer.centers.numpy() ** 2)
  assert first["bits_per_symbol"] < 8 and first["loss"] == pytest.approx(0.01 * (first["mse"] + penalty), rel=1e-4)
  before, = (flag.split("=")[1] for flag in start if flag.startswith("--classifier="))
  before = dc.Classifier.load(before).network.named_variables()
  after = dc.Classifier.load(str(tmp_path / "run/classifier")).network.named_variables()
  for name, variable in before.items():
    np.testing.assert_array_equal(after[name], variable, name)
  assert programs.curve(tmp_path / "run", "bits_per_symbol")


def test_the_compression_network_alone_follows_its_own_learning_rate(start, tmp_path):
  code, output = programs.finish(_start(tmp_path / "run", *start, "--learning_rate=0", "--compression_learning_rate=0.001"))
  assert code == 0, output[-3000:]
  before, = (flag.split("=")[1] for flag in start if flag.startswith("--classifier="))
  before = dc.Classifier.load(before).network.named_variables()
  after = dc.Classifier.load(str(tmp_path / "run/classifier")).network.named_variables()
  for name in (name for name in before if "moving" not in name):
    np.testing.assert_array_equal(after[name], before[name], name)
  codecs = dc.Codec.load(str(tmp_path / "run/operating_point")), dc.Codec.load("bpp0.0983")
  for a, b in zip(*(codec.model.encoder.trainable_variables for codec in codecs)):
    assert 1e-5 < np.abs(a.numpy() - b.numpy()).max() < 0.0125  # Adam's steps, 12 of them, are about the learning rate
  rate = programs.curve(tmp_path / "run", "compression_learning_rate")
  assert (rate[1], rate[STEPS]) == (pytest.approx(1e-3), pytest.approx(1e-4))


def test_bfloat16_begins_as_float32_does(finished, start, tmp_path):
  code, output = programs.finish(_start(tmp_path / "run", *start, "--precision=mixed_bfloat16", "--epochs=1", "--decay_epochs="))
  assert code == 0, output[-3000:]
  for name in ("mse", "bits_per_symbol", "top_1"):
    exact, rounded = (_history(run)[0][name] for run in (finished, tmp_path / "run"))
    assert rounded == pytest.approx(exact, rel=0.02), name
  assert programs.curve(tmp_path / "run", "mse")[1] != programs.curve(finished, "mse")[1]
  # What it leaves is measured as it is used: in float32.
  codec = dc.Codec.load(str(tmp_path / "run/operating_point"))
  assert codec.model.encoder.conv2.compute_dtype == "float32"


@pytest.mark.parametrize("flags, message", [
    (["--operating_point=bpp0.330"], "was trained on the operating point add948"),
    (["--classifier=nowhere"], "no classifier 'nowhere'"),
    (["--classifier=graft_bpp0.330", "--operating_point=bpp0.330"],
     "expected a cResNet. Received: --classifier=graft_bpp0.330, a"),
    (["--decay_epochs=2,1"], "--decay_epochs must rise"),
    (["--crop_size=33"], "crop_size=33"),
    (["--image_size=24"], "image_size=24"),
    (["--batch_size=64"], "--batch_size must be at most the 28"),
    (["--compression_learning_rate=1e-4", "--precision=mixed_float16"], "Received: --precision=mixed_float16"),
    (["--gradient_clip=0", "--learning_rate=1e6"], "expected finite figures of the training steps"),
])
def test_bad_values_are_named(start, tmp_path, flags, message):
  line, output = programs.error(_start(tmp_path / "run", *start, *flags))
  assert message in line and "Traceback" not in output


def test_other_classes_are_named(images, start, tmp_path):
  (tmp_path / "set").mkdir()
  for split in ("train", "val"):
    for new, old in (("one", "chelsea"), ("two", "rocket")):
      (tmp_path / "set" / split).mkdir(exist_ok=True)
      (tmp_path / "set" / split / new).symlink_to(images / "val" / old)
  line, _ = programs.error(_start(tmp_path / "run", *start, f"--dataset={tmp_path / 'set'}"))
  assert "expected the classes chelsea, rocket" in line and "one, two" in line
