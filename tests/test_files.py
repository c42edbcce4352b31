"""Files and folders are there whole or not at all, on this machine and on a remote file system."""

from concurrent import futures
import errno
import itertools
import json
import os
import subprocess
import sys
import threading

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


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_writers_makes_a_file(tmp_path, monkeypatch, links):
  path, barrier = str(tmp_path / "a"), threading.Barrier(8)
  if not links:
    def refuse(*_):
      raise OSError(errno.EPERM, "no links here")
    monkeypatch.setattr(os, "link", refuse)
  monkeypatch.setattr(files, "exists", lambda _: False)  # all have looked before any of them writes

  def write(number):
    barrier.wait()
    try:
      files.write_file(path, bytes([number]))
      return number
    except files.ExistsError:
      return None

  with futures.ThreadPoolExecutor(8) as pool:
    winner, = (number for number in pool.map(write, range(8)) if number is not None)
  assert (tmp_path / "a").read_bytes() == bytes([winner]) and os.listdir(tmp_path) == ["a"]


def test_names_of_any_length_and_bytes(tmp_path):
  name = os.fsdecode(b"\xe9\n") + 250 * "x"
  files.write_file(str(tmp_path / name), b"1")
  assert (tmp_path / name).read_bytes() == b"1"
  assert files.printable(name) == r"\xe9\n" + 250 * "x" and files.printable("\u00e9t\u00e9 1.jpg") == "\u00e9t\u00e9 1.jpg"


def test_a_file_whose_writing_fails_leaves_the_one_before(tmp_path, monkeypatch):
  path = str(tmp_path / "out")
  files.write_file(path, b"first")

  def broken(*_):
    raise OSError("disk full")
  monkeypatch.setattr(os, "replace", broken)
  with pytest.raises(OSError):
    files.write_file(path, b"second", overwrite=True)
  assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out").read_bytes() == b"first"


@pytest.mark.parametrize("at", [0, 1])
def test_a_folder_is_not_lost_where_its_renaming_is_interrupted(tmp_path, monkeypatch, at):
  (tmp_path / "folder").mkdir()
  (tmp_path / "folder/whole").write_bytes(b"old")
  rename, calls = os.rename, itertools.count()

  def interrupted(source, target):
    if next(calls) == at:
      raise KeyboardInterrupt
    rename(source, target)

  monkeypatch.setattr(os, "rename", interrupted)
  with pytest.raises(KeyboardInterrupt):
    with files.whole_folder(str(tmp_path / "folder"), last="whole") as new:
      files.write_file(os.path.join(new, "whole"), b"new")
  assert [path.name for path in tmp_path.iterdir()] == ["folder"] and (tmp_path / "folder/whole").read_bytes() == b"old"


def test_two_may_write_a_folder_at_once(tmp_path):
  """Two containers on one share may have the same process id, as these two writers in one process have."""
  with files.whole_folder(str(tmp_path / "folder"), last="whole") as first:
    with files.whole_folder(str(tmp_path / "folder"), last="whole") as second:
      for number, new in ((b"1", first), (b"2", second)):
        files.write_file(os.path.join(new, "whole"), number)
    assert (tmp_path / "folder/whole").read_bytes() == b"2"
  assert (tmp_path / "folder/whole").read_bytes() == b"1" and os.listdir(tmp_path) == ["folder"]


def test_of_two_who_end_a_folder_at_once_one_wins(tmp_path, monkeypatch):
  rename, others = os.rename, []

  def late(source, target):
    if os.path.basename(target) == "folder" and not others:
      others.append(target)
      os.mkdir(target)
      files.write_file(os.path.join(target, "whole"), b"other")
    rename(source, target)

  monkeypatch.setattr(os, "rename", late)
  with files.whole_folder(str(tmp_path / "folder"), last="whole") as new:
    files.write_file(os.path.join(new, "whole"), b"ours")
  assert others and os.listdir(tmp_path) == ["folder"] and (tmp_path / "folder/whole").read_bytes() == b"other"


def test_local_paths_need_no_tensorflow(tmp_path):
  code = ("import sys; from deepcomp_tf import files; files.makedirs(sys.argv[1]); files.walk(sys.argv[1]); "
          "files.write_json(sys.argv[1] + '/a', 1); assert 'tensorflow' not in sys.modules")
  subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True)


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


@pytest.fixture(name="place", params=["here", "remote"])
def fixture_place(request, tmp_path):
  """A folder on this machine, and one at ram://."""
  return str(tmp_path) if request.param == "here" else request.getfixturevalue("remote")


