"""Every example of the README and of its pages runs, and every flagfile is what its name says."""

import functools
import glob
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import types

from PIL import Image
import programs
import pytest

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.training import starts

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ("README.md", "docs/command.md", "docs/python.md", "docs/programs.md")
TEXT = "".join((ROOT / page).read_text() for page in PAGES)
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


# Of Table 2, those that have flagfiles.
ROWS = ("resnet50_original", "cresnet51_bpp0.0983", "cresnet51_bpp0.330")


def blocks(language, *pages):
  return re.findall(rf"```{language}\n(.*?)```", "".join((ROOT / page).read_text() for page in pages or PAGES), re.DOTALL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("readme")
  (folder / "more").mkdir()
  for name in ("chelsea", "coffee"):
    Image.fromarray(samples.photos()[name][:184, :192]).save(folder / "more" / f"{name}.png")
  Image.fromarray(samples.photos()["rocket"][:64, :64]).save(folder / "photo.jpg")
  inputs = NetworkInput("representation", dc.Codec.load("bpp0.330"))
  network = dc.models.CResNet(12, 2, width=0.125)
  for run in ("RUN_DIR", "OWN_DIR"):
    dc.Classifier(network, inputs, ["cat", "dog"]).save(folder / run / "classifier")
  dc.Segmenter(dc.models.DeepLab.from_classifier(network, 2), inputs, [mask_classes.VOC[i] for i in (0, 8)]).save(
      folder / "SEGMENTATION_DIR/segmenter")
  return folder


@pytest.mark.slow
def test_python_examples(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert blocks("python")
  for code in blocks("python"):
    exec(compile(code, "README.md", "exec"), {})  # pylint: disable=exec-used


@pytest.mark.slow
@pytest.mark.parametrize("pages, commands", [
    (("README.md", "docs/programs.md"), {"compress", "decompress", "evaluate", "classify", "segment", "library"}),
    (("docs/command.md",), {"compress", "decompress", "info", "embed", "evaluate"})])
def test_deepcomp_examples(photos, tmp_path, pages, commands):
  photos = shutil.copytree(photos, tmp_path / "photos")
  lines = [line for block in blocks("bash", *pages) for line in block.splitlines() if line.startswith("deepcomp ")]
  assert {line.split()[1] for line in lines} >= commands
  for line in lines:
    words = shlex.split(line.replace("FOLDER", "more"))[1:]
    result = programs.deepcomp_here(
        *(path for word in words for path in sorted(glob.glob(word, root_dir=photos)) or [word]), cwd=photos)
    assert result.returncode == 0, (line, result.stderr)


def test_training_examples_name_files_that_exist():
  named = set(re.findall(r"flags/\S+\.flags", TEXT))
  assert named and all((ROOT / name).exists() for name in named)
  for module in set(re.findall(r"-m (experiments\.\w+)", TEXT)):
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()


@functools.cache
def parsed_flagfiles():
  """dict of flagfile -> values of train_compression's flags, defaults included. In a process: programs share names of flags."""
  code = ("import copy, json, sys; from absl import flags; from experiments import train_compression as program; found = {}\n"
          "for path in sys.argv[1:]:\n"
          "  values = copy.deepcopy(flags.FLAGS)\n"
          "  values(['train', '--flagfile=' + path, '--run_dir=x'])\n"
          "  found[path] = {flag.name: flag.value for flag in values.get_flags_for_module(program.__name__)"
          " + values.get_flags_for_module('deepcomp_tf.training.flags')}\n"
          "print(json.dumps(found))")
  paths = sorted(str(path) for path in (ROOT / "flags/compression").glob("*.flags"))
  result = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
                          check=True)
  return {pathlib.Path(path).name: types.SimpleNamespace(**values) for path, values in json.loads(result.stdout).items()}


@pytest.mark.slow
@pytest.mark.parametrize("rate, channels, beta, target, learning_rate", [
    ("0.0983", 8, 600, 0.8, 1e-3), ("0.330", 16, None, None, 1e-5), ("0.635", 32, 150, 1.265, 1e-3)])
def test_paper_flagfiles(rate, channels, beta, target, learning_rate):
  """Appendices A.1 and A.8."""
  flagfiles = parsed_flagfiles()
  values = flagfiles[f"bpp{rate}.flags"]
  assert (values.channels, values.batch_size, values.steps) == (channels, 30, 600_000)
  assert values.learning_rate == learning_rate and values.schedule == "constant"
  assert (values.entropy, values.start, values.dataset) == ("pooled", "random", "imagenet2012")
  if beta:
    assert (values.beta, values.target_entropy) == (beta, target)
  # H_t is the rate of the name: bits per pixel = C * H / 64.
  assert values.target_entropy * channels / 64 == pytest.approx(float(rate), rel=0.02)
  # Its small twin differs in crops, steps, the rate that looks like a misprint, and in how the optimizer gets there.
  small = vars(flagfiles[f"bpp{rate}_paper_small.flags"])
  differing = {name for name, value in vars(values).items() if small[name] != value}
  assert differing == {"name", "crop_size", "batch_size", "steps", "validate_every", "rate_step", "schedule", "weight_average",
                       "gradient_clip"} | ({"learning_rate"} if rate == "0.330" else set())


@pytest.mark.slow
def test_small_flagfile_trains(photos, tmp_path):
  """The twin that starts from a shipped operating point, cut to two steps."""
  code, output = programs.finish(programs.start(
      "train_compression", f"--flagfile={ROOT}/flags/compression/bpp0.0983_small.flags", f"--images={photos}/more",
      "--held_out=1", "--steps=2", "--crop_size=32", f"--run_dir={tmp_path}/run", patches=[
          ("deepcomp_tf.training.starts", "fit_entropy", functools.partial(starts.fit_entropy, steps=20))]))
  assert code == 0, output[-3000:]
  assert (tmp_path / "run" / "operating_point" / "operating_point.json").exists()


def read_flagfile(path):
  """dict of a flagfile's flags, with those of the files that it names."""
  values = {}
  for line in path.read_text().splitlines():
    if line.startswith("--") and "=" in line:
      name, value = line[2:].split("=", 1)
      values.update(read_flagfile(ROOT / value) if name == "flagfile" else {name: value})
  return values


def test_segmentation_flagfiles():
  """Appendix A.5."""
  for row in ROWS:
    values = read_flagfile(ROOT / f"flags/segmentation/{row}.flags")
    assert [values[name] for name in ("batch_size", "steps", "learning_rate", "head_learning_rate", "power", "momentum",
                                      "weight_decay", "crop_size")] == [
                                          "10", "20000", "0.001", "0.01", "0.9", "0.9", "5e-4", "320"]
    assert "random_scale" not in values  # DrSleep's, not the paper's


@pytest.mark.parametrize("rate, beta, target", [("0.0983", "600", "0.8"), ("0.635", "150", "1.265")])
def test_joint_flagfiles(rate, beta, target):
  """Appendix A.8."""
  for kind in ("", "_paper_small"):
    values = read_flagfile(ROOT / f"flags/joint/bpp{rate}{kind}.flags")
    assert (values["beta"], values["target_entropy"], values["operating_point"]) == (beta, target, f"bpp{rate}")
    assert [values[name] for name in ("gamma", "learning_rate", "momentum", "epochs", "decay_epochs")] == [
        "0.001", "0.0025", "0.9", "9", "3,6"]


def test_the_control_trains_its_classifier_on_by_the_same_schedule():
  """Section 6.1; at both scales."""
  for kind in ("", "_small"):
    joint = read_flagfile(ROOT / f"flags/joint/bpp0.0983{kind}.flags")
    schedule = read_flagfile(ROOT / f"flags/joint/schedule{kind}.flags")
    assert {"learning_rate", "momentum", "weight_decay", "epochs", "decay_epochs"} == set(schedule)
    assert {name: joint[name] for name in schedule} == schedule


def test_classification_flagfiles():
  """Appendix A.4."""
  folder = ROOT / "flags/classification"
  for row in ROWS:
    for name in (row, f"{row}_small"):
      values = read_flagfile(folder / f"{name}.flags")
      assert (values["learning_rate"], values["batch_size"], values["weight_decay"], values["momentum"]) == (
          "0.025", "64", "1e-4", "0.9")
    for name, expected in ((row, ("224", "28", "8,16,24")), (f"{row}_small", ("112", "42", "30,37,40"))):
      values = read_flagfile(folder / f"{name}.flags")
      assert (values["crop_size"], values["epochs"], values["decay_epochs"]) == expected
