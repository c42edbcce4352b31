"""Training with its data and its run at remote paths: at file://, which several processes share, and at ram://, in one."""

import json
import os
import subprocess
import sys

import programs
import pytest

import deepcomp_tf as dc
from deepcomp_tf import files

pytestmark = pytest.mark.slow

COMPRESSION = ["--held_out=1", "--channels=4", "--num_centers=9", "--entropy=pooled", "--beta=10", "--target_entropy=1.5",
               "--crop_size=32", "--batch_size=2", "--learning_rate=1e-3", "--name=tiny", "--start=klt", "--klt_step=100",
               "--steps=12", "--validate_every=4", "--checkpoint_every=4", "--summary_every=2"]
CLASSIFICATION = ["--train_split=train", "--validation_split=val", "--width=0.125", "--crop_size=32", "--batch_size=8",
                  "--network=ResNet-14", "--input=original", "--epochs=2", "--decay_epochs=", "--summary_every=1",
                  "--checkpoint_every=4"]

# Copies a folder to ram://set, trains in ram://run, is stopped by the first checkpoint, goes on, and copies the run here.
_IN_MEMORY = """
import os
import sys
from deepcomp_tf import files
from deepcomp_tf.models import resnet
from deepcomp_tf.training import flags
from deepcomp_tf.training import runs
resnet.ARCHITECTURES["ResNet-14"] = (1, 1, 1, 1)  # as `programs` has it
from experiments import train_classification

def copy(source, target):
  for path in files.walk(source):
    place = target + path.removeprefix(source)
    files.makedirs(os.path.dirname(place))
    files.write_file(place, files.read(path))

def save_and_stop(run):
  save(run)
  raise KeyboardInterrupt

def train():
  try:
    flags.main(train_classification.main)
  except (SystemExit, KeyboardInterrupt) as end:
    print("ended with", type(end).__name__, end, "and the classifier:", files.exists("ram://run/classifier"))

images, here, *rest = sys.argv[1:]
copy(images, "ram://set")
sys.argv = ["train_classification", "--dataset=ram://set", "--run_dir=ram://run", *rest]
save, runs.Run.save = runs.Run.save, save_and_stop
train()
runs.Run.save = save
train()
train()
copy("ram://run", here)
"""


def test_compression_goes_on_in_a_remote_folder(images, tmp_path):
  there = f"file://{tmp_path}/run"
  flags = [f"--images=file://{images}/train/bright", f"--run_dir={there}", *COMPRESSION]
  programs.kill_after_checkpoint(programs.start("train_compression", *flags), tmp_path / "run", 4)
  assert not files.exists(f"{there}/operating_point")
  code, output = programs.finish(programs.start("train_compression", *flags))
  assert code == 0 and "Continuing from step" in output, output[-3000:]
  codec = dc.Codec.load(f"{there}/operating_point")
  assert (codec.operating_point, codec.info["trained"]["steps"]) == ("tiny", 12)
  assert sorted({json.loads(line)["step"] for line in files.read(f"{there}/history.jsonl").splitlines()}) == [4, 8, 12]
  assert sorted(programs.curve(tmp_path / "run", "mse")) == [2, 4, 6, 8, 10, 12]
  code, output = programs.finish(programs.start("train_compression", *flags))
  assert code == 0 and "The run is done" in output, output[-3000:]
  assert not (programs.ROOT / "file:").exists()
  line, output = programs.error(programs.start("train_compression", *flags, "--run_dir=s3://bucket/run"))
  assert "expected a path of a file system that" in line and "Received: s3://bucket/run" in line and "Traceback" not in output


def test_classification_goes_on_in_memory(images, tmp_path):
  environment = {**os.environ, "PYTHONPATH": str(programs.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
  result = subprocess.run([sys.executable, "-c", _IN_MEMORY, str(images), str(tmp_path / "run"), *CLASSIFICATION],
                          cwd=programs.ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
  output = result.stdout + result.stderr
  assert result.returncode == 0, output[-3000:]
  ends = [line for line in result.stdout.splitlines() if line.startswith("ended with")]
  assert ends == ["ended with SystemExit 130 and the classifier: False",
                  *2 * ["ended with SystemExit  and the classifier: True"]], output[-3000:]
  assert "Continuing from step 4 of ram://run" in output and "The run is done" in output
  assert dc.Classifier.load(str(tmp_path / "run/classifier")).class_names == ["bright", "dark"]
  lines = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
  assert [line["epoch"] for line in lines] == [1, 2]
  assert sorted(programs.curve(tmp_path / "run", "loss")) == [1, 2, 3, 4, 5, 6]
  assert not (programs.ROOT / "ram:").exists()
