"""Images that the tests of several programs train on, and the tables and figures of what they recorded."""

from absl import flags
from absl.testing import flagsaver
import numpy as np
from PIL import Image
import programs
import pytest

from deepcomp_tf.models import resnet
from experiments import make_figures
from experiments import model_complexity


@pytest.fixture(name="images", scope="session")
def fixture_images(tmp_path_factory):
  """Two classes that a glance tells apart: bright and dark."""
  root = tmp_path_factory.mktemp("images")
  rng = np.random.default_rng(0)
  for split, count in (("train", 14), ("val", 4)):
    for name, level in (("bright", 200), ("dark", 50)):
      (root / split / name).mkdir(parents=True)
      for i in range(count):
        pixels = rng.normal(level, 20, [10, 10, 3]).repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / split / name / f"{i}.png")
  (root / "train/dark/broken.jpg").write_bytes(b"no image")
  return root


@pytest.fixture(name="paper_networks", scope="session")
def fixture_paper_networks():
  """Rows of `model_complexity` on the paper's networks: to count one takes two seconds."""
  flags.FLAGS.mark_as_parsed()
  with pytest.MonkeyPatch.context() as patch:
    for name in programs.SMALL_NETWORKS:
      patch.delitem(resnet.ARCHITECTURES, name)
    return list(model_complexity.rows())


@pytest.fixture(name="make_figures")
def fixture_make_figures(paper_networks, monkeypatch):
  """Function that calls `make_figures` in this process, with its flags."""
  def call(**values):
    with flagsaver.flagsaver(**{name: str(value) for name, value in values.items()}):
      make_figures.main([])
  monkeypatch.setattr(model_complexity, "rows", lambda: paper_networks)
  for name in programs.SMALL_NETWORKS:
    monkeypatch.delitem(resnet.ARCHITECTURES, name)
  return call
