"""The plan of the paper's experiments: its flagfiles, the rows of Table 2, and what it takes."""

import itertools
import re

from absl import flags
from absl.testing import flagsaver
import programs
import pytest

from experiments import paper
from experiments import paper_costs
from experiments import paper_plan
from experiments import paper_steps


def test_the_plan_names_files_that_exist(tmp_path):
  """At both scales: flagfiles, and flags that their programs have; a step comes after what it needs."""
  flags.FLAGS.mark_as_parsed()
  for scale in ("small", "paper"):
    with flagsaver.flagsaver(scale=scale, results_dir=str(tmp_path)):  # nothing is recorded
      steps = list(paper_plan.plan())
      names = [step.name for step in steps]
      assert len(set(names)) == len(names)
      for number, step in enumerate(steps):
        assert step.needs is None or step.needs in steps[:number]
        if step.task in ("compress_dataset", "evaluate"):
          continue
        flagfiles = [flag.split("=")[1] for flag in step.command if flag.startswith("--flagfile=")]
        assert flagfiles and all((programs.ROOT / name).exists() for name in flagfiles), flagfiles
      # Joint training of both operating points, with the controls of section 6.1.
      assert {"joint_bpp0.0983", "control_bpp0.635", "control_bpp0.0983_classification_longer",
              "joint_bpp0.635_segmentation", "control_bpp0.0983_segmentation"} <= set(names)
      # Every training of a step, and the operating point that it ends in, has its own name.
      for flag in ("--run_dir=", "--name="):
        given = [argument for step in steps for argument in step.command if argument.startswith(flag)]
        assert len(set(given)) == len(given)
      # A step far down the line needs all before it, at the paper's scale the operating point, too.
      chosen = [step.name for step in paper_steps.select(steps, "^control_bpp0.635_segmentation")]
      assert chosen == (["compression_bpp0.635", "classification_cresnet51_bpp0.635"]
                        if scale == "paper" else ["fixed_bpp0.635"]) + [
          "control_bpp0.635", "control_bpp0.635_classification", "control_bpp0.635_classification_longer",
          "control_bpp0.635_segmentation"]
      # Joint training, its start and its controls see the same crops of the same representations.
      for step in steps:
        if re.match("(joint|control|fixed)_bpp", step.name) and step.task in ("joint", "classification"):
          values = step.values
          assert (values["image_size"], values["crop_size"], values.get("crop", "representation")) == (
              ("128", "112", "representation") if scale == "small" else ("256", "224", "representation")), step.name


def test_the_rows_of_table_2():
  """Each has its network, input and operating point at both scales; where a row has flagfiles, they say the same."""
  flags.FLAGS.mark_as_parsed()
  for scale, ending, place in (("small", "_small", ""), ("paper", "", "results/operating_points/")):
    with flagsaver.flagsaver(scale=scale, results_dir="results"):
      steps = {step.name: step.values for step in paper_plan.plan()
               if step.task in ("classification", "segmentation")}
    for (point, name), task in itertools.product(paper.TABLE_2, ("classification", "segmentation")):
      row = f"{name.lower().replace('-', '')}_{point or 'original'}"
      values = steps[f"{task}_{row}"]
      assert (values["network"], values["input"], values.get("operating_point")) == (
          name, "representation" if name.startswith("c") else "decoded" if point else "original", point and place + point)
      path = programs.ROOT / f"flags/{task}/{row}{ending}.flags"
      if path.exists():
        given = flags.FlagValues().read_flags_from_files([f"--flagfile={path}"])
        expected = dict(flag.removeprefix("--").split("=", 1) for flag in given)
        settled = {"dataset", "operating_point"}  # where it is run
        assert {key: values[key] for key in expected if key not in settled} == {
            key: value for key, value in expected.items() if key not in settled}


@pytest.mark.slow
def test_what_the_paper_takes_is_reckoned_from_its_plan():
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(scale="paper"):
    steps = {step.name: step for step in paper_plan.plan()}
    counted = paper_costs.Counted()
    # 28 epochs of 1,281,167 images at 3.86 G, three times for a training step, and of 50,000 for validation.
    original = counted.costs(steps["classification_resnet50_original"])
    assert original[0] == original[1] == pytest.approx(28 * (3 * 1_281_167 + 50_000) * 3.86e9, rel=0.01)
    from_sets, from_pixels = counted.costs(steps["classification_cresnet51_bpp0.635"])
    assert from_sets == pytest.approx(28 * (3 * 1_281_167 + 50_000) * 3.83e9, rel=0.01)
    assert from_pixels - from_sets == pytest.approx(28 * 1_331_167 * 3.56e9 * (256 / 224) ** 2, rel=0.01)
    assert counted.costs(steps["compression_bpp0.635"])[0] == pytest.approx(600_000 * 30 * 3 * 2 * 3.557e9, rel=0.01)


def test_the_paper_has_a_row_for_every_step():
  rows = {(f"{row.split('_')[1]}" if "bpp" in row else None, row.split("_")[0]) for row in paper_plan.ROWS}
  paper_rows = {(point, network.lower().replace("-", "")) for point, network in paper.TABLE_2}
  assert rows == paper_rows
