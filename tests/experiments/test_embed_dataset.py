"""`embed_dataset` as a program: vectors of a compressed set, as the embedder itself gives them."""

import numpy as np
import programs
from pyarrow import parquet
import pytest
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import samples

pytest.importorskip("apache_beam")
pytestmark = pytest.mark.slow


class Damaged(tfds.core.GeneratorBasedBuilder):
  """Files with names, the last of them damaged."""

  VERSION = tfds.core.Version("1.0.0")
  FILES = {}

  def _info(self):
    return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(
        {"bitstream": tfds.features.Tensor(shape=(), dtype=np.object_), "name": tfds.features.Text()}))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    yield from self.FILES.items()


def test_vectors_of_a_set(tmp_path):
  codec = dc.Codec.load("bpp0.0983")
  photos = {name: codec.compress(photo[:64, :96]) for name, photo in samples.photos().items()}
  Damaged.FILES = {name: {"bitstream": data, "name": name} for name, data in photos.items()}
  Damaged.FILES["broken"] = {"bitstream": next(iter(photos.values()))[:-3], "name": "broken"}
  Damaged(data_dir=tmp_path / "sets").download_and_prepare()
  command = ["embed_dataset", "--dataset=damaged", f"--data_dir={tmp_path}/sets", "--classifier=cresnet51_bpp0.0983",
             f"--output_dir={tmp_path}/vectors"]
  code, output = programs.finish(programs.start(*command))
  assert code == 0, output[-3000:]
  assert f"{len(photos)} vectors of 512 values; 1 files are damaged and left out" in output
  table = parquet.read_table(tmp_path / "vectors")
  found = dict(zip(table["name"].to_pylist(), table["vector"].to_pylist()))
  embedder = dc.Embedder.load("cresnet51_bpp0.0983")
  assert sorted(found) == sorted(photos)
  for name, vector in found.items():
    np.testing.assert_allclose(vector, embedder.embed(photos[name]), rtol=1e-4, atol=1e-5)
  line, _ = programs.error(programs.start(*command))
  assert "expected a folder without vectors of train" in line
