"""The paper's experiments as steps: the programs to run, what each rests on, and where its results lie.

`experiments.reproduce` runs them, at either scale; its flags are here.
"""

import itertools
import os
import re

from absl import flags

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.codec import operating_point
from deepcomp_tf.data import compressed
from deepcomp_tf.data import sources
from experiments import records  # pylint: disable=unused-import  # defines --results_dir

FLAGS = flags.FLAGS
flags.DEFINE_enum("scale", "small", ["small", "paper"], "Which flagfiles.")
flags.DEFINE_string("images", None, "Folder of 128x128 images, for the small scale; TFDS set, for the paper's: imagenet2012 by "
                    "default.")
flags.DEFINE_string("masks", None, "Folder of a segmentation set, for the small scale; TFDS set, for the paper's: "
                    "voc_segmentation by default.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps these, for the paper's scale.")
flags.DEFINE_string("photos", None, "Folder of photos for compression and the coder's tables, for the small scale.")
flags.DEFINE_string("test_photos", None, "Folder of photos to report rate and distortion on, Kodak's for example.")
flags.DEFINE_string("work_dir", None, "Folder for compressed sets and runs, which is not needed after all is recorded.")
flags.DEFINE_string("only", "", "Regular expression of the names of the steps to run; empty: all.")
flags.DEFINE_bool("plan", False, "Print the plan and stop.")
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the classifiers.")
flags.DEFINE_list("training_flags", [], "Flags that all training programs get, such as --strategy=mirrored.")
flags.DEFINE_float("share", 1.0, "Of the training images of ImageNet, and of the steps of compression and segmentation, for the "
                   "paper's scale.", lower_bound=1e-6, upper_bound=1.0)

# The rows of Table 2. Those that the paper's claim rests on have a second seed at small scale.
ROWS = ("resnet50_original",
        "resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635",
        "cresnet39_bpp0.0983", "resnet71_bpp0.0983", "cresnet72_bpp0.0983", "cresnet39_bpp0.635",
        "resnet50_bpp0.330", "cresnet51_bpp0.330", "cresnet39_bpp0.330")
SECOND_SEED = ("resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635")
# Section 6: operating points, at small scale with two seeds each.
JOINT = ("bpp0.0983", "bpp0.635")


class Step:
  """One program to run.

  Args:
    name: of its record.
    program: of `experiments`, or the command's "evaluate".
    *arguments: its flags, without the folder of the run.
    point: the operating point that it rests on, or that it trains from nothing, if any.
    needs: the step whose network it starts from, if any.
    newest: whether a record on earlier networks of the operating point counts as none. What was trained on files or pixels of
      older ones is left as it is, unless it is compared with what these networks become (section 6).
  """

  def __init__(self, name, program, *arguments, point=None, needs=None, newest=False):
    self.name, self.task, self.point, self.needs = name, program.removeprefix("train_"), point, needs
    self.newest = newest or program == "evaluate"
    self.command = [*(["-m", "deepcomp_tf.cli", program, "--overwrite"] if program == "evaluate" else
                      ["-m", f"experiments.{program}"]), *arguments]
    if program != "compress_dataset":
      self.command.append(f"--{'output' if program == 'evaluate' else 'run'}_dir={self.run_dir}")
    if program.startswith("train_"):
      self.command += FLAGS.training_flags
    self.wanted = False  # by another step that is left

  @property
  def fingerprint(self):
    """Of its operating point as it is now; None where there is none, or it is not trained yet."""
    if self.point is None or FLAGS.scale == "paper" and not files.isdir(point_dir(self.point)):
      return None
    return operating_point.fingerprint(point_dir(self.point)).hex()

  @property
  def decoder_version(self):
    """Of its operating point's decoder as it is now; None where there is no fingerprint."""
    return self.fingerprint and operating_point.decoder_version(operating_point.read_info(point_dir(self.point)))

  @property
  def encoder_version(self):
    """Of its operating point's newest encoder, likewise."""
    return self.fingerprint and operating_point.newest_encoder(operating_point.read_info(point_dir(self.point)))

  @property
  def run_dir(self):
    return os.path.join(FLAGS.work_dir or "WORK", "runs", self.name)

  @property
  def network_dir(self):
    """Where the trained network lies."""
    return os.path.join(self.run_dir, "segmenter" if self.task == "segmentation" else "classifier")

  @property
  def point_dir(self):
    """Where the operating point lies that training ends in."""
    return os.path.join(self.run_dir, "operating_point")

  @property
  def result_dir(self):
    """Where what it trained lies when it is done."""
    if self.task == "compression":
      return point_dir(self.point) if self.point else self.point_dir
    return self.network_dir

  @property
  def record_path(self):
    return os.path.join(FLAGS.results_dir, f"{self.name}.json")

  def record(self):
    """What was recorded of this step at this scale, on the same operating point, or None."""
    if not files.exists(self.record_path):
      return None
    record = files.read_json(self.record_path)
    same = (record.get("fingerprint") == self.fingerprint and record.get("scale", "small") == FLAGS.scale
            and record.get("share", 1.0) == FLAGS.share)
    if self.newest and self.fingerprint:
      same = same and record.get("decoder_version", 1) == self.decoder_version
      same = same and record.get("encoder_version", 1) == self.encoder_version
    return record if same else None

  def done(self):
    """Whether it is recorded, and what it ends in there if a step that is left starts from that."""
    return self.record() is not None and (not self.wanted or files.isdir(self.result_dir))


