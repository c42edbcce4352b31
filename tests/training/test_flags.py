"""How programs end, where what cannot be read or written is a line, not a traceback; and where they find flagfiles."""

import pathlib

from absl import app
from absl import flags as absl_flags
import pytest
import tensorflow as tf

from deepcomp_tf import caches
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.training import flags


@pytest.mark.parametrize("program, said", [
    (lambda folder: open(folder / "file/inside", "wb"), "file/inside: Not a directory"),
    (lambda folder: caches.cached_folder(str(folder / "file/inside"), "maps", {}, lambda _: {}), "file/inside (Not a directory)"),
    (lambda folder: list(tf.data.Dataset.from_tensors(str(folder / "none")).map(tf.io.read_file)), "none; No such file"),
])
def test_files_that_cannot_be_read_or_written(tmp_path, monkeypatch, program, said):
  (tmp_path / "file").write_bytes(b"")
  monkeypatch.setattr(app, "run", lambda main, **_: main([]))
  with pytest.raises(SystemExit) as ended:
    flags.main(lambda argv: program(tmp_path))
  line = str(ended.value)
  assert line.startswith("error: expected ") and f"{tmp_path}/{said}" in line and "\n" not in line


def test_errors_of_pipes_are_not_those_of_files(monkeypatch):
  def program(argv):
    raise ConnectionResetError(104, "Connection reset by peer")
  monkeypatch.setattr(app, "run", lambda main, **_: main([]))
  with pytest.raises(ConnectionResetError):
    flags.main(program)


def test_flagfiles_are_found_from_any_folder(tmp_path, monkeypatch):
  """As absl reads them from the checkout's folder, from which they name each other."""
  root = pathlib.Path(__file__).parents[2]
  names = [str(path.relative_to(root)) for path in root.glob("flags/*/*.flags")]
  monkeypatch.chdir(root)
  expected = [absl_flags.FlagValues().read_flags_from_files([f"--flagfile={name}", "--last=1"]) for name in names]
  monkeypatch.chdir(tmp_path)
  assert len(names) > 30 and expected == [flags.with_flagfiles(["--flagfile", name, "--last=1"]) for name in names]


def test_a_flagfile_of_the_current_folder_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "flags/graft").mkdir(parents=True)
  (tmp_path / "flags/graft/small.flags").write_text("# mine\n\n--steps=7\n")
  (tmp_path / "mine.flags").write_text("--seed=1\n--flagfile=flags/graft/bpp0.330.flags\n--seed=2\n")
  read = flags.with_flagfiles(["--flagfile=mine.flags"])  # and bpp0.330.flags, of the programs, names small.flags
  assert read[0] == "--seed=1" and read[-1] == "--seed=2" and "--steps=7" in read


def test_flagfiles_that_cannot_be_read(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "a.flags").write_text("--flagfile=b.flags\n")
  (tmp_path / "b.flags").write_text("--flagfile=a.flags\n")
  with pytest.raises(DeepcompError, match=r"that does not name itself\. Received: --flagfile=a\.flags$"):
    flags.with_flagfiles(["--flagfile=a.flags"])
  with pytest.raises(DeepcompError) as raised:
    flags.with_flagfiles(["--flagfile=flags/none.flags"])
  root = pathlib.Path(__file__).parents[2]
  assert str(raised.value) == (f"expected a flagfile, {tmp_path}/flags/none.flags or {root}/flags/none.flags. "
                               "Received: --flagfile=flags/none.flags")
