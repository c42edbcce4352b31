"""Files and folders are there whole or not at all."""

import json
import os

import pytest

import deepcomp_tf as dc
from deepcomp_tf import files


def test_json_is_written_whole(tmp_path):
  path = tmp_path / "a.json"
  files.write_json(str(path), {"b": 1})
  with pytest.raises(TypeError):
    files.write_json(str(path), {"b": object()})
  assert json.loads(path.read_text()) == {"b": 1}
  assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_file_is_not_overwritten_unasked(tmp_path):
  path = str(tmp_path / "a")
  files.write_file(path, b"1")
  with pytest.raises(dc.DeepcompError, match="a new file. Received: .*a, which exists"):
    files.write_file(path, b"2")
  files.write_file(path, b"3", overwrite=True)
  assert (tmp_path / "a").read_bytes() == b"3"


def test_a_file_whose_writing_fails_leaves_the_one_before(tmp_path, monkeypatch):
  path = str(tmp_path / "out")
  files.write_file(path, b"first")

  def broken(*_):
    raise OSError("disk full")
  monkeypatch.setattr(os, "replace", broken)
  with pytest.raises(OSError):
    files.write_file(path, b"second", overwrite=True)
  assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out").read_bytes() == b"first"


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(dc.DeepcompError, match="an existing folder to write to. Received: .*none"):
    files.write_file(str(tmp_path / "none/a"), b"")


def test_a_folder_takes_the_place_of_the_one_before_only_when_it_is_whole(tmp_path):
  place = tmp_path / "deep" / "folder"
  for number in ("1", "2"):
    with files.whole_folder(str(place), "number") as new:
      (tmp_path / new / "number").write_text(number)
      assert not place.exists() or (place / "number").read_text() != number
  with pytest.raises(RuntimeError):
    with files.whole_folder(str(place), "number") as new:
      (tmp_path / new / "number").write_text("3")
      raise RuntimeError
  assert (place / "number").read_text() == "2"
  assert [entry.name for entry in place.parent.iterdir()] == ["folder"]
