"""A task is a file and a registration: the command, the package and the page find it by itself."""

import json
import pathlib
import sys
import types

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import tasks
from deepcomp_tf.tasks.base import Task
from programs import deepcomp_here

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


class Brightest(Task):
  """Where a file's first channel is largest. It has no network of its own: that of a golden classifier stands for one."""

  KIND = "classifier"
  HELP = "Where a photo is brightest."

  @classmethod
  def from_json(cls, info, inputs):
    return cls(dc.models.from_blueprint(info, 3), inputs)

  def to_json(self):
    return self.network.blueprint()

  def summary(self):
    return "finds a place"

  def run(self, stored, height, width):
    return [np.unravel_index(np.argmax(symbols[..., 0]), symbols.shape[:2]) for symbols in stored]

  def served(self, representation):
    return {}

  @classmethod
  def add_arguments(cls, parser):
    parser.add_argument("--unit", default="blocks")

  def report(self, args, file, data, answer):
    return f"{file}: {args.unit} {answer[0]}, {answer[1]}", {"place": [int(place) for place in answer]}

  def show(self, answer, picture):
    return {"text": f"at {answer}"}


@pytest.fixture(name="registered", autouse=True)
def fixture_registered(monkeypatch):
  monkeypatch.setitem(tasks.REGISTERED, "brightest", (__name__, "Brightest"))


def test_the_command_has_a_subcommand_for_it(tmp_path):
  flags = ["brightest", GOLDEN / "photo.deepcomp", f"--classifier={GOLDEN}/classifier"]
  result = deepcomp_here(*flags, "--unit=places", "--verbose", cwd=tmp_path)
  symbols = np.load(GOLDEN / "answers.npz")["symbols"][..., 0]
  row, column = np.unravel_index(np.argmax(symbols), symbols.shape)
  described, line = result.stdout.splitlines()
  assert described.startswith("cResNet-39 at golden finds a place") and line == f"{GOLDEN}/photo.deepcomp: places {row}, {column}"
  result = deepcomp_here("brightest", GOLDEN / "answers.npz", *flags[1:], "--json", cwd=tmp_path)
  bad, good = map(json.loads, result.stdout.splitlines())
  assert result.returncode == 1 and good == {"file": f"{GOLDEN}/photo.deepcomp", "place": [row, column]}
  assert bad["file"].endswith("answers.npz") and "not a compressed image" in bad["error"]
  assert "Where a photo is brightest." in deepcomp_here("brightest", "--help", cwd=tmp_path).stdout


def test_the_page_shows_it():
  from deepcomp_tf.serve import looking
  data = dc.Bitstream((GOLDEN / "photo.deepcomp").read_bytes())
  networks = types.SimpleNamespace(codec=lambda name: dc.Codec.load(GOLDEN / "operating_point"),
                                   for_file=lambda file: ([Brightest.load(GOLDEN / "classifier")], [None]))
  vars(data)["operating_point"] = "golden"
  shown = looking.show_file(networks, data, 10 ** 6)
  assert shown["understood"][0]["text"].startswith("at (") and shown["point"] == "golden"
  assert shown["seconds_through_pixels"] is None
  assert len(looking.Networks().tasks) == 3  # with classes and masks; a vector is nothing to look at


def test_names(registered):
  del registered
  assert tasks.names() == ["classify", "segment", "embed", "brightest"]
  for name, (module, task) in tasks.REGISTERED.items():
    assert tasks.find(name) is getattr(sys.modules[module], task)
  from deepcomp_tf import inference
  assert inference.Classifier is dc.Classifier and inference.Segmenter is dc.Segmenter and issubclass(dc.Embedder, Task)
