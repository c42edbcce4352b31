"""`reproduce` trains what is not recorded, and `make_figures` writes the records down."""

import json
import pathlib

from absl import flags
from absl.testing import flagsaver
import programs
import pytest

import deepcomp_tf as dc
from experiments import paper
from experiments import reproduce


@pytest.fixture(name="folders")
def fixture_folders(images, tmp_path):
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(images=str(images), work_dir=str(tmp_path / "work"), results_dir=str(tmp_path / "results")):
    yield tmp_path


def _step(point):
  return reproduce.Step(
      "classification_row", "train_classification", "--flagfile=flags/classification/small.flags", "--network=cResNet-39",
      "--input=representation", f"--operating_point={point}", "--width=0.125", "--crop_size=32", "--batch_size=8",
      "--epochs=2", "--decay_epochs=1", f"--dataset={flags.FLAGS.images}", "--crop=representation", "--image_size=40",
      point=point)


def test_a_step_is_recorded_once(folders, capsys):
  step = _step("bpp0.330")
  assert step.record() is None
  reproduce.run(step)
  record = step.record()
  assert [line["epoch"] for line in record["history"]] == [1, 2] and record["settings"]["network"] == "cResNet-39"
  assert (record["operating_point"], record["settings"]["width"]) == ("bpp0.330", 0.125)
  network = dc.models.CResNet(39, 2, width=0.125)
  assert record["multiply_adds"] == dc.evaluation.multiply_adds(network, (4, 4, 16)) and record["seconds"] >= 0
  reproduce.print_plan([step])
  assert "done  classification_row" in capsys.readouterr().out
  # The same row on other networks is left to do.
  other = _step("bpp0.0983")
  reproduce.print_plan([other])
  out = capsys.readouterr().out
  assert other.record() is None and "recorded on an earlier operating point" in out and "1 of 1" in out
  assert [path.name for path in (folders / "results").iterdir()] == ["classification_row.json"]


def test_what_a_set_takes_is_recorded(folders):
  with flagsaver.flagsaver(scale="small"):
    step, = reproduce.select(list(reproduce.plan()), "storage_bpp0.330")
    reproduce.run(step)
    record = step.record()
    assert (record["examples"], record["skipped"], record["symbol_bytes"]) == (36, 1, 36 * 5 * 5 * 16)
    files = [path for path in pathlib.Path(flags.FLAGS.images).rglob("*") if path.is_file()]
    assert record["source_bytes"] == sum(path.stat().st_size for path in files)
    assert 36 * 16 < record["bitstream_bytes"] < record["set_bytes"]
    (folders / "results" / "storage_bpp0.330.json").unlink()
    reproduce.run(step)  # the set is there; its record is made again
    assert {**step.record(), "seconds": 0} == {**record, "seconds": 0}


def test_segmentation_starts_from_classifiers(folders, capsys):
  with flagsaver.flagsaver(scale="small"):
    steps = reproduce.select(list(reproduce.plan()), "segmentation_cresnet51_bpp0.330")
    # The classifier is not there, so it is trained first.
    assert [step.name for step in steps] == ["classification_cresnet51_bpp0.330", "segmentation_cresnet51_bpp0.330"]
    assert f"--classifier={steps[0].network_dir}" in steps[1].command
    (folders / "results").mkdir()
    record = {"fingerprint": steps[0].fingerprint, "seconds": 60, "date": "2026-01-01"}
    (folders / "results" / f"{steps[0].name}.json").write_text(json.dumps(record))
    reproduce.print_plan(steps)
    assert "its network is not in --work_dir" in capsys.readouterr().out
    pathlib.Path(steps[0].network_dir).mkdir(parents=True)
    steps = reproduce.select(list(reproduce.plan()), "segmentation_cresnet51_bpp0.330")
    assert [step.name for step in steps] == ["segmentation_cresnet51_bpp0.330"]
    with pytest.raises(dc.DeepcompError, match="--masks=None"):
      reproduce.check_folders(steps)


def test_the_plan_names_files_that_exist():
  """At both scales: flagfiles, and flags that their programs have; a step comes after what it needs."""
  flags.FLAGS.mark_as_parsed()
  for scale in ("small", "paper"):
    with flagsaver.flagsaver(scale=scale):
      steps = list(reproduce.plan())
      names = [step.name for step in steps]
      assert len(set(names)) == len(names)
      for number, step in enumerate(steps):
        assert step.needs is None or step.needs in steps[:number]
        if step.task == "compress_dataset":
          continue
        flagfile, = (flag.split("=")[1] for flag in step.command if flag.startswith("--flagfile="))
        assert (programs.ROOT / flagfile).exists(), flagfile
      # Joint training of both operating points, with the controls of section 6.1.
      assert {"joint_bpp0.0983", "control_bpp0.635", "control_bpp0.0983_classification_longer",
              "joint_bpp0.635_segmentation", "control_bpp0.0983_segmentation"} <= set(names)
      # A step far down the line needs all before it.
      chosen = [step.name for step in reproduce.select(steps, "^control_bpp0.635_segmentation")]
      assert chosen == ["classification_cresnet51_bpp0.635", "control_bpp0.635", "control_bpp0.635_classification",
                        "control_bpp0.635_classification_longer", "control_bpp0.635_segmentation"]


