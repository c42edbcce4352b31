"""Top-1 and top-5 accuracy of a trained classifier, of each class too, and what it confuses.

  python -m experiments.evaluate_classification --classifier=RUN_DIR/classifier --dataset=SET --split=validation

SET is a TFDS set or a folder of split/class/*.jpg, whose images the classifier's operating point compresses on the
way, or a set that `experiments.compress_dataset` wrote. Its classes are the classifier's by name or, of ImageNet's, by WordNet
id, as TFDS's `imagenet2012` and `imagenette` have them. The crops are those of the training. With --output_dir there are figures
of each class in classes.csv, and confusion.png.

What it says of probabilities: by how much they are off, on average (expected calibration error), and the
temperature that mends them on these examples. --keep_temperature writes that into the classifier's folder, and from
then on all its probabilities follow it.
"""

import csv
import io
import os

from absl import flags
import numpy as np
from scipy import special

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf import shipped
from deepcomp_tf.data import classification
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.crops import CROPS
from deepcomp_tf.errors import first_of
from deepcomp_tf.evaluation import accuracy
from deepcomp_tf.evaluation import calibration
from deepcomp_tf.evaluation.figures import confusion_figure
from deepcomp_tf.tasks.imagenet import places_of
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("classifier", None, f"One of {', '.join(dc.Classifier.names())}, or a folder that training wrote.",
                    required=True)
flags.DEFINE_string("operating_point", None, "Folder of its operating point, where that is not where it says.")
flags.DEFINE_string("dataset", "imagenet2012", "TFDS set, set of compressed files, or folder of split/class/*.jpg.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("split", "validation", "Split of --dataset.")
flags.DEFINE_integer("batch_size", 64, "Images at a time.", lower_bound=1)
flags.DEFINE_integer("crop_size", 0, "Edge of the center crops in pixels; 0 is that of the training.", lower_bound=0)
flags.DEFINE_enum("crop", None, CROPS, "Of images that are compressed on the way: whether their pixels are cropped, or the "
                  "representation of --image_size pixels; empty: as in the training.")
flags.DEFINE_integer("image_size", 0, "Edge of the images whose representation is cropped; 0 is that of the training.",
                     lower_bound=0)
flags.DEFINE_integer("resize", 0, "Shorter side that images which are compressed on the way are resized to; "
                     "0: as in the training.", lower_bound=0)
flags.DEFINE_string("output_dir", None, "Folder for classes.csv and confusion.png; it is made if it is missing.")
flags.DEFINE_bool("overwrite", False, "Replace files of --output_dir that are there.")
flags.DEFINE_bool("keep_temperature", False, "Write the temperature that fits these examples into the classifier's folder. They "
                  "should be neither those of the training nor those of a test.")


def main(argv):
  del argv
  if FLAGS.output_dir:
    outputs.check([os.path.join(FLAGS.output_dir, name) for name in ("classes.csv", "confusion.png")], FLAGS.overwrite)
  classifier = dc.Classifier.load(
      FLAGS.classifier, FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point))
  examples = classification.open_examples(FLAGS.dataset, FLAGS.split, classifier.inputs, FLAGS.data_dir)
  places = places_of(examples.source.class_names, classifier.class_names)
  unknown = [name for name, place in zip(examples.source.class_names, places) if place is None]
  if unknown:
    raise dc.DeepcompError(
        f"expected classes that the classifier knows ({first_of(classifier.class_names, 10)}), or WordNet ids of ImageNet's. "
        f"Received: {', '.join(unknown[:5])}"
        f"{f' and {len(unknown) - 5} others' if len(unknown) > 5 else ''}")
  info = classifier.info
  size = FLAGS.crop_size or info["crop_size"]
  # Grafts are trained on center squares of that size.
  resize = [FLAGS.resize, FLAGS.resize] if FLAGS.resize else info.get("resize", [size, size])
  crops = Crops(classifier.inputs, examples.source.bitstreams, size, FLAGS.crop or info.get("crop", "pixels"),
                FLAGS.image_size or info.get("image_size", 256), resize)
  logits, truth = accuracy.predictions(classifier.network, crops, examples, FLAGS.batch_size)
  best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
  truth, names = np.array(places)[truth], classifier.class_names
  of = f"{FLAGS.classifier} on {examples.source.name}, {FLAGS.split}"
  print(f"{of}: top-1 {100 * np.mean(best[:, 0] == truth):.2f} %, "
        f"top-5 {100 * np.mean(np.any(best == truth[:, np.newaxis], axis=1)):.2f} %, {len(truth)} examples")
  figures = accuracy.by_class(best, truth)
  confused = sorted(((count, label, other) for label, row in figures.items() for other, count in row["taken_for"].items()),
                    key=lambda item: -item[0])
  if confused:
    print("confused most: " + ", ".join(f"{names[label]} with {names[other]} ({count} of {figures[label]['examples']})"
                                        for count, label, other in confused[:5]))
  calibrate(classifier, logits, truth)
  if FLAGS.output_dir:
    outputs.write(os.path.join(FLAGS.output_dir, "classes.csv"), table(figures, names).encode(), FLAGS.overwrite)
    outputs.write(os.path.join(FLAGS.output_dir, "confusion.png"), confusion_figure(figures, names, of), FLAGS.overwrite)
    print(f"{FLAGS.output_dir}: classes.csv, confusion.png")
  missing = len(examples) - len(truth)
  if missing:
    print(f"{missing} of {len(examples)} examples cannot be decoded and are left out")


def calibrate(classifier, logits, truth):
  """Prints how good the probabilities are, and keeps the temperature that mends them if --keep_temperature says so."""
  fitted, right = calibration.fit_temperature(logits, truth), np.argmax(logits, axis=1) == truth
  error_at = lambda temperature: calibration.calibration_error(special.softmax(logits / temperature, axis=1).max(axis=1), right)
  print(f"calibration error {error_at(classifier.temperature):.3f} at its temperature of {classifier.temperature:.2f}, "
        f"{error_at(fitted):.3f} at {fitted:.2f}, which fits best")
  if FLAGS.keep_temperature:
    path = shipped.info_path(classifier.KIND, FLAGS.classifier)
    files.write_json(path, {**files.read_json(path), "temperature": round(fitted, 3)})
    print(f"{path}: temperature {fitted:.3f}")


def table(figures, names):
  """CSV: a line for each class that there are examples of."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator="\n")
  writer.writerow(["class", "examples", "top_1", "top_5", "most_taken_for", "times"])
  for label, row in figures.items():
    other, times = next(iter(row["taken_for"].items()), (None, 0))
    writer.writerow([names[label], row["examples"], f"{row['top_1']:.4f}", f"{row['top_5']:.4f}",
                     "" if other is None else names[other], times])
  return buffer.getvalue()


if __name__ == "__main__":
  training_flags.main(main)
