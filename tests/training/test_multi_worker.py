"""Two real workers on one machine end with the weights of one device with the same global batches."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent.parent
FLAGS = ("--channels=2", "--num_centers=9", "--name=x", "--beta=10", "--target_entropy=0.1", "--start=klt",
         "--crop_size=16", "--batch_size=4", "--steps=4", "--learning_rate=1e-3", "--held_out=1", "--summary_every=1",
         "--tables_from=1")


def ports(count):
  sockets = [socket.socket() for _ in range(count)]
  for s in sockets:
    s.bind(("localhost", 0))
  found = [s.getsockname()[1] for s in sockets]
  for s in sockets:
    s.close()
  return found


def start(images, run_dir, *args, **environment):
  return subprocess.Popen(
      [sys.executable, "-m", "experiments.train_compression", *FLAGS, f"--images={images}", f"--run_dir={run_dir}", *args],
      cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
  try:
    output, _ = process.communicate(timeout=300)
  finally:
    process.kill()
  assert process.returncode == 0, output[-3000:]


def weights(run_dir):
  with np.load(run_dir / "operating_point" / "weights.npz") as arrays:
    return {name: arrays[name].astype(np.float32) for name in arrays}


def test_two_workers_equal_one_device(tmp_path):
  rng = np.random.default_rng(0)
  images = tmp_path / "images"
  images.mkdir()
  for i in range(3):
    Image.fromarray(rng.integers(0, 256, [24, 24, 3], np.uint8)).resize((48, 40), Image.BICUBIC).save(images / f"{i}.png")
  finish(start(images, tmp_path / "one"))
  cluster = {"worker": [f"localhost:{port}" for port in ports(2)]}
  workers = [start(images, tmp_path / "two", "--strategy=multi_worker",
                   TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})) for i in (0, 1)]
  for worker in workers:
    finish(worker)
  one = weights(tmp_path / "one")
  for folder in (tmp_path / "two", tmp_path / "two" / "worker1"):
    for name, value in weights(folder).items():
      # float16 weights: equal to its precision.
      np.testing.assert_allclose(value, one[name], rtol=2e-3, atol=2e-3, err_msg=name)
