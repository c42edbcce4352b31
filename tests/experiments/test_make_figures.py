"""`make_figures` writes down what `reproduce` recorded."""

import json
import shutil

from absl import flags
from absl.testing import flagsaver
import matplotlib.figure
import numpy as np
import programs
import pytest

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec import operating_point
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.files import write_file
from experiments import cost_curves
from experiments import paper_figures
from experiments import paper_tables
from experiments import records


def _record(folder, task, row, network, point, figures, end=2):
  unit = {"classification": "epoch", "segmentation": "step"}[task]
  record = {"name": f"{task}_{row}", "operating_point": point,
            "fingerprint": point and operating_point.fingerprint(point).hex(), "seconds": 120,
            "multiply_adds": 71_000_000, "settings": {"network": network, f"{unit}s": 2},
            "history": [{unit: i + 1, **{name: value * (i + 1) / 2 for name, value in figures.items()}} for i in range(end)]}
  if task == "segmentation":  # of a set with as many classes, and with as many that are covered well
    record["well_covered"], record["history"][-1]["iou"] = 5, [0.0] * 19
  (folder / f"{task}_{row}.json").write_text(json.dumps(record))


@pytest.fixture(name="recorded")
def fixture_recorded(tmp_path):
  runs = tmp_path / "runs"
  runs.mkdir()
  for point in (None, "bpp0.0983", "bpp0.635"):
    _record(runs, "classification", f"resnet50_{point or 'original'}", "ResNet-50", point,
            {"top_1": 0.71, "top_5": 0.9, "examples": 100})
  for number, top_1 in enumerate((0.7, 0.72)):
    _record(runs, "classification", f"cresnet51_bpp0.0983{'_seed1' * number}", "cResNet-51", "bpp0.0983",
            {"top_1": top_1, "top_5": 0.9, "examples": 100})
  _record(runs, "segmentation", "cresnet51_bpp0.0983", "cResNet-51", "bpp0.0983",
          {"mean_iou": 0.25, "well_covered_mean_iou": 0.5, "mean_iou_error": 0.01, "well_covered_mean_iou_error": 0.02})
  page = tmp_path / "page.md"
  page.write_text("before\n<!-- table 2 -->\nold\n<!-- end of table 2 -->\nafter\n<!-- tables 1 and 3 -->\n"
                  "<!-- end of tables 1 and 3 -->\n<!-- table 3 -->\n<!-- end of table 3 -->\n"
                  "<!-- cost at equal accuracy -->\n<!-- end of cost at equal accuracy -->\n"
                  "<!-- storage -->\n<!-- end of storage -->\n"
                  "<!-- rate and distortion -->\n<!-- end of rate and distortion -->\n"
                  "<!-- the paper's setting -->\n<!-- end of the paper's setting -->\n"
                  "<!-- joint training -->\n<!-- end of joint training -->\n"
                  "<!-- joint training as computation -->\n<!-- end of joint training as computation -->\n")
  # Section 6 at 0.0983 bits per pixel: what was fixed, joint training, and Figure 8's files.
  _record(runs, "classification", "joint", "cResNet-51", "bpp0.0983",
          {"top_1": 0.75, "top_5": 0.9, "examples": 100})
  (runs / "classification_joint.json").rename(runs / "joint_bpp0.0983.json")
  for name, seed, ssim in (("bpp0.0983", "", 0.6), ("paper_setting_bpp0.0983", "", 0.5),
                           ("joint_bpp0.0983", "", 0.7), ("joint_bpp0.0983", "_seed1", 0.72)):
    rows = [{**dict.fromkeys(rate_distortion.COLUMNS, 0.1), "image": f"{i}.png", "setting": "", "operating_point": "bpp0.0983",
             "codec": codec, "bytes": 100, "psnr": 25.0 + i, "ssim": ssim}
            for i in range(2) for codec in ("deepcomp", "jpeg2000")]
    (runs / f"{name}_rate_distortion{seed}.csv").write_text(rate_distortion.to_csv(rows))
    (runs / f"{name}_rate_distortion{seed}.json").write_text(json.dumps({"photos": "kodak"}))
  (runs / "paper_setting_bpp0.0983.json").write_text(json.dumps(
      {"operating_point_info": {"trained": {"steps": 1200, "settings": {"steps": 3600}}}}))
  points = [f"{network}_{point}" for network in ("resnet50", "cresnet51") for point in dc.operating_points.names()]
  for row in ("resnet50_original", *points):
    mask = np.zeros(samples.photos(64)["chelsea"].shape[:2], np.uint8)
    write_file(runs / f"segmentation_{row}_chelsea.png", mask_classes.encode_mask(mask, mask_classes.VOC))
  (runs / "storage_bpp0.635.json").write_text(json.dumps(
      {"operating_point": "bpp0.635", "bitstream_bytes": 4_000_000, "source_bytes": 50_000_000, "symbol_bytes": 80_000_000}))
  (runs / "runtime_classification.json").write_text(json.dumps(
      {"task": "classification", "machine": "a machine", "operating_point": "bpp0.0983", "rows": [
          {"way": "(a) bitstream -> cResNet-51", "pixels": 224, "batch": 1, "milliseconds": 30.0, "milliseconds_reading": 2.0}]}))
  return tmp_path


