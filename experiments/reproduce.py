"""Runs the paper's experiments in the order in which they rest on each other, and records what they reach.

  python -m experiments.reproduce --scale=small --images=FOLDER --work_dir=WORK
  python -m experiments.reproduce --scale=paper

At small scale, FOLDER is a classification set of 128x128 images (split/class/*.jpg with the splits train and val), and
every row of Table 2 is trained with its small flagfile. What is recorded in --results_dir is skipped, what was
stopped goes on; before anything starts, the plan says what is left, and how long it took where that is known. At the
paper's scale the plan is printed, with the commands; it is not run.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time

from absl import flags
from absl import logging

import deepcomp_tf as dc
from deepcomp_tf.data import compressed
from deepcomp_tf.training import loop

FLAGS = flags.FLAGS
flags.DEFINE_enum("scale", "small", ["small", "paper"], "Which flagfiles.")
flags.DEFINE_string("images", None, "Folder of 128x128 images, for the small scale.")
flags.DEFINE_string("work_dir", None, "Folder for compressed sets and runs, which is not needed after all is recorded.")
flags.DEFINE_string("results_dir", "docs/results/runs", "Folder of the records, one JSON file a run.")
flags.DEFINE_string("only", "", "Regular expression of the names of the steps to run; empty: all.")
flags.DEFINE_bool("plan", False, "Print the plan and stop.")
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the classifiers.")

# The rows of Table 2. Those that the paper's claim rests on have a second seed at small scale.
ROWS = ("resnet50_original",
        "resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635",
        "cresnet39_bpp0.0983", "resnet71_bpp0.0983", "cresnet72_bpp0.0983", "cresnet39_bpp0.635",
        "resnet50_bpp0.330", "cresnet51_bpp0.330", "cresnet39_bpp0.330")
SECOND_SEED = ("resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635")


class Step:
  """One program to run: its name, its command, and the operating point that it rests on, if any."""

  def __init__(self, name, program, *arguments, point=None):
    self.name, self.point = name, point
    self.command = ["-m", f"experiments.{program}", *arguments]
    self.fingerprint = point and dc.operating_points.fingerprint(point).hex()

  @property
  def run_dir(self):
    return os.path.join(FLAGS.work_dir or "WORK", "runs", self.name)

  @property
  def record_path(self):
    return os.path.join(FLAGS.results_dir, f"{self.name}.json")

  def record(self):
    """What was recorded of this step on the same operating point, or None."""
    if not os.path.exists(self.record_path):
      return None
    with open(self.record_path) as file:
      record = json.load(file)
    return record if record.get("fingerprint") == self.fingerprint else None


def main(argv):
  del argv
  if FLAGS.scale == "small" and not FLAGS.plan:
    if not FLAGS.work_dir or not FLAGS.images:
      raise dc.DeepcompError("--scale=small needs --images and --work_dir")
    if not all(os.path.isdir(os.path.join(FLAGS.images, split)) for split in ("train", "val")):
      raise dc.DeepcompError(f"expected a folder with train/ and val/. Received: --images={FLAGS.images}")
  steps = [step for step in plan() if re.search(FLAGS.only, step.name)]
  if not steps:
    raise dc.DeepcompError(f"--only matches none of the steps. Received: {FLAGS.only}")
  print_plan(steps)
  if FLAGS.plan or FLAGS.scale == "paper":
    return
  left = [step for step in steps if not step.record()]
  for number, step in enumerate(left, start=1):
    logging.info("%d of %d: %s", number, len(left), step.name)
    compress_for(step)
    run(step)


def plan():
  """The steps, in order."""
  small = FLAGS.scale == "small"
  for seed in (0, 1) if small else (0,):
    for row in ROWS if seed == 0 else SECOND_SEED:
      flagfile = f"flags/classification/{row}{'_small' if small else ''}.flags"
      point = row.split("_")[1] if "bpp" in row else None
      name = f"classification_{row}" + (f"_seed{seed}" if seed else "")
      arguments = [f"--flagfile={flagfile}", f"--seed={seed}"]
      if small and point:
        arguments += [f"--dataset={set_of(point)}", f"--data_dir={sets_dir()}"]
      elif small:
        arguments += [f"--dataset={FLAGS.images or 'FOLDER'}"]
      step = Step(name, "train_classification", *arguments, point=point)
      step.command.append(f"--run_dir={step.run_dir}")
      if FLAGS.data_note:
        step.command.append(f"--data_note={FLAGS.data_note}")
      yield step


def sets_dir():
  return os.path.join(FLAGS.work_dir or "WORK", "sets")


def set_of(point):
  """TFDS name of the images compressed at an operating point."""
  source = os.path.basename(os.path.normpath(FLAGS.images or "FOLDER"))
  return f"compressed_classification/{compressed.config_name(source, point)}"


def print_plan(steps):
  seconds, unknown = 0, 0
  for step in steps:
    record = step.record()
    if FLAGS.scale == "paper":
      print(f"python {shlex.join(step.command)}")
    elif record:
      print(f"done  {step.name}: {record['seconds'] / 60:.0f} min, {record['date']}")
    else:
      known = os.path.exists(step.record_path)
      if known:
        with open(step.record_path) as file:
          seconds += json.load(file)["seconds"]
      unknown += not known
      print(f"left  {step.name}{' (recorded on an earlier operating point)' if known else ''}")
  if FLAGS.scale == "small":
    print(f"left: {sum(not step.record() for step in steps)} of {len(steps)} steps; {seconds / 60:.0f} min for those that "
          f"ran before{f', {unknown} never ran' if unknown else ''}")


def compress_for(step):
  """Compresses the images at a step's operating point, unless they are there."""
  sets = [argument.rsplit("-", 1)[1] for argument in step.command if argument.startswith("--dataset=compressed_")]
  for point in sets:
    execute(["-m", "experiments.compress_dataset", f"--dataset={FLAGS.images}", "--splits=train,val",
             f"--operating_point={point}", f"--output_dir={sets_dir()}"])


def run(step):
  begin = time.time()
  execute(step.command)
  lines = {}
  with open(os.path.join(step.run_dir, "history.jsonl")) as file:
    for line in map(json.loads, file):
      lines[line["epoch"]] = line
  with open(os.path.join(step.run_dir, "settings.json")) as file:
    settings = json.load(file)
  classifier = dc.Classifier.load(os.path.join(step.run_dir, "classifier"))
  edge = settings["crop_size"] // classifier.inputs.stride
  os.makedirs(FLAGS.results_dir, exist_ok=True)
  loop.write_json(step.record_path, {
      "name": step.name, "operating_point": step.point, "fingerprint": step.fingerprint, "settings": settings,
      "history": [lines[epoch] for epoch in sorted(lines)], "seconds": classifier.info["trained"]["seconds"],
      "multiply_adds": dc.evaluation.multiply_adds(classifier.network, (edge, edge, classifier.inputs.channels)),
      "date": time.strftime("%Y-%m-%d"), "cpu_cores": os.cpu_count()})
  logging.info("%s: recorded after %.0f min", step.name, (time.time() - begin) / 60)


def execute(command):
  """Runs a program of this repository; its output goes where ours does."""
  code = subprocess.run([sys.executable, *command], check=False).returncode
  if code:
    raise dc.DeepcompError(f"python {shlex.join(command)} ended with exit code {code}")


if __name__ == "__main__":
  loop.main(main)
