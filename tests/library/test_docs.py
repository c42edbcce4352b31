"""The commands of docs/library.md work as they stand."""

import pathlib
import re
import shlex

from PIL import Image
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from programs import deepcomp_here

pytest.importorskip("lancedb", reason="the extra library is not installed")
DOCS = (pathlib.Path(__file__).parents[2] / "docs/library.md").read_text()


@pytest.mark.slow
def test_commands_and_python(tmp_path, monkeypatch):
  (tmp_path / "photos").mkdir()
  for name, sample in (("cat", "chelsea"), ("cup", "coffee")):
    Image.fromarray(samples.photos()[sample][20:244, 100:324]).save(tmp_path / f"photos/{name}.jpg")
  lines = re.findall(r"^deepcomp library .*", DOCS, re.MULTILINE)
  for line in lines:
    result = deepcomp_here(*shlex.split(line)[1:], cwd=tmp_path)
    assert result.returncode == 0, (line, result.stderr)
    if line.split()[2] == "add":
      assert [hit.name for hit in dc.Library(tmp_path / "LIBRARY").search("cat", at_least=0.5)] == ["photos/cat.jpg"]
  assert {line.split()[2] for line in lines} == {"add", "info", "search", "duplicates", "export", "verify", "remove", "reindex"}
  monkeypatch.chdir(tmp_path)
  code, = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
  exec(compile(code, "library.md", "exec"), {})  # pylint: disable=exec-used
