"""The notebook runs from top to bottom, and what it shows is kept in it."""

import json

import programs
import pytest

NOTEBOOK = programs.ROOT / "docs/tour.ipynb"


def _code_cells():
  return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_outputs_are_kept_and_pictures_are_small():
  assert all(cell["outputs"] for cell in _code_cells()) and NOTEBOOK.stat().st_size < 200_000
  assert not any(output["output_type"] == "error" for cell in _code_cells() for output in cell["outputs"])


@pytest.mark.slow
def test_the_tour():
  names = {}
  for cell in _code_cells():
    exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)  # pylint: disable=exec-used
  assert {"Egyptian cat", "tiger cat", "tabby"} & {name for name, _ in names["classifier"].classify(names["small"])[:3]}
  assert names["mask"].shape == names["photo"].shape[:2] and names["accuracy"] > 0.5  # of four classes