def test_the_same_here_and_remote(place):
  assert files.is_remote(place) == place.startswith("ram://")
  assert not files.is_remote(f"/here/{place}")
  assert files.normal(f"{place}//a/./b/") == f"{place}/a/b"
  files.makedirs(f"{place}/a/b")
  files.makedirs(f"{place}/a/b")
  files.write_json(f"{place}/a/1.json", {"c": 1})
  files.write_json(f"{place}/a/1.json", {"c": 2})
  files.write_file(f"{place}/a/b/2.bin", b"12345")
  with pytest.raises(dc.DeepcompError, match="a new file. Received: .*2.bin, which exists"):
    files.write_file(f"{place}/a/b/2.bin", b"")
  assert files.read_json(f"{place}/a/1.json") == {"c": 2}
  assert files.read(f"{place}/a/b/2.bin") == b"12345" and files.size(f"{place}/a/b/2.bin") == 5
  with files.open_file(f"{place}/a/b/2.bin") as file:
    assert (file.read(2), file.read()) == (b"12", b"345")
  assert files.listdir(f"{place}/a") == ["1.json", "b"]
  assert files.walk(place) == [f"{place}/a/1.json", f"{place}/a/b/2.bin"]
  assert files.glob(f"{place}/a/*.json") == [f"{place}/a/1.json"]
  for path, exists, isdir in (("a", True, True), ("a/1.json", True, False), ("none", False, False)):
    assert (files.exists(f"{place}/{path}"), files.isdir(f"{place}/{path}")) == (exists, isdir)
  for call in (files.read, files.size, files.read_json, files.read_arrays, files.listdir):
    with pytest.raises(FileNotFoundError, match="No such file or directory: .*/none"):
      call(f"{place}/none")
  files.rmtree(f"{place}/a")
  files.rmtree(f"{place}/a")
  assert files.walk(place) == []


def test_lines_are_added_behind_one_that_was_cut_off(place):
  path = f"{place}/lines"
  for text in ("one", "two"):
    files.append_line(path, text)
  files.write_file(path, files.read(path)[:-2], overwrite=True)
  files.append_line(path, "three")
  assert files.read(path) == b"one\ntw\nthree\n"


def _fill(folder, number):
  for name in ("a.txt", "told.json", "z.txt"):
    files.write_file(f"{folder}/{name}", number)


def test_a_folder_is_replaced(place):
  for number in (b"1", b"2"):
    with files.whole_folder(f"{place}/deep/folder/", last="told.json") as new:
      _fill(new, number)
      files.write_file(f"{new}/only{number.decode()}", b"")
  assert [files.read(f"{place}/deep/folder/{name}") for name in ("a.txt", "told.json", "z.txt")] == 3 * [b"2"]
  assert files.listdir(f"{place}/deep/folder") == ["a.txt", "only2", "told.json", "z.txt"]
  with pytest.raises(RuntimeError):
    with files.whole_folder(f"{place}/deep/folder", last="told.json") as new:
      _fill(new, b"3")
      raise RuntimeError
  assert files.read(f"{place}/deep/folder/told.json") == b"2"


def test_a_remote_folder_that_is_half_written_is_not_told(remote, monkeypatch):
  with files.whole_folder(f"{remote}/folder", last="told.json") as new:
    _fill(new, b"1")
  write, written = files.write_file, []

  def killed_at_the_third(path, data, overwrite=False):
    if len(written) == 2:
      raise KeyboardInterrupt
    written.append(os.path.basename(path))
    write(path, data, overwrite)

  with pytest.raises(KeyboardInterrupt):
    with files.whole_folder(f"{remote}/folder", last="told.json") as new:
      _fill(new, b"2")
      monkeypatch.setattr(files, "write_file", killed_at_the_third)
  assert written == ["a.txt", "z.txt"] and not files.exists(f"{remote}/folder/told.json")


def test_what_a_file_system_refuses_is_one_line(tmp_path):
  (tmp_path / "file").write_bytes(b"")
  there = f"file://{tmp_path}"
  for call in (files.read, files.exists, files.isdir, files.listdir, files.glob, files.makedirs, files.walk,
               lambda path: files.write_file(path, b"")):
    with pytest.raises(dc.DeepcompError, match=r"^expected [^\n]*file://[^\n]*Received: s3://bucket/a[^\n]*$"):
      call("s3://bucket/a")
  for call, message in ((files.makedirs, "expected a "), (files.read, "expected a path that can be reached")):
    path = f"{there}/file/b" if call is files.makedirs else there
    with pytest.raises(dc.DeepcompError, match=rf"^{message}[^\n]*Received: {path}[^\n]*$"):
      call(path)
  with pytest.raises(dc.DeepcompError, match=f"an existing bucket or folder to write to. Received: {there}/none$"):
    files.write_file(f"{there}/none/a", b"")
  with pytest.raises(dc.DeepcompError, match="a folder that can be written. Received: .*/file/b"):
    files.makedirs(str(tmp_path / "file/b"))
