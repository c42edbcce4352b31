"""Images that the tests of several programs train on."""

import numpy as np
from PIL import Image
import pytest


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
