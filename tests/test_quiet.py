"""How commands and programs end when somebody else ends them: Ctrl-C, and a pipe that nobody reads from."""

import os
import signal
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

import deepcomp_tf as dc
from programs import Program
from programs import ROOT
from programs import wait_until


# More than the batches that may wait for the entropy coder before the first file is written.
PHOTOS = 80


def _piped_to_nobody(*command, cwd, both=False):
  """Exit code, and what it says on standard error unless that is the pipe too."""
  read, write = os.pipe()
  os.close(read)
  with os.fdopen(write) as pipe:
    result = subprocess.run([sys.executable, *command], stdout=pipe, stderr=pipe if both else subprocess.PIPE, cwd=cwd, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120, check=False)
  return result.returncode, result.stderr or ""


def test_a_pipe_that_nobody_reads(tmp_path):
  (tmp_path / "x.deepcomp").write_bytes(dc.Codec.load("bpp0.0983").compress(np.zeros([16, 16, 3], np.uint8)))
  info = ("-m", "deepcomp_tf.cli", "info", "x.deepcomp", "x.deepcomp")
  for command in (info, (*info, "missing")):
    assert _piped_to_nobody(*command, cwd=tmp_path) == (141, "")
  assert _piped_to_nobody("-m", "deepcomp_tf.cli", "--help", cwd=tmp_path)[1] == ""
  assert _piped_to_nobody("-m", "deepcomp_tf.cli", "info", "missing", cwd=tmp_path, both=True)[0] == 141
  # Another pipe's end is an error like others.
  code = "from deepcomp_tf import quiet\ndef send(): raise BrokenPipeError('of a socket')\nquiet.run(send)"
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
  assert result.returncode == 1 and "of a socket" in result.stderr


@pytest.mark.slow
def test_ctrl_c_in_the_command_and_in_training(tmp_path):
  (tmp_path / "photos").mkdir()
  (tmp_path / "out").mkdir()
  for number in range(PHOTOS):
    noise = np.random.default_rng(number).integers(0, 256, [512, 512, 3], np.uint8)
    Image.fromarray(noise).save(tmp_path / f"photos/{number}.png")
  programs = {
      "out": Program("deepcomp_tf.cli", ["compress", "photos", "--output_dir=out", "--effort=0"], cwd=tmp_path),
      "run/train": Program("experiments.train_compression", [
          f"--images={tmp_path}/photos", f"--run_dir={tmp_path}/run", "--batch_size=1", "--channels=2", "--crop_size=32",
          "--steps=100000", "--checkpoint_every=20", "--summary_every=20", "--held_out=1", "--name=x", "--beta=1",
          "--learning_rate=1e-4", "--target_entropy=1"])}
  for place, program in programs.items():
    folder = tmp_path / place
    wait_until(lambda: folder.is_dir() and os.listdir(folder), program)  # pylint: disable=cell-var-from-loop
    program.send(signal.SIGINT)
    code, output = program.wait(100)
    assert code == 130 and "Traceback" not in output and "KeyboardInterrupt" not in output, output
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if ".tmp" in name or name.endswith(".old")]
  assert 0 < len(os.listdir(tmp_path / "out")) < PHOTOS
