"""The steps of the paper's experiments: programs to run, where what they end in lies, and whether it is recorded."""

import functools
import os
import re

from absl import flags

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.codec import operating_point
from deepcomp_tf.training import flags as training_flags
from . import records  # pylint: disable=unused-import  # defines --results_dir

FLAGS = flags.FLAGS
flags.DEFINE_enum("scale", "small", ["small", "paper"], "Which flagfiles.")
flags.DEFINE_string("images", None, "Folder of 128x128 images, for the small scale; TFDS set, for the paper's: imagenet2012 by "
                    "default.")
flags.DEFINE_string("masks", None, "Folder of a segmentation set, for the small scale; TFDS set, for the paper's: "
                    "voc_segmentation by default.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps these, for the paper's scale.")
flags.DEFINE_string("photos", None, "Folder of photos for compression and the coder's tables, for the small scale.")
flags.DEFINE_string("test_photos", None, "Folder of photos to report rate and distortion on, Kodak's for example; empty at the "
                    "paper's scale: 1,000 validation images of --images.")
flags.DEFINE_string("work_dir", None, "Folder for compressed sets and runs, which is not needed after all is recorded.")
flags.DEFINE_string("only", "", "Regular expression of the names of the steps to run; empty: all.")
flags.DEFINE_bool("plan", False, "Print the plan and stop.")
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the classifiers.")
flags.DEFINE_list("training_flags", [], "Flags that all training programs get, such as --strategy=mirrored.")
flags.DEFINE_float("share", 1.0, "Of the training images of ImageNet, and of the steps of compression and segmentation, for the "
                   "paper's scale.", lower_bound=1e-6, upper_bound=1.0)

flags.DEFINE_string("paper_setting", None, "Folder of operating points in the paper's setting, such as FOLDER/bpp0.0983, for the "
                    "small scale; empty: they are trained by their flagfiles. Classifiers in it, named as their steps, are "
                    "started from where --work_dir has none.")


class Step:
  """One program to run.

  Args:
    name: of its record.
    program: of `experiments`, or the command's "evaluate".
    *arguments: its flags, without the folder of the run.
    point: the operating point that it rests on, or that it trains from nothing, if any.
    folder: where that lies, or its name; None: `point_dir`.
    needs: the step whose network it starts from, if any.
    newest: whether a record on earlier networks of the operating point counts as none. What was trained on files or pixels of
      older ones is left as it is, unless it is compared with what these networks become (section 6).
  """

  def __init__(self, name, program, *arguments, point=None, folder=None, needs=None, newest=False):
    self.name, self.task, self.point, self.needs = name, program.removeprefix("train_"), point, needs
    self.folder, self.newest = folder or point and point_dir(point), newest or program == "evaluate"
    self.command = [*(["-m", "deepcomp_tf.cli", program, "--overwrite"] if program == "evaluate" else
                      ["-m", f"{__package__}.{program}"]), *arguments]
    if program != "compress_dataset":
      self.command.append(f"--{'output' if program == 'evaluate' else 'run'}_dir={self.run_dir}")
    if program.startswith("train_"):
      self.command += FLAGS.training_flags
    self.wanted = False  # by another step that is left

  @functools.cached_property
  def values(self):
    """The flags of its command, its flagfiles read, by their names; of several the last."""
    given = training_flags.with_flagfiles(flag for flag in self.command if flag.startswith("--"))
    return dict(flag.removeprefix("--").partition("=")[::2] for flag in given)

  @property
  def networks(self):
    """What a record says of its operating point as it is now: fingerprint, encoder_version and decoder_version; None where there
    is none, or it is not trained yet."""
    info = operating_point.read_info(self.folder) if self.folder and is_there(self.folder) else None
    return {"fingerprint": info and info["fingerprint"], "encoder_version": info and operating_point.newest_encoder(info),
            "decoder_version": info and operating_point.decoder_version(info)}

  @property
  def run_dir(self):
    return os.path.join(FLAGS.work_dir or "WORK", "runs", self.name)

  @property
  def network_dir(self):
    """Where the trained network lies: in the folder of its run, or, of a step that is recorded, kept in --paper_setting."""
    trained = os.path.join(self.run_dir, "segmenter" if self.task == "segmentation" else "classifier")
    kept = FLAGS.paper_setting and os.path.join(FLAGS.paper_setting, self.name)
    return kept if kept and files.isdir(kept) and self.record() and not files.isdir(trained) else trained

  @property
  def point_dir(self):
    """Where the operating point lies that training ends in."""
    return os.path.join(self.run_dir, "operating_point")

  @property
  def result_dir(self):
    """Where what it trained lies when it is done."""
    if self.task == "compression":
      return self.folder or self.point_dir
    return self.network_dir

  @property
  def record_path(self):
    return os.path.join(FLAGS.results_dir, f"{self.name}.json")

  def record(self):
    """What was recorded of this step at this scale, on the same operating point, or None."""
    if not files.exists(self.record_path):
      return None
    record = files.read_json(self.record_path)
    expected = {"scale": FLAGS.scale, "share": FLAGS.share, **self.networks}
    if not (self.newest and self.networks["fingerprint"]):
      del expected["encoder_version"], expected["decoder_version"]
    first = {"scale": "small", "share": 1.0, "encoder_version": 1, "decoder_version": 1, "fingerprint": None}
    return record if all(record.get(name, first[name]) == value for name, value in expected.items()) else None

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


def point_dir(point):
  """The operating point that steps rest on: its name, or at the paper's scale the folder of what was trained."""
  return point if FLAGS.scale == "small" else os.path.join(FLAGS.results_dir, "operating_points", point)


def is_there(folder):
  """Whether an operating point is shipped or trained."""
  return folder in dc.operating_points.names() or files.exists(os.path.join(folder, "operating_point.json"))
