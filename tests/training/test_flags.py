"""How programs end: what cannot be read or written is a line, not a traceback."""

from absl import app
import pytest
import tensorflow as tf

from deepcomp_tf.data import store
from deepcomp_tf.training import flags


@pytest.mark.parametrize("program, said", [
    (lambda folder: open(folder / "file/inside", "wb"), "file/inside: Not a directory"),
    (lambda folder: store.cached_folder(str(folder / "file/inside"), "maps", {}, lambda _: {}), "file/inside (Not a directory)"),
    (lambda folder: list(tf.data.Dataset.from_tensors(str(folder / "none")).map(tf.io.read_file)), "none; No such file"),
])
def test_files_that_cannot_be_read_or_written(tmp_path, monkeypatch, program, said):
  (tmp_path / "file").write_bytes(b"")
  monkeypatch.setattr(app, "run", lambda main: main([]))
  with pytest.raises(SystemExit) as ended:
    flags.main(lambda argv: program(tmp_path))
  line = str(ended.value)
  assert line.startswith("error: expected ") and f"{tmp_path}/{said}" in line and "\n" not in line


def test_errors_of_pipes_are_not_those_of_files(monkeypatch):
  def program(argv):
    raise ConnectionResetError(104, "Connection reset by peer")
  monkeypatch.setattr(app, "run", lambda main: main([]))
  with pytest.raises(ConnectionResetError):
    flags.main(program)
