"""`Classifier`: from bytes to classes, its folder, its SavedModel, and what it refuses."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf import shipped
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data.answers import square
from deepcomp_tf.tasks import base

CLASSES = ["cup", "cat", "rocket"]


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


def _classifier(codec, kind="representation", network=None):
  tf.keras.utils.set_random_seed(0)
  network = network or (dc.models.CResNet(12, 3, width=0.125) if kind == "representation" else
                        dc.models.ResNet(14, 3, width=0.125))
  inputs = NetworkInput(kind, codec if kind != "original" else None)
  network(tf.zeros([1, 32, 32, inputs.channels]))
  rng = np.random.default_rng(0)
  for name, variable in network.named_variables().items():  # statistics that a mistake in saving would show
    if "bn" in name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
  return dc.Classifier(network, inputs, CLASSES, {"crop_size": 112})


@pytest.fixture(name="files", scope="module")
def fixture_files(codec):
  photos = samples.photos()
  return [codec.compress(photos["coffee"][:96, :128]), codec.compress(photos["chelsea"][:64, :64]),
          codec.compress(photos["astronaut"][:96, :128])]


def test_probabilities_are_the_networks(codec, files):
  classifier = _classifier(codec)
  result = classifier.classify(files[0])
  x = (codec.representation(files[0]) - codec.mean) / codec.deviation
  expected = tf.nn.softmax(classifier.network(x[np.newaxis])[0]).numpy()
  assert [name for name, _ in result] == [CLASSES[k] for k in np.argsort(-expected)]
  np.testing.assert_allclose([p for _, p in result], np.sort(expected)[::-1], rtol=1e-3)
  assert sum(p for _, p in result) == pytest.approx(1.0)


def test_probabilities_follow_the_temperature(codec, files, tmp_path):
  before = dict(_classifier(codec).classify(files[0]))
  expected = {name: probability ** (1 / 0.5) for name, probability in before.items()}
  classifier = _classifier(codec)
  classifier.info["temperature"] = 0.5
  classifier.save(tmp_path / "classifier")
  for name, probability in dc.Classifier.load(tmp_path / "classifier").classify(files[0]):
    assert probability == pytest.approx(expected[name] / sum(expected.values()), rel=0.02)  # kernels are kept in float16


def test_a_batch_is_its_files(codec, files, monkeypatch):
  """Those of equal size go through the network together, of a long list as many as fit."""
  classifier, seen = _classifier(codec), []
  forward = classifier._forward
  monkeypatch.setattr(classifier, "_forward", lambda batch: seen.append(tuple(batch.shape[:3])) or forward(batch))
  monkeypatch.setattr(base, "BATCH_PIXELS", 2 * 96 * 128)
  alone = [classifier.classify(data) for data in files]
  seen.clear()
  together = classifier.classify(3 * files)
  assert sorted(seen) == [(2, 12, 16)] * 3 + [(3, 8, 8)]
  for one, other in zip(together, 3 * alone, strict=True):
    assert [name for name, _ in one] == [name for name, _ in other]
    np.testing.assert_allclose([p for _, p in one], [p for _, p in other], rtol=1e-3)
  assert classifier.classify([]) == []


def test_no_picture_is_decoded(codec, files, monkeypatch):
  classifier = _classifier(codec)
  monkeypatch.setattr(codec.model.decoder, "call", None)
  monkeypatch.setattr(codec.model.encoder, "call", None)
  assert len(classifier.classify(files[0])) == 3


@pytest.mark.parametrize("kind", ["representation", "decoded"])
def test_round_trip(codec, files, tmp_path, kind):
  classifier = _classifier(codec, kind).copy(rounded=True)
  classifier.save(tmp_path / "one")
  twin = dc.Classifier.load(str(tmp_path / "one"))
  assert twin.operating_point == "bpp0.0983" and twin.class_names == CLASSES and twin.info["crop_size"] == 112
  for (name, p), (other, q) in zip(classifier.classify(files[0]), twin.classify(files[0])):
    assert name == other and p == pytest.approx(q, rel=1e-5, abs=1e-9)


def test_what_shares_weights_is_saved_with_all_of_its_own(tmp_path):
  shipped = dc.Classifier.load("graft_bpp0.0983")
  shipped.save(tmp_path / "one")
  twin = dc.Classifier.load(str(tmp_path / "one"))
  weights = shipped.network.named_variables()
  for name, variable in twin.network.named_variables().items():
    np.testing.assert_allclose(variable, weights[name], rtol=1e-3, atol=1e-6, err_msg=name)


def _moved_point(codec, folder):
  """A copy of the operating point in a folder of its own."""
  shutil.copytree(pathlib.Path(shipped.__file__).parent / "operating_points" / codec.source, folder)
  return dc.Codec.load(str(folder))


@pytest.mark.slow
def test_pixels_stay_centered_as_in_training(tmp_path):
  for name, mean in (("imagenet", (123.675, 116.28, 103.53)), ("slim", (123.68, 116.78, 103.94))):
    classifier = dc.Classifier(dc.models.ResNet(14, 2, width=0.125), NetworkInput("original", pixel_mean=name), ["a", "b"])
    classifier.save(tmp_path / name)
    inputs = dc.Classifier.load(str(tmp_path / name)).inputs
    np.testing.assert_allclose(inputs(np.zeros([1, 1, 1, 3], np.uint8)).numpy().ravel(), [-value for value in mean], rtol=1e-6)


def test_it_finds_its_operating_point_where_both_are_moved(codec, files, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  _moved_point(codec, tmp_path / "work/points/mine")
  network, typed = _classifier(codec).network, NetworkInput("representation", dc.Codec.load("work/points/mine"))
  dc.Classifier(network, typed, CLASSES).save("work/runs/typed/classifier")
  dc.Classifier(network, NetworkInput("representation", codec), CLASSES).save("work/runs/given/classifier", "work/points/mine/")
  os.rename("work", "elsewhere")
  (tmp_path / "link").symlink_to(tmp_path / "elsewhere/runs/typed")  # behind which .. is the folder that it leads to
  monkeypatch.chdir("/")
  answers = []
  for place in ("elsewhere/runs/typed", "elsewhere/runs/given", "link"):
    loaded = dc.Classifier.load(tmp_path / place / "classifier")
    assert loaded.codec.source == str(tmp_path / "elsewhere/points/mine")
    answers.append(loaded.classify(files[0]))
  expected = answers[0]
  assert answers == 3 * [expected]

  os.rename(tmp_path / "elsewhere/points", tmp_path / "gone")
  with pytest.raises(dc.DeepcompError, match="^expected the operating point of the classifier in .*typed/classifier at "
                     "'../../../points/mine'.*--operating_point[^\n]*$"):
    dc.Classifier.load(tmp_path / "elsewhere/runs/typed/classifier")
  moved = dc.Codec.load(tmp_path / "gone/mine")
  assert dc.Classifier.load(tmp_path / "elsewhere/runs/typed/classifier", moved).classify(files[0]) == expected


def test_a_path_as_earlier_versions_kept_it(codec, files, tmp_path, monkeypatch):
  """As it was typed, seen from the current folder; beside the classifier lies another operating point of that name."""
  _moved_point(codec, tmp_path / "here/mine")
  _moved_point(dc.Codec.load("bpp0.330"), tmp_path / "here/classifier/mine")
  monkeypatch.chdir(tmp_path / "here")
  _classifier(codec).save("saved")
  info = json.loads(pathlib.Path("saved/classifier.json").read_text())
  for name in ("classifier.json", "weights.npz"):
    os.rename(f"saved/{name}", f"classifier/{name}")
  for place in ("mine", str(tmp_path / "here/mine")):
    pathlib.Path("classifier/classifier.json").write_text(json.dumps({**info, "operating_point": place}))
    loaded = dc.Classifier.load(tmp_path / "here/classifier")
    assert loaded.codec.source == str(tmp_path / "here/mine") and len(loaded.classify(files[0])) == 3
  pathlib.Path("classifier/classifier.json").write_text(json.dumps({**info, "operating_point": "classifier/mine"}))
  with pytest.raises(dc.DeepcompError, match=f"trained on the operating point {codec.fingerprint.hex()}. Received"):
    dc.Classifier.load("classifier")


@pytest.mark.slow
def test_shipped_classifiers(codec, files):
  names = dc.Classifier.names()
  assert names
  for name in names:
    classifier = dc.Classifier.load(name)
    assert classifier.operating_point in dc.operating_points.names()
    if name.startswith("graft_"):
      backbone, count = ("mobilenet_v2", 965) if "birds" in name else ("EfficientNet-Lite0", 1000)
      assert backbone in classifier.describe() and "Apache-2.0" in classifier.describe()
      assert len(classifier.class_names) == count
    else:
      assert "Imagenette" in classifier.describe() and len(classifier.class_names) == 10
  classifier = dc.Classifier.load_for(files[0])
  assert classifier.codec.fingerprint == codec.fingerprint
  assert {name for name, _ in classifier.classify(files[0])} == set(classifier.class_names)


def test_own_classes_are_learned_from_a_few_files_and_kept_in_a_folder(codec, tmp_path):
  rng, classifier = np.random.default_rng(0), _classifier(codec)
  flat = lambda: np.clip(rng.normal(rng.integers(40, 216), 4, [64, 64, 3]), 0, 255).astype(np.uint8)
  busy = lambda: rng.integers(0, 256, [64, 72, 3], np.uint8)
  before = {name: variable.numpy() for name, variable in classifier.network.named_variables().items()}
  names = ["flat", "busy"] * 5
  own = classifier.with_classes(["busy", "flat"]).fit(
      [codec.compress(flat() if name == "flat" else busy()) for name in names], names)
  own.save(tmp_path / "own")
  loaded = dc.Classifier.load(str(tmp_path / "own"))
  assert loaded.class_names == ["busy", "flat"]
  for photo, name in ((flat(), "flat"), (busy(), "busy")):
    assert loaded.classify(codec.compress(photo))[0][0] == name
  for name, variable in classifier.network.named_variables().items():  # and nothing else has changed
    np.testing.assert_array_equal(variable, before[name])
    if not name.startswith("logits"):
      np.testing.assert_array_equal(own.network.named_variables()[name], before[name])
  with pytest.raises(dc.DeepcompError,
                     match="a class for each of the 1 files, at least one, of busy, flat. Received: 1, 'cat' among"):
    own.fit([codec.compress(flat())], ["cat"])


@pytest.mark.slow
@pytest.mark.parametrize("point", dc.operating_points.names())
def test_the_shipped_grafts_know_what_the_sample_photos_show(point):
  codec = dc.Codec.load(point)
  for name, classes in (("chelsea", {"Egyptian cat", "tabby", "tiger cat"}), ("coffee", {"espresso"})):
    data = codec.compress(square(samples.photos()[name], 224))
    classifier = dc.Classifier.load_for(data)
    assert len(classifier.class_names) == 1000 and classifier.classify(data)[0][0] in classes


def test_the_shipped_one_of_a_file(codec, files, tmp_path, monkeypatch):
  place = shipped._place
  monkeypatch.setattr(shipped, "_place", lambda kind: str(tmp_path) if kind == "classifier" else place(kind))
  with pytest.raises(dc.DeepcompError, match="expected one of .none."):
    dc.Classifier.load_for(files[0])
  _classifier(codec).save(tmp_path / "one")
  _classifier(codec, "original").save(tmp_path / "pixels")  # is for no compressed file
  few = dc.Classifier(dc.models.CResNet(12, 2, width=0.125), NetworkInput("representation", codec), ["cup", "cat"])
  few.save(tmp_path / "two")
  loaded = dc.Classifier.load_for(files[0])
  assert loaded.operating_point == "bpp0.0983" and loaded.describe() == (
      "cResNet-12 at bpp0.0983 knows 3 classes: cup, cat, rocket")
  with pytest.raises(dc.DeepcompError, match=f"expected one of {codec.fingerprint.hex()} .one."):
    dc.Classifier.load_for(dc.Codec.load("bpp0.330").compress(np.zeros([32, 32, 3], np.uint8)))
  with pytest.raises(dc.BitstreamError):
    dc.Classifier.load_for(b"no file")


def test_a_file_of_another_operating_point(codec):
  data = dc.Codec.load("bpp0.330").compress(np.zeros([32, 32, 3], np.uint8))
  with pytest.raises(dc.BitstreamError, match="another operating point"):
    _classifier(codec).classify(data)


def test_bad_input(codec, tmp_path):
  with pytest.raises(dc.DeepcompError, match="no classifier 'nowhere'"):
    dc.Classifier.load("nowhere")
  with pytest.raises(dc.DeepcompError, match="3 classes.*2 names"):
    dc.Classifier(dc.models.CResNet(12, 3, width=0.125), NetworkInput("representation", codec), ["a", "b"])
  classifier, original = _classifier(codec), _classifier(codec, "original")
  with pytest.raises(dc.DeepcompError, match="original pixels"):
    original.classify(b"")
  for given, said in (("x.deepcomp", "the path x.deepcomp"), (tmp_path, f"the path {tmp_path}"),
                      ([tmp_path], f"the path {tmp_path}"), (None, "list of the bytes of files. Received: None")):
    with pytest.raises(dc.DeepcompError, match=said):
      classifier.classify(given)
  with pytest.raises(dc.DeepcompError, match="representation"):
    original.export_saved_model(str(tmp_path / "model"))
  classifier.save(tmp_path / "one")
  with pytest.raises(dc.DeepcompError, match="trained on the operating point"):
    dc.Classifier.load(str(tmp_path / "one"), dc.Codec.load("bpp0.330"))
  info = json.loads((tmp_path / "one/classifier.json").read_text())
  (tmp_path / "one/classifier.json").write_text(json.dumps({**info, "network": "cResNet-51"}))
  with pytest.raises(dc.DeepcompError, match="damaged or incomplete"):
    dc.Classifier.load(str(tmp_path / "one"))
