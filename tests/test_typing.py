"""What type checkers know of the public names."""

import pathlib
import re
import subprocess
import sys

import pytest

pytest.importorskip("mypy")
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]

# A user's program; behind each line what mypy is to say of it: the type, or a word of its error.
PROGRAM = '''
import deepcomp_tf as dc
import numpy as np
codec = dc.Codec.load("bpp0.330")
data = codec.compress(np.zeros([8, 8, 3], np.uint8), effort=3)
reveal_type(data)  # bytes
reveal_type(codec.symbols([data]))  # list[numpy.ndarray
reveal_type(codec.decompress(data))  # "numpy.ndarray
reveal_type(dc.Bitstream(data).symbols)  # numpy.ndarray
reveal_type(next(codec.compress_many([])))  # bytes
reveal_type(dc.evaluation.multiply_adds(None, (224, 224, 3)))  # int
reveal_type(dc.Classifier.load_for(data))  # Classifier
reveal_type(dc.Classifier.load("x").classify(data))  # "list[tuple[str, float]]
reveal_type(dc.Classifier.load("x").classify([data]))  # list[list[tuple[str, float]]]
reveal_type(dc.Segmenter.load("x").segment(data))  # "numpy.ndarray
reveal_type(dc.Embedder.load("x").embed([data]))  # list[numpy.ndarray
reveal_type(dc.Library("x").search("dog", top=3)[0].name)  # str
codec.compress("x.jpg")  # "str"; expected "ndarray
codec.symbols(data, errors="hide")  # No overload
codec.encode(np.zeros(3), errors="raise")  # Unexpected keyword
dc.models.CResNet("51")  # expected "int"
dc.operating_points.load(3)  # "int"; expected "str
dc.Classifier.load(3)  # "int"; expected "str
dc.Library("x").search("dog", top="3")  # expected "int"
'''


def test_types_of_a_users_program(tmp_path):
  path = tmp_path / "program.py"
  path.write_text(PROGRAM)
  result = subprocess.run([sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports",
                           f"--cache-dir={tmp_path}", path], cwd=ROOT, capture_output=True, text=True, check=False)
  said = {int(number): text
          for number, text in re.findall(r"program\.py:(\d+): (?:error: |note: (?=Revealed))(.*)", result.stdout)}
  expected = {number: line.split("  # ")[1] for number, line in enumerate(PROGRAM.splitlines(), 1) if "  # " in line}
  assert sorted(said) == sorted(expected), result.stdout + result.stderr
  for number, part in expected.items():
    assert part in said[number], said[number]