def select(steps, pattern):
  """The steps whose names match, and those that they start from where these have to run again."""
  chosen = [step for step in steps if re.search(pattern, step.name)]
  if not chosen:
    raise dc.DeepcompError(f"--only matches none of the steps. Received: {pattern}")
  for step in reversed(steps):  # what a step needs comes before it
    if step.needs and not step.done() and (step in chosen or step.wanted):
      step.needs.wanted = True
  trained = {step.point: step for step in steps if step.task == "compression" and step.point}
  for step in steps:
    if step.task != "compression" and step.point in trained and not step.done() and (step in chosen or step.wanted):
      trained[step.point].wanted = True
  return [step for step in steps if step in chosen or not step.done() and step.wanted]


def plan():
  """The steps, in order."""
  small = FLAGS.scale == "small"
  where = [f"--data_dir={FLAGS.data_dir}"] if FLAGS.data_dir else []
  images = [f"--dataset={FLAGS.images or 'IMAGES'}", f"--data_dir={sets_dir()}"] if small else [
      f"--dataset={images_name()}", f"--train_split={train_split()}", *where]
  masks = [f"--dataset={FLAGS.masks or 'MASKS'}", f"--data_dir={sets_dir()}"] if small else [
      f"--dataset={FLAGS.masks or 'voc_segmentation'}", *where]
  photos = [f"--images={FLAGS.photos or 'PHOTOS'}"] if small else []
  note = [f"--data_note={FLAGS.data_note}"] if FLAGS.data_note else []
  classifiers = {}

  def compressed_images(point):
    return [f"--dataset={set_of(point)}", f"--data_dir={sets_dir()}"]

  def measured(name, folder, seed=0, **of):
    return Step(named(f"{name}_rate_distortion", seed), "evaluate", "--effort=0",
                f"--images={FLAGS.test_photos or 'TEST_PHOTOS'}", f"--operating_point={folder}", **of)

  for point in dc.operating_points.names():
    if not small:
      yield Step(f"compression_{point}", "train_compression", *flags_of("compression", point), f"--name={point}", *images, *note,
                 point=point)
    yield measured(point, point_dir(point), point=point)
    yield Step(f"storage_{point}", "compress_dataset", *compress_flags(point_dir(point)), point=point)
  for point in dc.operating_points.names() if small else []:  # as the paper has them
    step = Step(f"paper_setting_{point}", "train_compression", *flags_of("compression", f"{point}_paper_small"), *photos, *note)
    yield step
    yield measured(step.name, step.point_dir, needs=step)
  for seed in (0, 1) if small else (0,):
    for row in ROWS if seed == 0 else SECOND_SEED:
      point = point_of(row)
      step = Step(named(f"classification_{row}", seed), "train_classification", *row_flags("classification", row),
                  f"--seed={seed}", *(compressed_images(point) if point else images), *note, point=point)
      classifiers[row, seed] = step
      yield step
  for row in ROWS:
    start = classifiers[row, 0]
    yield Step(f"segmentation_{row}", "train_segmentation", *row_flags("segmentation", row), f"--classifier={start.network_dir}",
               *masks, *note, point=start.point, needs=start)
  for seed, point in itertools.product((0, 1) if small else (0,), JOINT):
    row, alone = f"cresnet51_{point}", named(f"{point}_compression_only", seed)
    of = {"point": point, "newest": True}
    seeded = [f"--seed={seed}", *note]
    start = classifiers[row, seed] if not small else Step(  # whose rows of Table 2 may rest on an earlier encoder
        named(f"fixed_{point}", seed), "train_classification", *row_flags("classification", row), *compressed_images(point),
        *seeded, **of)
    both, control = (Step(named(f"{name}_{point}", seed), "train_joint", *flags_of("joint", scaled(point)), f"--name={ends_in}",
                          f"--classifier={start.network_dir}", f"--operating_point={point_dir(point)}",
                          *(images[:1] if small else images), *photos, *seeded, *more, needs=start, **of)
                     for name, ends_in, more in (("joint", named(f"{point}_joint", seed), []),
                                                 ("control", alone, ["--compression_only"])))
    on_control = [f"--operating_point={control.point_dir}", *compressed_images(alone), *seeded]
    scratch = Step(named(f"control_{point}_classification", seed), "train_classification", *row_flags("classification", row),
                   *on_control, needs=control, **of)
    longer = Step(named(f"control_{point}_classification_longer", seed), "train_classification",
                  *row_flags("classification", row), *flags_of("joint", scaled("schedule")), f"--start={scratch.network_dir}",
                  *on_control, needs=scratch, **of)
    yield from ([start] if small else []) + [both, control, scratch, longer]
    for name, step in (("joint", both), ("control", control)):
      yield measured(f"{name}_{point}", step.point_dir, seed, point=point, needs=step)
    if seed == 0:  # as the rows of Table 2
      for name, before, folder in (("fixed", start, point_dir(point)), ("joint", both, both.point_dir),
                                   ("control", longer, control.point_dir))[0 if small else 1:]:
        yield Step(f"{name}_{point}_segmentation", "train_segmentation", *row_flags("segmentation", row),
                   f"--classifier={before.network_dir}", f"--operating_point={folder}", *masks, *note, needs=before, **of)


