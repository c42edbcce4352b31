"""experiments.plot_training as people run it."""

from PIL import Image
import pytest
import tensorflow as tf

import programs


@pytest.fixture(name="runs", scope="module")
def fixture_runs(tmp_path_factory):
  """Folders with the curves of a run, with those of another kind of run, and with none."""
  root = tmp_path_factory.mktemp("runs")
  for run, names in (("a", ("bits_per_pixel", "mse")), ("other", ("loss",))):
    with tf.summary.create_file_writer(str(root / run / "train")).as_default():
      for step in range(3):
        for name in names:
          tf.summary.scalar(name, 1.0 + step, step)
  (root / "empty").mkdir()
  return root


def test_curves_are_drawn(runs, tmp_path):
  code, output = programs.finish(programs.start("plot_training", f"--runs={runs}/a/,{runs}/a", f"--output={tmp_path}/curves.png"))
  assert code == 0, output
  assert min(Image.open(tmp_path / "curves.png").size) > 200


@pytest.mark.parametrize("name", ["none", "empty", "other"])
def test_folders_without_curves_are_a_line(runs, tmp_path, name):
  line, output = programs.error(programs.start("plot_training", f"--runs={runs}/a,{runs}/{name}", f"--output={tmp_path}/x.png"))
  assert line == f"error: expected a run folder with the training curve 'bits_per_pixel'. Received: {runs}/{name}"
  assert "Traceback" not in output and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("flags, message", [
    (["--runs="], "--runs must name at least one run folder. Received: none"),
    (["--runs=a,b", "--labels=a"], "--labels must be as many as --runs=2. Received: 1"),
])
def test_bad_flags_are_a_line(tmp_path, flags, message):
  assert programs.error(programs.start("plot_training", *flags, f"--output={tmp_path}/x.png"))[0] == f"error: {message}"