def _flags(folder):
  return {"results_dir": folder / "runs", "output_dir": folder / "pictures", "page": folder / "page.md"}


def _start(folder):
  return programs.start("make_figures", *(f"--{name}={value}" for name, value in _flags(folder).items()))


@pytest.mark.slow
def test_table_and_figures_come_from_the_records(recorded, make_figures):
  make_figures(**_flags(recorded))
  page = (recorded / "page.md").read_text()
  before, *table, after = page[:page.index("<!-- tables 1")].splitlines()
  assert (before, after) == ("before", "after") and "old" not in table
  # 80 MB of 32 symbols for each 8x8 pixels are 160 M pixels.
  assert "| bpp0.635 | 4.00 | 0.20 | 1/12.5 of 50.0 MB | 2.50 | 80.0 | 1/5.8 |" in page
  assert "| ResNet-50 | yes | 3 | 4 | 6 | 3 | 3.858 | 3.86 |" in page  # Tables 1 and 3
  assert ("| conv4_x | 14x14 | (1x1, 256; 3x3, 256; 1x1, 1024) x 13 | (1x1, 256; 3x3, 256; 1x1, 1024) x 6 | "
          "(1x1, 256; 3x3, 256; 1x1, 1024) x 17 |") in page  # Table 3
  assert len(table) == 2 + 2 + 4
  row, = (line for line in table if "cResNet-51" in line)
  cells = [cell.strip() for cell in row.strip("|").split("|")]
  assert "| mIoU of 5 ours | mIoU of 19 ours | mIoU of 21 paper |" in table[1]
  assert cells == ["0.0983", "0.100", "0.100", "cResNet-51", "71.0 (70.0, 72.0) ± 3.2", "55.2", "90.0 (90.0, 90.0)", "78.2",
                   "50.0 ± 2.0", "25.0 ± 1.0", "54.6", "0.071", "2 + 2"]
  assert all(line.count("|") == 14 for line in table[1:-1])
  pictures = {path.name: path.read_bytes() for path in (recorded / "pictures").iterdir()}
  assert sorted(pictures) == sorted(f"figure_{number}.png" for number in (1, 3, 4, 5, 6, 7, 8, 9, 11, 12))
  # Figure 10 has no masks, so it is left out.
  assert "| bpp0.0983 | **deepcomp_tf** | 0.1000 | 25.50 | 0.6000 | 0.1000 |" in page
  assert ("| bpp0.0983 | the paper's setting, 1,200 of 3,600 steps | 0.1000 | 0.1000 | 25.50 | 0.5000 | 0.1000 |\n"
          "| bpp0.0983 | shipped | 0.1000 | 0.1000 | 25.50 | 0.6000 | 0.1000 |\n<!-- end" in page)
  assert ("| bpp0.0983 | joint | 0.1000 (0.1000, 0.1000) | 25.50 (25.50, 25.50) | 0.7100 (0.7000, 0.7200) | "
          "0.1000 (0.1000, 0.1000) | 75.0 ± 4.3 | 90.0 |  |  |") in page
  assert "| bpp0.0983 | fixed | 0.1000 | 25.50 | 0.6000 | 0.1000 | 71.0 (70.0, 72.0) ± 3.2 |" in page
  # The same pictures again, but where another accuracy stands.
  for seed in ("", "_seed1"):
    _record(recorded / "runs", "classification", f"cresnet51_bpp0.0983{seed}", "cResNet-51", "bpp0.0983",
            {"top_1": 0.7, "top_5": 0.8, "examples": 100})
  make_figures(**_flags(recorded))
  changed = [name for name, data in pictures.items() if (recorded / "pictures" / name).read_bytes() != data]
  assert sorted(changed) == ["figure_12.png", "figure_3.png", "figure_6.png", "figure_7.png"]


@pytest.mark.slow
def test_cost_at_equal_accuracy_is_the_papers(paper_networks):
  """What sections 4.5 and 5.4 say of Table 2 follows from it; and a case by hand."""
  assert cost_curves.mean_difference([(0, 1), (2, 5)], [(1, 1), (3, 2), (4, 9)]) == pytest.approx(2.75)
  panels = {panel.title.split()[0]: panel for panel in cost_curves.panels_of_figure_6(
      {}, {}, paper_networks, dc.Codec.load("bpp0.0983"))}
  lines = cost_curves.equal_cost_table([panels["top-5"]])
  ours, theirs, said = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:])
  assert ours[1:] == ["-"] + 2 * ["no accuracy that both have"]
  for found, expected, tolerance in zip(theirs[1:], said[1:], (0.05, 0.1, 0.15)):
    assert float(found) == pytest.approx(float(expected), abs=tolerance)


