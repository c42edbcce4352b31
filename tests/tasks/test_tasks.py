"""A task is a file and a registration: the command, the package and the page find it by itself."""

import json
import sys
import types

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import cli
from deepcomp_tf import tasks
from deepcomp_tf.tasks.base import Task


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


def _deepcomp(*arguments):
  args = cli._parse(["deepcomp", *map(str, arguments)])
  return cli._run(args)


def test_the_command_has_a_subcommand_for_it(capsys, request):
  golden = request.path.parents[1] / "golden"
  flags = ["brightest", golden / "photo.deepcomp", f"--classifier={golden}/classifier"]
  assert _deepcomp(*flags, "--unit=places", "--verbose") == 0
  symbols = np.load(golden / "answers.npz")["symbols"][..., 0]
  row, column = np.unravel_index(np.argmax(symbols), symbols.shape)
  described, line = capsys.readouterr().out.splitlines()
  assert described.startswith("cResNet-39 at golden finds a place") and line == f"{golden}/photo.deepcomp: places {row}, {column}"
  assert _deepcomp(*flags[:1], golden / "answers.npz", *flags[1:], "--json") == 1
  bad, good = map(json.loads, capsys.readouterr().out.splitlines())
  assert good == {"file": f"{golden}/photo.deepcomp", "place": [row, column]}
  assert bad["file"].endswith("answers.npz") and "not a compressed image" in bad["error"]
  with pytest.raises(SystemExit):
    _deepcomp("brightest", "--help")
  assert "Where a photo is brightest." in capsys.readouterr().out


def test_the_page_shows_it(request):
  pytest.importorskip("flask", reason="the extra demo is not installed")
  from deepcomp_tf import demo
  golden = request.path.parents[1] / "golden"
  data = dc.Bitstream((golden / "photo.deepcomp").read_bytes())
  networks = types.SimpleNamespace(codec=lambda name: dc.Codec.load(golden / "operating_point"),
                                   tasks=[lambda data: Brightest.load(golden / "classifier")])
  vars(data)["operating_point"] = "golden"
  shown = demo.show_file(networks, data, 10 ** 6)
  assert shown["understood"][0]["text"].startswith("at (") and shown["point"] == "golden"
  assert len(demo.Networks().tasks) == 3  # with classes and masks; a vector is nothing to look at


def test_names(registered):
  del registered
  assert tasks.names() == ["classify", "segment", "embed", "brightest"]
  for name, (module, task) in tasks.REGISTERED.items():
    assert tasks.find(name) is getattr(sys.modules[module], task)
  from deepcomp_tf import inference
  assert inference.Classifier is dc.Classifier and inference.Segmenter is dc.Segmenter and issubclass(dc.Embedder, Task)
