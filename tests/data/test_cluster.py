"""Compressing on a cluster: launcher, job server and workers share the source and the output, nothing else.

Each is a process of its own, with a working, home and temporary folder of its own.
"""

import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
from PIL import Image
import psutil
import pytest
import tensorflow_datasets as tfds

from deepcomp_tf.data import chunks

pytest.importorskip("apache_beam")
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = 1200


@pytest.fixture(name="images", scope="module")
def fixture_images(tmp_path_factory):
  """Five chunks of small photos, one of them broken."""
  root, rng = tmp_path_factory.mktemp("source") / "images", np.random.default_rng(0)
  for number in range(IMAGES):
    folder = root / "train" / ("ant", "bee")[number % 2]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, [4, 5, 3]).astype(np.uint8).repeat(8, 0).repeat(8, 1)).save(folder / f"{number}.png")
  (root / "train/ant/0.png").write_bytes(b"no image")
  return root


class Cluster:
  """Starts processes that share nothing, and ends them."""

  def __init__(self, root):
    self._root, self._processes = root, []

  def start(self, name, *arguments):
    folders = {place: self._root / f"{name}{len(self._processes)}" / place for place in ("work", "tmp", "home")}
    for folder in folders.values():
      folder.mkdir(parents=True)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(folders["tmp"]),
        "HOME": str(folders["home"]), "CUDA_VISIBLE_DEVICES": "",
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])}  # the pool starts `python`
    log = open(self._root / f"{name}{len(self._processes)}.log", "w", encoding="utf8")
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=folders["work"], env=environment, stdout=log,
                               stderr=subprocess.STDOUT)
    self._processes.append(process)
    return process, pathlib.Path(log.name)

  def options(self):
    """Starts a job server and a pool of workers; returns the pool and the options of a pipeline that runs on them."""
    server, pool = _free_port(), _free_port()
    self.start("server", "apache_beam.runners.portability.local_job_service_main", f"--port={server}")
    process, _ = self.start("pool", "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}")
    for port in (server, pool):
      _wait(lambda port=port: _listens(port), 120)
    return process, ["--beam_runner=PortableRunner", f"--beam_options=job_endpoint=localhost:{server},"
                     f"environment_type=EXTERNAL,environment_config=localhost:{pool}"]

  def stop(self):
    for process in self._processes:
      for one in [*_children(process), process]:
        try:
          one.kill()
        except psutil.NoSuchProcess:
          pass
      process.wait()


def _children(process):
  try:
    return psutil.Process(process.pid).children(recursive=True)
  except psutil.NoSuchProcess:
    return []


def _free_port():
  with socket.socket() as one:
    one.bind(("localhost", 0))
    return one.getsockname()[1]


def _listens(port):
  with socket.socket() as one:
    return one.connect_ex(("localhost", port)) == 0


def _wait(condition, seconds):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


@pytest.fixture(name="cluster")
def fixture_cluster(tmp_path):
  cluster = Cluster(tmp_path)
  yield cluster
  cluster.stop()


def _program(images, output):
  return ("experiments.compress_dataset", f"--dataset={images}", "--splits=train", "--operating_point=bpp0.0983",
          f"--output_dir={output}")


def _examples(output):
  dataset = tfds.load("compressed_classification/images-bpp0.0983", split="train", data_dir=str(output))
  return sorted((example["bitstream"], int(example["label"])) for example in tfds.as_numpy(dataset))


def test_a_killed_worker_loses_nothing(images, tmp_path, cluster):
  output = tmp_path / "output"
  pool, options = cluster.options()
  launcher, log = cluster.start("launcher", *_program(images, output), *options)
  kept = lambda: list(output.glob("compressed_classification/*/*.partial-*/train-*.npz"))
  _wait(lambda: kept() or launcher.poll() is not None, 300)
  assert launcher.poll() is None, log.read_text()
  for worker in _children(pool):
    worker.kill()
  time.sleep(2)
  finished = kept()
  assert 0 < len(finished) < -(-IMAGES // 256)
  cluster.stop()

  # A chunk that is kept is not compressed again: what is taken out of it stays out.
  path = finished[0]
  _, begin, end = path.stem.split("-")
  store, chunk = chunks.Kept(str(path.parent)), chunks.Chunk("train", int(begin), int(end))
  result = store.load(chunk)
  store.save(chunk, {**result, **{name: result[name][1:] for name in ("keys", "files", "fields")}})

  _, options = cluster.options()
  launcher, log = cluster.start("launcher", *_program(images, output), *options)
  assert launcher.wait(500) == 0, log.read_text()[-3000:]
  text = log.read_text()
  assert f"{IMAGES - 2} examples" in text and "left out: " in text
  assert not kept()

  alone = tmp_path / "alone"
  launcher, log = cluster.start("alone", *_program(images, alone), "--beam_runner=DirectRunner",
                                "--beam_options=direct_running_mode=multi_processing,direct_num_workers=2")
  assert launcher.wait(500) == 0, log.read_text()[-3000:]
  expected = _examples(alone)
  assert len(expected) == IMAGES - 1
  expected.remove((result["files"][0], result["fields"][0]["label"]))
  assert _examples(output) == expected