def test_the_plan_of_the_paper(tmp_path):
  code, output = programs.finish(programs.start("reproduce", "--scale=paper", f"--results_dir={tmp_path}"))
  assert code == 0, output[-3000:]
  commands = [line for line in output.splitlines() if line.startswith("python -m experiments.")]
  assert not any("_small" in line for line in commands)
  for program in ("classification", "segmentation"):  # the rows of Table 2, and the controls of section 6.1
    rows = [line for line in commands if f"train_{program}" in line]
    assert len(rows) == 12 + 4
  assert sum("train_joint" in line for line in commands) == 4
  code, output = programs.finish(programs.start("reproduce", "--plan", f"--results_dir={tmp_path}", "--images=SET",
                                                "--only=classification_cresnet51"))
  assert code == 0 and "left: 5 of 5 steps" in output, output[-3000:]


def test_the_paper_has_a_row_for_every_step():
  rows = {(f"{row.split('_')[1]}" if "bpp" in row else None, row.split("_")[0]) for row in reproduce.ROWS}
  paper_rows = {(point, network.lower().replace("-", "")) for point, network in paper.TABLE_2}
  assert rows == paper_rows


def _record(folder, task, row, network, point, figures, end=2):
  unit = {"classification": "epoch", "segmentation": "step"}[task]
  record = {"name": f"{task}_{row}", "operating_point": point, "fingerprint": None, "seconds": 120,
            "multiply_adds": 71_000_000, "settings": {"network": network, f"{unit}s": 2},
            "history": [{unit: i + 1, **{name: value * (i + 1) / 2 for name, value in figures.items()}} for i in range(end)]}
  (folder / f"{task}_{row}.json").write_text(json.dumps(record))


@pytest.fixture(name="recorded")
def fixture_recorded(tmp_path):
  runs = tmp_path / "runs"
  runs.mkdir()
  for point in (None, "bpp0.0983", "bpp0.635"):
    _record(runs, "classification", f"resnet50_{point or 'original'}", "ResNet-50", point, {"top_1": 0.71, "top_5": 0.9})
  for number, top_1 in enumerate((0.7, 0.72)):
    _record(runs, "classification", f"cresnet51_bpp0.0983_seed{number}", "cResNet-51", "bpp0.0983",
            {"top_1": top_1, "top_5": 0.9})
  _record(runs, "segmentation", "cresnet51_bpp0.0983", "cResNet-51", "bpp0.0983",
          {"mean_iou": 0.25, "well_covered_mean_iou": 0.5})
  page = tmp_path / "page.md"
  page.write_text("before\n<!-- table 2 -->\nold\n<!-- end of table 2 -->\nafter\n<!-- tables 1 and 3 -->\n"
                  "<!-- end of tables 1 and 3 -->\n<!-- storage -->\n<!-- end of storage -->\n")
  (runs / "storage_bpp0.635.json").write_text(json.dumps(
      {"operating_point": "bpp0.635", "bitstream_bytes": 4_000_000, "source_bytes": 50_000_000, "symbol_bytes": 80_000_000}))
  (runs / "runtime_classification.json").write_text(json.dumps(
      {"task": "classification", "machine": "a machine", "rows": [
          {"way": "(a)", "pixels": 224, "batch": 1, "milliseconds": 30.0, "milliseconds_reading": 2.0}]}))
  return tmp_path


def _make_figures(folder):
  return programs.start("make_figures", f"--results_dir={folder}/runs", f"--output_dir={folder}/pictures",
                        f"--page={folder}/page.md")


def test_table_and_figures_come_from_the_records(recorded):
  code, output = programs.finish(_make_figures(recorded))
  assert code == 0, output[-3000:]
  page = (recorded / "page.md").read_text()
  before, *table, after = page[:page.index("<!-- tables 1")].splitlines()
  assert (before, after) == ("before", "after") and "old" not in table
  assert "| bpp0.635 | 4.00 | 1/12.5 of 50.0 MB | 80.0 | 24.8 of 144 GB |" in page
  assert "| ResNet-50 | yes | 3 | 4 | 6 | 3 | 3.858 | 3.86 |" in page  # Tables 1 and 3
  assert len(table) == 2 + 2 + 4
  row, = (line for line in table if "cResNet-51" in line)
  cells = [cell.strip() for cell in row.strip("|").split("|")]
  assert cells == ["0.0983", "cResNet-51", "71.0 (70.0, 72.0)", "55.2", "90.0 (90.0, 90.0)", "78.2", "50.0", "25.0", "54.6",
                   "0.071", "2 + 2"]
  assert all(line.count("|") == 12 for line in table[1:-1])
  pictures = {path.name: path.read_bytes() for path in (recorded / "pictures").iterdir()}
  assert sorted(pictures) == ["figure_12.png", "figure_3.png", "figure_4.png", "figure_6.png"]
  assert programs.finish(_make_figures(recorded))[0] == 0
  assert all((recorded / "pictures" / name).read_bytes() == data for name, data in pictures.items())


def test_a_half_written_record_is_named(recorded):
  _record(recorded / "runs", "classification", "cresnet39_bpp0.0983", "cResNet-39", "bpp0.0983", {"top_1": 0.5}, end=1)
  line, output = programs.error(_make_figures(recorded))
  assert "classification_cresnet39_bpp0.0983.json (epoch 1 of 2" in line and "Traceback" not in output
  assert "old" in (recorded / "page.md").read_text()


def test_no_records_no_figures(tmp_path):
  line, _ = programs.error(_make_figures(tmp_path))
  assert "where there are none" in line
