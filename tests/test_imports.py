"""Imports go one way: layers, models and the codec know nothing of what is built on them; networks know nothing of files, and
data nothing of tasks."""

import pathlib
import re

import pytest

import deepcomp_tf

PACKAGE = pathlib.Path(deepcomp_tf.__file__).parent
ABOVE = ("data", "inference", "tasks", "training", "evaluation", "cli", "library", "serve", "pillow")


@pytest.mark.parametrize("folder, unknown", [
    ("layers", ("models", "codec", "files", "file_systems", "shipped", *ABOVE)),
    ("models", ("codec", "files", "file_systems", "shipped", *ABOVE)), ("codec", ABOVE),
    ("data", ABOVE[1:])])
def test_no_import_goes_up(folder, unknown):
  for path in (PACKAGE / folder).glob("*.py"):
    imported = re.findall(r"^\s*(?:from|import) deepcomp_tf(?:\.| import )(\w+)", path.read_text(), re.MULTILINE)
    assert not set(imported) & set(unknown), path.name
