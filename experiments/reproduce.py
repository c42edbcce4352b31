"""Runs the paper's experiments in the order in which they rest on each other, and records what they reach.

  python -m experiments.reproduce --scale=paper --work_dir=WORK --training_flags=--strategy=mirrored
  python -m experiments.reproduce --scale=small --images=FOLDER --masks=FOLDER --photos=FOLDER --test_photos=FOLDER \
      --work_dir=WORK

At the paper's scale, the operating points are trained first, on ImageNet; ImageNet is then compressed at each of them once, and
all rows that read files train from that. --images and --masks are the TFDS sets, --data_dir is where TFDS keeps them. Records,
with the trained operating points, go to WORK/results. --share=0.01 takes a hundredth of ImageNet, for as many epochs, and a
hundredth of the steps of compression and segmentation. Rate and distortion are those of 1,000 validation images of --images,
with full curves of the other formats, where --test_photos names no others; what a set takes is that of the validation images as
they are, beside their JPEG files.

At small scale, --images is a classification set of 128x128 images (split/class/*.jpg with the splits train and val),
--masks a segmentation set (images/SPLIT/*.jpg and masks/SPLIT/*.png), --photos a folder of larger photos, for the
operating points in the paper's setting and for the coder's tables of those that joint training ends in. Every experiment runs
at reduced scale, on the shipped operating points. Records go to WORK/results, too; --results_dir=docs/results/runs takes those of
the repository in their place, as --plan without --work_dir does.

--test_photos are those that rate and distortion are reported on. What is recorded in --results_dir is skipped, what was stopped
goes on; before anything starts, the plan says what is left, and how long it took where that is known. An operating point that
--training_flags=--export_now wrote before the last step counts as recorded: delete its records to train it to the end. Flagfiles
are those in the folder flags/ where this is called, or else those that come with it.
"""

import itertools
import os
import shlex
import subprocess
import sys
import time

from absl import flags
from absl import logging

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import segmentation as segmentation_data
from deepcomp_tf.data import sources
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import runs
from deepcomp_tf.training.software import differences
from deepcomp_tf.training.software import software
from . import paper_plan
from . import paper_steps

FLAGS = flags.FLAGS

# The photos that are segmented for the record: at small scale these samples in VOC's scale, their longer side in pixels; at the
# paper's as many of the first ones of the validation split.
SEGMENTED, LONGER_SIDE = ("chelsea", "astronaut"), 256


def main(argv):
  del argv
  if not FLAGS.plan and not FLAGS.work_dir:
    raise dc.DeepcompError("expected a folder for compressed sets and runs. Received: no --work_dir")
  if FLAGS.scale == "small" and FLAGS.share != 1.0:
    raise dc.DeepcompError(f"--share is for --scale=paper. Received: --share={FLAGS.share}")
  if not FLAGS["results_dir"].present and (FLAGS.scale == "paper" or FLAGS.work_dir):
    FLAGS.results_dir = os.path.join(FLAGS.work_dir or "WORK", "results")
  steps = paper_steps.select(list(paper_plan.plan()), FLAGS.only)
  print_plan(steps)
  if FLAGS.plan:
    return
  left = [step for step in steps if not step.done()]
  check_data(left)
  for number, step in enumerate(left, start=1):
    logging.info("%d of %d: %s", number, len(left), step.name)
    compress_for(step)
    run(step)


def check_data(steps):
  """Whether the images that the steps need are there."""
  tasks = {step.task for step in steps}
  small = FLAGS.scale == "small"
  for flag, needed, folders in (
      ("images", small and tasks & {"compress_dataset", "classification", "joint"}, ("train", "val")),
      ("masks", small and "segmentation" in tasks, ("images", "masks")),
      ("photos", small and tasks & {"joint", "compression"}, ("",)),
      ("test_photos", "evaluate" in tasks and (small or FLAGS.test_photos), ("",))):
    path = FLAGS[flag].value
    if needed and not (path and all(files.isdir(os.path.join(path, name)) for name in folders)):
      raise dc.DeepcompError(f"expected a folder{f' with {folders[0]}/ and {folders[1]}/' if folders[0] else ''}. Received: "
                             f"--{flag}={path}")
  if not small:
    if tasks - {"segmentation", "evaluate"}:
      sources.open_source(paper_plan.images_name(), "train", FLAGS.data_dir)
    if "segmentation" in tasks:
      segmentation_data.open_builder(FLAGS.masks or "voc_segmentation", FLAGS.data_dir)


def print_plan(steps):
  seconds, unknown, now = 0, 0, software()
  for step in steps:
    if FLAGS.plan and FLAGS.scale == "paper":
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
      why = ("recorded, but its network is not in --work_dir" if step.record() else
             "recorded on an earlier operating point, encoder or decoder, or at another scale")
      print(f"left  {step.name}{f' ({why})' if known else ''}")
  if FLAGS.scale == "small" or not FLAGS.plan:
    print(f"left: {sum(not step.done() for step in steps)} of {len(steps)} steps; {seconds / 60:.0f} min for those that "
          f"ran before{f', {unknown} never ran' if unknown else ''}")