def test_joint_training_is_compared_at_its_controls_rate(recorded):
  """Section 6 and appendix A.7, by hand: where the operating points gain 4 dB for twice the rate, half of that is 2 dB."""
  for name, rate, psnr in (("bpp0.0983", 0.2, 26.0), ("bpp0.330", 0.4, 30.0), ("joint_bpp0.0983", 0.2, 25.0),
                           ("control_bpp0.0983", 0.2 * 2 ** 0.5, 26.5)):
    row = {**dict.fromkeys(rate_distortion.COLUMNS, 0.5), "image": "1.png", "setting": "", "operating_point": name,
           "codec": "deepcomp", "bits_per_pixel": rate, "psnr": psnr, "ssim": psnr / 100}
    (recorded / "runs" / f"{name}_rate_distortion.csv").write_text(rate_distortion.to_csv([row]))
    (recorded / "runs" / f"{name}_rate_distortion.json").write_text(json.dumps({"photos": "kodak"}))
    (recorded / "runs" / f"{name}_rate_distortion_seed1.json").unlink(missing_ok=True)
  for name in ("fixed_bpp0.0983", "control_bpp0.0983_classification_longer"):
    shutil.copy(recorded / "runs/joint_bpp0.0983.json", recorded / f"runs/{name}.json")
  shutil.copy(recorded / "runs/segmentation_cresnet51_bpp0.0983.json", recorded / "runs/joint_bpp0.0983_segmentation.json")
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(results_dir=str(recorded / "runs")):
    stages = records.read_stages("bpp0.0983")
    assert list(stages) == ["fixed", "compression only", "joint"]
    moved = records.joint_at_the_controls_rate(stages, "bpp0.0983")
    assert moved == pytest.approx({"bits_per_pixel": 0.2 * 2 ** 0.5, "psnr": 27.0, "ssim": 0.27, "ms_ssim": 0.5}, rel=1e-5)
    lines = paper_tables.joint_table({("bpp0.0983", records.SHIPPED): stages})
    assert lines[-1].startswith("| bpp0.0983 | joint, at the control's rate | 0.2828 | 27.00 | 0.2700 | 0.5000 |")
    assert records.joint_at_the_controls_rate({"joint": stages["joint"]}, "bpp0.0983") is None
    # Accuracy moves from what is fixed to joint training; of masks one stage alone is recorded, which moves nowhere.
    assert [len(runs["segmentation"]) for _, runs in stages.values()] == [0, 0, 1]
    accuracy, masks = paper_figures.figure_7({("bpp0.0983", records.SHIPPED): stages}).axes
    assert accuracy.axison and not masks.axison


@pytest.mark.slow
def test_arrows_begin_at_what_is_fixed():
  """Where that was not measured, there are none: an arrow from the control to joint training would say that one came of the other."""
  stages = [("fixed", (0.1, 70.0), None), ("compression only", (0.2, 71.0), None), ("joint", (0.3, 72.0), None)]
  for given, arrows in ((stages, 2), (stages[1:], 0)):
    axis = matplotlib.figure.Figure().subplots()
    paper_figures.moves(axis, given)
    assert [arrow.xyann for arrow in axis.texts] == [stages[0][1]] * arrows


def test_what_joint_training_gains_as_computation(paper_networks):
  """Section 6.2: the mIoU's share follows from Table 2, as the line through cResNet-51-d and cResNet-72-d has it."""
  panels = list(cost_curves.panels_of_figure_6({}, {("bpp0.0983", "cResNet-51"): [
      {"history": [{"mean_iou": 0.5, "mean_iou_error": 0.01, "iou": [0.5] * 19}],
       "multiply_adds": 20_000_000_000, "settings": {}}]},
      paper_networks, dc.Codec.load("bpp0.0983")))
  lines = {line.split(" | ")[0].strip("| "): line for line in cost_curves.worth_table(panels, {})}
  assert lines["mIoU of 21 classes, the paper's Table 2"].endswith("| 1.7 | 39 % |")
  assert lines["segmentation, the paper's text"].endswith("| 1.7 | 40 % |")
  assert cost_curves.more_cost({"cResNet-51": (4.0, 70.0), "cResNet-72": (5.0, 71.0)}, 2.0) == 0.5
  assert cost_curves.more_cost({"cResNet-51": (4.0, 70.0), "cResNet-72": (5.0, 69.0)}, 2.0) is None


@pytest.mark.slow
def test_a_half_written_record_is_named(recorded):
  _record(recorded / "runs", "classification", "cresnet39_bpp0.0983", "cResNet-39", "bpp0.0983", {"top_1": 0.5}, end=1)
  line, output = programs.error(_start(recorded))
  assert "classification_cresnet39_bpp0.0983.json (epoch 1 of 2" in line and "Traceback" not in output
  assert "old" in (recorded / "page.md").read_text()


def test_a_record_of_an_earlier_operating_point_is_named(recorded):
  path = recorded / "runs/classification_resnet50_bpp0.635.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "000000"}))
  line, output = programs.error(_start(recorded))
  assert "classification_resnet50_bpp0.635.json (on bpp0.635 as it was before" in line and "Traceback" not in output


def test_no_records_no_figures(tmp_path):
  line, _ = programs.error(_start(tmp_path))
  assert "where there are none" in line
