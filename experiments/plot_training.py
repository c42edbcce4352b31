"""Draws the curves of training runs side by side, from their TensorBoard files.

  python -m experiments.plot_training --runs=RUN_DIR,OTHER_RUN_DIR --labels="KLT start,random start" --output=curves.png

Left: bits per pixel; right: PSNR of the mean squared error; both over the training crops between two points.
"""

import itertools
import os

from absl import flags
import matplotlib.figure
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import tensorflow as tf

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.evaluation import figures
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_list("runs", None, "Run folders.", required=True)
flags.DEFINE_list("labels", None, "A label per run; by default the folders' names.")
flags.DEFINE_string("output", "training.png", "PNG file to write; overwritten.")


def main(argv):
  del argv
  if not FLAGS.runs:
    raise DeepcompError("--runs must name at least one run folder. Received: none")
  labels = FLAGS.labels or [os.path.basename(run.rstrip("/")) for run in FLAGS.runs]
  if len(labels) != len(FLAGS.runs):
    raise DeepcompError(f"--labels must be as many as --runs={len(FLAGS.runs)}. Received: {len(labels)}")
  figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
  rate_axis, quality_axis = figure.subplots(1, 2)
  for run, label, style in zip(FLAGS.runs, labels, itertools.cycle(("-", "--", ":", "-."))):
    steps, rate = curve(run, "bits_per_pixel")
    _, mse = curve(run, "mse")
    rate_axis.plot(steps, rate, style, label=label)
    quality_axis.plot(steps, 10 * np.log10(255**2 / mse), style, label=label)
  rate_axis.set(xlabel="training step", ylabel="estimated rate [bits per pixel]")
  quality_axis.set(xlabel="training step", ylabel="PSNR of the crops' mean squared error [dB]")
  for axis in (rate_axis, quality_axis):
    axis.grid(alpha=0.3)
  rate_axis.legend()
  files.write_file(FLAGS.output, figures.png(figure), overwrite=True)
  print(f"Written to {FLAGS.output}")


def curve(run, name):
  """Steps and values of a training curve; of a step that a resumed run repeated, the last value.

  Raises:
    DeepcompError: the folder is missing, or holds no such curve.
  """
  folder = os.path.join(run, "train")
  events = EventAccumulator(folder, size_guidance={"tensors": 0})
  if files.isdir(folder):
    events.Reload()
  if name not in events.Tags()["tensors"]:
    raise DeepcompError(f"expected a run folder with the training curve {name!r}. Received: {run}")
  points = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(name)}
  steps = np.array(sorted(points))
  return steps, np.array([points[step] for step in steps])


if __name__ == "__main__":
  training_flags.main(main)