def compress_for(step):
  """Compresses the images at the operating point of a step that reads compressed ones, unless they are there."""
  for argument in step.command:
    if argument.startswith("--dataset=compressed_"):
      given = [flag.split("=", 1)[1] for flag in step.command if flag.startswith("--operating_point=")]
      point = given[-1] if given else step.point
      execute(["-m", f"{__package__}.compress_dataset", *paper_plan.compress_flags(point)])


def run(step):
  """Runs a step and records it."""
  begin = time.time()
  files.makedirs(FLAGS.results_dir)
  if step.task == "evaluate":
    files.makedirs(step.run_dir)
  execute(step.command)
  if step.task == "compression" and step.point:  # all others rest on it, and the records are read with it
    with files.whole_folder(step.result_dir, last="operating_point.json") as new:
      for name in files.listdir(step.point_dir):
        files.write_file(os.path.join(new, name), files.read(os.path.join(step.point_dir, name)))
  record = {"name": step.name, "scale": FLAGS.scale, "share": FLAGS.share, "operating_point": step.point,
            **step.networks, "date": time.strftime("%Y-%m-%d"), "software": [software()], "seconds": round(time.time() - begin)}
  record.update({"compress_dataset": storage, "evaluate": rate_distortion, "compression": operating_point_of}.get(
      step.task, trained)(step))
  files.write_json(step.record_path, record, sort_keys=True)
  logging.info("%s: recorded after %.0f min", step.name, record["seconds"] / 60)


def operating_point_of(step):
  """What a trained operating point says of itself."""
  return {"operating_point_info": operating_point.read_info(step.result_dir),
          "software": files.read_json(os.path.join(step.run_dir, "software.json"))}


def storage(step):
  """What `compress_dataset` says of the set that it wrote."""
  pattern = os.path.join(paper_plan.storage_dir(), f"{paper_plan.set_of(step.point)}", "*", "storage.json")
  paths = files.glob(pattern)
  if not paths:
    raise dc.DeepcompError(f"expected {pattern}; remove the set, which is of an earlier version")
  return files.read_json(paths[-1])


def rate_distortion(step):
  """Keeps the figures of every photo beside the record."""
  files.write_file(beside(step, ".csv"), files.read(os.path.join(step.run_dir, "rate_distortion.csv")), overwrite=True)
  photos = FLAGS.test_photos and os.path.basename(os.path.normpath(FLAGS.test_photos))
  return {"photos": photos or f"{paper_plan.images_name()}, {step.values['split']}"}


def beside(step, ending):
  """A file that belongs to a record."""
  return step.record_path.removesuffix(".json") + ending


def photos_to_segment():
  """{name: photo}; true masks, where there are some, are kept beside the records with the photos."""
  if FLAGS.scale == "small":
    return {name: samples.photos(LONGER_SIDE)[name] for name in SEGMENTED}
  builder = segmentation_data.open_builder(FLAGS.masks or "voc_segmentation", FLAGS.data_dir)
  examples = segmentation_data.SegmentationExamples(
      builder, "validation", NetworkInput("original"), range(mask_classes.VOID)).whole()
  photos, classes = {}, segmentation_data.classes_of(builder)
  for number, (photo, truth) in enumerate(itertools.islice(examples, len(SEGMENTED)), start=1):
    photos[f"validation{number}"] = photo
    for ending, data in (("", encode_png(photo)), ("_truth", mask_classes.encode_mask(truth, classes))):
      files.write_file(os.path.join(FLAGS.results_dir, f"segmented_validation{number}{ending}.png"), data, overwrite=True)
  return photos


def segment_photos(step, segmenter):
  """Keeps masks of a few photos beside the record."""
  for name, photo in photos_to_segment().items():
    codec = segmenter.codec
    mask = segmenter.segment(codec.compress(photo)) if codec else segmenter.mask_ids[segmenter.predict(photo, *photo.shape[:2])]
    files.write_file(beside(step, f"_{name}.png"), mask_classes.encode_mask(mask, segmenter.classes), overwrite=True)


def trained(step):
  """What a training program wrote down of its run."""
  settings = files.read_json(os.path.join(step.run_dir, "settings.json"))
  network = (dc.Segmenter if step.task == "segmentation" else dc.Classifier).load(step.network_dir)
  if step.task == "segmentation":
    segment_photos(step, network)
  edge = settings["crop_size"] // network.inputs.stride
  covered = step.values.get("well_covered_ids")
  return {"settings": settings, "history": runs.read_history(step.run_dir),
          "well_covered": len(covered.split(",")) if covered else 0,
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
