"""Runs the paper's experiments in the order in which they rest on each other, and records what they reach.

  python -m experiments.reproduce --scale=small --images=FOLDER --masks=FOLDER --photos=FOLDER --test_photos=FOLDER \
      --work_dir=WORK
  python -m experiments.reproduce --scale=paper

At small scale, --images is a classification set of 128x128 images (split/class/*.jpg with the splits train and val),
--masks a segmentation set (images/SPLIT/*.jpg and masks/SPLIT/*.png), --photos a folder of larger photos for the coder's
tables of the operating points that joint training ends in, --test_photos those that rate and distortion are reported on.
Every experiment runs with its small flagfile, on the shipped operating points. What is recorded in --results_dir is
skipped, what was stopped goes on; before anything starts, the plan says what is left, and how long it took where that is
known. At the paper's scale the plan, which begins with the operating points, is printed as commands; it is not run.
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
from deepcomp_tf import files
from deepcomp_tf.codec import operating_point
from deepcomp_tf import samples
from deepcomp_tf.data import compressed
from deepcomp_tf.evaluation import segmentation
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training.software import differences
from deepcomp_tf.training.software import software
from experiments import records  # pylint: disable=unused-import  # defines --results_dir

FLAGS = flags.FLAGS
flags.DEFINE_enum("scale", "small", ["small", "paper"], "Which flagfiles.")
flags.DEFINE_string("images", None, "Folder of 128x128 images, for the small scale.")
flags.DEFINE_string("masks", None, "Folder of a segmentation set, for the small scale.")
flags.DEFINE_string("photos", None, "Folder of photos for the coder's tables, for the small scale.")
flags.DEFINE_string("test_photos", None, "Folder of photos to report rate and distortion on, Kodak's for example.")
flags.DEFINE_string("work_dir", None, "Folder for compressed sets and runs, which is not needed after all is recorded.")
flags.DEFINE_string("only", "", "Regular expression of the names of the steps to run; empty: all.")
flags.DEFINE_bool("plan", False, "Print the plan and stop.")
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the classifiers.")

# The rows of Table 2. Those that the paper's claim rests on have a second seed at small scale.
ROWS = ("resnet50_original",
        "resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635",
        "cresnet39_bpp0.0983", "resnet71_bpp0.0983", "cresnet72_bpp0.0983", "cresnet39_bpp0.635",
        "resnet50_bpp0.330", "cresnet51_bpp0.330", "cresnet39_bpp0.330")
SECOND_SEED = ("resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635")
# Section 6: operating points, and those that are trained on with a second seed at small scale.
JOINT = ("bpp0.0983", "bpp0.635")
JOINT_SECOND_SEED = ("bpp0.0983",)
# The sample photos that are segmented for the record, in VOC's scale: their longer side in pixels.
SEGMENTED, LONGER_SIDE = ("chelsea", "astronaut"), 256


class Step:
  """One program to run.

  Args:
    name: of its record.
    program: of `experiments`, or the command's "evaluate".
    *arguments: its flags, without the folder of the run.
    point: the operating point that it rests on, if any.
    needs: the step whose network it starts from, if any.
  """

  def __init__(self, name, program, *arguments, point=None, needs=None):
    self.name, self.task, self.point, self.needs = name, program.removeprefix("train_"), point, needs
    self.command = [*(["-m", "deepcomp_tf.cli", program, "--overwrite"] if program == "evaluate" else
                      ["-m", f"experiments.{program}"]), *arguments]
    if program != "compress_dataset":
      self.command.append(f"--{'output' if program == 'evaluate' else 'run'}_dir={self.run_dir}")
    self.fingerprint = point and operating_point.fingerprint(point).hex()
    self.wanted = False  # by another step that is left

  @property
  def run_dir(self):
    return os.path.join(FLAGS.work_dir or "WORK", "runs", self.name)

  @property
  def network_dir(self):
    """Where the trained network lies."""
    return os.path.join(self.run_dir, "segmenter" if self.task == "segmentation" else "classifier")

  @property
  def point_dir(self):
    """Where the operating point lies that joint training ends in."""
    return os.path.join(self.run_dir, "operating_point")

  @property
  def record_path(self):
    return os.path.join(FLAGS.results_dir, f"{self.name}.json")

  def record(self):
    """What was recorded of this step on the same operating point, or None."""
    if not files.exists(self.record_path):
      return None
    record = files.read_json(self.record_path)
    return record if record.get("fingerprint") == self.fingerprint else None

  def done(self):
    """Whether it is recorded, and its network there if a step that is left starts from it."""
    return self.record() is not None and (not self.wanted or files.isdir(self.network_dir))


def main(argv):
  del argv
  if FLAGS.scale == "small" and not FLAGS.plan and not FLAGS.work_dir:
    raise dc.DeepcompError("--scale=small needs --work_dir")
  steps = select(list(plan()), FLAGS.only)
  print_plan(steps)
  if FLAGS.plan or FLAGS.scale == "paper":
    return
  left = [step for step in steps if not step.done()]
  check_folders(left)
  for number, step in enumerate(left, start=1):
    logging.info("%d of %d: %s", number, len(left), step.name)
    compress_for(step)
    run(step)


def select(steps, pattern):
  """The steps whose names match, and those that they start from where these have to run again."""
  chosen = [step for step in steps if re.search(pattern, step.name)]
  if not chosen:
    raise dc.DeepcompError(f"--only matches none of the steps. Received: {pattern}")
  for step in reversed(steps):  # what a step needs comes before it
    if step.needs and not step.done() and (step in chosen or step.wanted):
      step.needs.wanted = True
  return [step for step in steps if step in chosen or not step.done() and step.wanted]


def check_folders(steps):
  """Whether the images that the steps need are there."""
  tasks = {step.task for step in steps}
  for flag, needed, folders in (("images", tasks & {"compress_dataset", "classification", "joint"}, ("train", "val")),
                                ("masks", "segmentation" in tasks, ("images", "masks")),
                                ("photos", "joint" in tasks, ("",)), ("test_photos", "evaluate" in tasks, ("",))):
    path = FLAGS[flag].value
    if needed and not (path and all(files.isdir(os.path.join(path, name)) for name in folders)):
      raise dc.DeepcompError(f"expected a folder{f' with {folders[0]}/ and {folders[1]}/' if folders[0] else ''}. Received: "
                             f"--{flag}={path}")


def plan():
  """The steps, in order."""
  small = FLAGS.scale == "small"
  sets = [f"--data_dir={sets_dir()}"] if small else []
  images = [f"--dataset={FLAGS.images or 'IMAGES'}"] if small else []
  masks = [f"--dataset={FLAGS.masks or 'MASKS'}", *sets] if small else []
  photos = [f"--images={FLAGS.photos or 'PHOTOS'}"] if small else []
  note = [f"--data_note={FLAGS.data_note}"] if FLAGS.data_note else []
  points, classifiers = {}, {}

  def compressed_images(point):
    return [f"--dataset={set_of(point)}", *sets] if small else []

  def measured(name, folder, seed=0, **of):
    return Step(named(f"{name}_rate_distortion", seed), "evaluate", f"--images={FLAGS.test_photos or 'TEST_PHOTOS'}",
                f"--operating_point={folder}", **of)

  for point in dc.operating_points.names():
    points[point] = point
    if not small:
      trained_point = Step(f"compression_{point}", "train_compression", flagfile("compression", point), point=point)
      points[point] = trained_point.point_dir
      yield trained_point
    yield measured(point, points[point], point=point)
    yield Step(f"storage_{point}", "compress_dataset", *compress_flags(points[point]), point=point)
  for seed in (0, 1) if small else (0,):
    for row in ROWS if seed == 0 else SECOND_SEED:
      point = row.split("_")[1] if "bpp" in row else None
      step = Step(named(f"classification_{row}", seed), "train_classification", flagfile("classification", row),
                  f"--seed={seed}", *(compressed_images(point) if point else images),
                  *([f"--operating_point={points[point]}"] if point and not small else []), *note, point=point)
      classifiers[row, seed] = step
      yield step
  for row in ROWS:
    start = classifiers[row, 0]
    yield Step(f"segmentation_{row}", "train_segmentation", flagfile("segmentation", row),
               f"--classifier={start.network_dir}", *masks, *note, point=start.point, needs=start)
  for point, seed in [(point, 0) for point in JOINT] + [(point, 1) for point in JOINT_SECOND_SEED if small]:
    row, alone = f"cresnet51_{point}", f"{point}_compression_only"
    start = classifiers[row, seed]
    seeded = [f"--seed={seed}", *note]
    both, fixed = (Step(named(name, seed), "train_joint", flagfile("joint", kind), f"--name={named(ends_in, seed)}",
                        f"--classifier={start.network_dir}", f"--operating_point={points[point]}", *images, *photos, *seeded,
                        point=point, needs=start)
                   for name, kind, ends_in in ((f"joint_{point}", point, f"{point}_joint"),
                                               (f"control_{point}", alone, alone)))
    on_fixed = [f"--operating_point={fixed.point_dir}", *compressed_images(named(alone, seed)), *seeded]
    scratch = Step(named(f"control_{point}_classification", seed), "train_classification", flagfile("classification", row),
                   *on_fixed, point=point, needs=fixed)
    longer = Step(named(f"control_{point}_classification_longer", seed), "train_classification",
                  flagfile("classification", row), flagfile("joint", "schedule"), f"--start={scratch.network_dir}", *on_fixed,
                  point=point, needs=scratch)
    yield from (both, fixed, scratch, longer)
    for name, step in ((f"joint_{point}", both), (f"control_{point}", fixed)):
      yield measured(name, step.point_dir, seed, point=point, needs=step)
    if seed == 0:  # as the rows of Table 2
      for name, before, folder in ((f"joint_{point}", both, both.point_dir), (f"control_{point}", longer, fixed.point_dir)):
        yield Step(f"{name}_segmentation", "train_segmentation", flagfile("segmentation", row),
                   f"--classifier={before.network_dir}", f"--operating_point={folder}", *masks, *note, point=point,
                   needs=before)


def named(name, seed):
  return name + (f"_seed{seed}" if seed else "")


def flagfile(task, row):
  return f"--flagfile=flags/{task}/{row}{'_small' if FLAGS.scale == 'small' else ''}.flags"


def sets_dir():
  return os.path.join(FLAGS.work_dir or "WORK", "sets")


def set_of(point):
  """TFDS name of the images compressed at an operating point."""
  source = os.path.basename(os.path.normpath(FLAGS.images or "IMAGES"))
  return f"compressed_classification/{compressed.config_name(source, point)}"


def print_plan(steps):
  seconds, unknown, now = 0, 0, software()
  for step in steps:
    if FLAGS.scale == "paper":
      print(f"python {shlex.join(step.command)}")
    elif step.done():
      record = step.record()
      changed = differences(record["software"][-1], now) if "software" in record else "its record does not tell its software"
      print(f"done  {step.name}: {record['seconds'] / 60:.0f} min, {record['date']}{f' ({changed})' if changed else ''}")
    else:
      known = files.exists(step.record_path)
      if known:
        seconds += files.read_json(step.record_path)["seconds"]
      unknown += not known
      why = "recorded, but its network is not in --work_dir" if step.record() else "recorded on an earlier operating point"
      print(f"left  {step.name}{f' ({why})' if known else ''}")
  if FLAGS.scale == "small":
    print(f"left: {sum(not step.done() for step in steps)} of {len(steps)} steps; {seconds / 60:.0f} min for those that "
          f"ran before{f', {unknown} never ran' if unknown else ''}")


def compress_for(step):
  """Compresses the images at the operating point of a step that reads compressed ones, unless they are there."""
  for argument in step.command:
    if argument.startswith("--dataset=compressed_"):
      given = [flag.split("=", 1)[1] for flag in step.command if flag.startswith("--operating_point=")]
      point = given[0] if given else step.point
      execute(["-m", "experiments.compress_dataset", *compress_flags(point)])


def compress_flags(point):
  """Flags of compress_dataset for the classification set at an operating point."""
  images = ([f"--dataset={FLAGS.images or 'IMAGES'}", "--splits=train,val"] if FLAGS.scale == "small" else
            ["--dataset=imagenet2012", "--splits=train,validation", "--shorter_side=256"])
  return [*images, f"--operating_point={point}", f"--output_dir={sets_dir()}"]


def run(step):
  """Runs a step and records it."""
  begin = time.time()
  files.makedirs(FLAGS.results_dir)
  if step.task == "evaluate":
    files.makedirs(step.run_dir)
  execute(step.command)
  record = {"name": step.name, "operating_point": step.point, "fingerprint": step.fingerprint,
            "date": time.strftime("%Y-%m-%d"), "software": [software()], "seconds": round(time.time() - begin)}
  record.update({"compress_dataset": storage, "evaluate": rate_distortion}.get(step.task, trained)(step))
  files.write_json(step.record_path, record, sort_keys=True)
  logging.info("%s: recorded after %.0f min", step.name, record["seconds"] / 60)


def storage(step):
  """What `compress_dataset` says of the set that it wrote."""
  pattern = os.path.join(sets_dir(), f"{set_of(step.point)}", "*", "storage.json")
  paths = files.glob(pattern)
  if not paths:
    raise dc.DeepcompError(f"expected {pattern}; remove the set, which is of an earlier version")
  return files.read_json(paths[-1])


def rate_distortion(step):
  """Keeps the figures of every photo beside the record."""
  files.write_file(beside(step, ".csv"), files.read(os.path.join(step.run_dir, "rate_distortion.csv")), overwrite=True)
  return {"photos": os.path.basename(os.path.normpath(FLAGS.test_photos))}


def beside(step, ending):
  """A file that belongs to a record."""
  return step.record_path.removesuffix(".json") + ending


def segment_samples(step, segmenter):
  """Keeps masks of sample photos beside the record."""
  for name in SEGMENTED:
    photo = samples.photos(LONGER_SIDE)[name]
    codec = segmenter.codec
    classes = segmenter.segment(codec.compress(photo)) if codec else segmenter.predict(photo, *photo.shape[:2])
    mask = segmentation.encode_mask(segmenter.mask_ids[classes], segmenter.classes)
    files.write_file(beside(step, f"_{name}.png"), mask, overwrite=True)


def trained(step):
  """What a training program wrote down of its run."""
  unit = "step" if step.task == "segmentation" else "epoch"
  lines = {}
  for line in map(json.loads, files.read(os.path.join(step.run_dir, "history.jsonl")).decode().splitlines()):
    lines[line[unit]] = line
  settings = files.read_json(os.path.join(step.run_dir, "settings.json"))
  network = (dc.Segmenter if step.task == "segmentation" else dc.Classifier).load(step.network_dir)
  if step.task == "segmentation":
    segment_samples(step, network)
  edge = settings["crop_size"] // network.inputs.stride
  return {"settings": settings, "history": [lines[number] for number in sorted(lines)],
          "software": files.read_json(os.path.join(step.run_dir, "software.json")),
          "seconds": network.info["trained"]["seconds"],
          "multiply_adds": dc.evaluation.multiply_adds(network.network, (edge, edge, network.inputs.channels))}


def execute(command):
  """Runs a program of this repository; its output goes where ours does."""
  code = subprocess.run([sys.executable, *command], check=False).returncode
  if code:
    raise dc.DeepcompError(f"python {shlex.join(command)} ended with exit code {code}")


if __name__ == "__main__":
  training_flags.main(main)
