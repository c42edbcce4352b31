"""The site of docs/, with the API from the docstrings, can be built, and shows all that is public."""

import pathlib
import subprocess
import sys

import pytest

import deepcomp_tf as dc

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_shows_all_that_is_public(tmp_path):
  result = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr[-3000:]
  page = (tmp_path / "site/api/index.html").read_text()
  public = [name for name in dc.__all__ if name[0].isupper()] + [
      name for module in (dc.layers, dc.models) for name in module.__all__ if name[0].isupper()]
  missing = [name for name in public if f".{name}\"" not in page]
  assert not missing
  assert "https://" not in "".join(line for line in page.splitlines() if "<script" in line or "stylesheet" in line)
