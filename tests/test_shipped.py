"""Networks by their names, by the folders of runs, and in the folders of DEEPCOMP_PATH."""

import shutil

import programs
import pytest

import deepcomp_tf as dc
from deepcomp_tf import shipped

GOLDEN = programs.ROOT / "tests/golden"


@pytest.fixture(name="place")
def fixture_place(tmp_path):
  """A folder with the folder of a run, which has an operating point and a classifier on it."""
  for name in ("operating_point", "classifier"):
    shutil.copytree(GOLDEN / name, tmp_path / "own/run" / name)
  return tmp_path / "own"


def test_the_folder_of_a_run_stands_for_the_network_in_it(place):
  expected = dc.Codec.load(str(place / "run/operating_point"))
  found = dc.Codec.load(str(place / "run"))
  assert found.fingerprint == expected.fingerprint and found.source == str(place / "run/operating_point")
  assert dc.Classifier.load(str(place / "run")).source == str(place / "run/classifier")
  with pytest.raises(dc.DeepcompError, match="no segmenter"):
    shipped.find("segmenter", str(place / "run"))


def test_own_networks_are_found_in_the_search_path(place, tmp_path, monkeypatch):
  data = (GOLDEN / "photo.deepcomp").read_bytes()
  with pytest.raises(dc.BitstreamError, match="unknown operating point .*--operating_point.*DEEPCOMP_PATH"):
    dc.Codec.load_for(data)
  with pytest.raises(dc.DeepcompError, match="no operating point 'run'"):
    dc.Codec.load("run")
  monkeypatch.setenv("DEEPCOMP_PATH", f"{tmp_path}/nowhere:{place}")
  assert dc.Codec.load("run").source == str(place / "run/operating_point")
  codec, classifier = dc.Codec.load_for(data), dc.Classifier.load_for(data)
  assert codec.source == str(place / "run/operating_point") and classifier.source == str(place / "run/classifier")
  assert codec.decompress(data).shape == (dc.Bitstream(data).height, dc.Bitstream(data).width, 3)
  assert classifier.classify(data)
  for kind in ("operating point", "classifier"):  # what is shipped stays what it is
    assert "run" not in shipped.names(kind) and shipped.all_names(kind)[:-1] == shipped.names(kind)
  with pytest.raises(dc.DeepcompError, match=f"no classifier 'x'.*also seen from DEEPCOMP_PATH=.*:{place}"):
    dc.Classifier.load("x")