def named(name, seed):
  return name + (f"_seed{seed}" if seed else "")


def flags_of(task, name):
  """A flagfile, and --share of its steps."""
  chosen = [f"--flagfile=flags/{task}/{name}.flags"]
  if task in ("compression", "segmentation") and FLAGS.share < 1:
    steps = [flag for flag in flags.FlagValues().read_flags_from_files(chosen) if flag.startswith("--steps=")]
    chosen.append(f"--steps={max(1, round(FLAGS.share * int(steps[-1].split('=')[1])))}")
  return chosen


def scaled(name):
  """Name of a flagfile for this scale, of which there are two forms."""
  return f"{name}_small" if FLAGS.scale == "small" else name


def point_of(row):
  """The operating point of a row of Table 2; None for original pixels."""
  point = row.split("_")[1]
  return None if point == "original" else point


def row_flags(task, row):
  """Flags of a row of Table 2: what all rows share, its network, and what that sees of a photo."""
  point, from_files = point_of(row), row.startswith("cresnet")
  common = "small" if FLAGS.scale == "small" else {"classification": "imagenet", "segmentation": "voc"}[task]
  chosen = flags_of(task, common) + [
      f"--network={row.split('_')[0].replace('resnet', 'ResNet-')}",
      f"--input={'representation' if from_files else 'decoded' if point else 'original'}"]
  if point:
    chosen.append(f"--operating_point={point_dir(point)}")
  return chosen


def point_dir(point):
  """The operating point that steps rest on: its name, or at the paper's scale the folder of what was trained."""
  return point if FLAGS.scale == "small" else os.path.join(FLAGS.results_dir, "operating_points", point)


def sets_dir():
  return os.path.join(FLAGS.work_dir or "WORK", "sets")


def images_name():
  return FLAGS.images or ("IMAGES" if FLAGS.scale == "small" else "imagenet2012")


def train_split():
  """The training images of the paper's scale."""
  if FLAGS.share == 1:
    return "train"
  return f"train[:{max(1, round(FLAGS.share * sources.open_source(images_name(), 'train', FLAGS.data_dir).num_examples))}]"


def set_of(point):
  """TFDS name of the images compressed at an operating point."""
  source = os.path.basename(os.path.normpath(images_name()))
  return f"compressed_classification/{compressed.config_name(source, point)}"


def compress_flags(point):
  """Flags of compress_dataset for the classification set at an operating point."""
  images = (["--splits=train,val"] if FLAGS.scale == "small" else
            [f"--splits={train_split()},validation", "--shorter_side=256",
             *([f"--data_dir={FLAGS.data_dir}"] if FLAGS.data_dir else [])])
  return [f"--dataset={images_name()}", *images, f"--operating_point={point}", f"--output_dir={sets_dir()}"]
