"""Top-1 and top-5 accuracy of a trained classifier.

  python -m experiments.evaluate_classification --classifier=RUN_DIR/classifier --dataset=SET --split=validation

SET is a TFDS set or a folder of split/class/*.jpg, whose images the classifier's operating point compresses on the
way, or a set that `experiments.compress_dataset` wrote. The crops are those of the training.
"""

from absl import flags
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.data import classification
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.crops import CROPS
from deepcomp_tf.evaluation import accuracy
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


def main(argv):
  del argv
  classifier = dc.Classifier.load(
      FLAGS.classifier, FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point))
  examples = classification.open_examples(FLAGS.dataset, FLAGS.split, classifier.inputs, FLAGS.data_dir)
  unknown = [name for name in examples.source.class_names if name not in classifier.class_names]
  if unknown:
    raise dc.DeepcompError(
        f"expected classes that the classifier knows ({', '.join(classifier.class_names[:10])}"
        f"{', ...' if len(classifier.class_names) > 10 else ''}). Received: {', '.join(unknown[:5])}"
        f"{f' and {len(unknown) - 5} others' if len(unknown) > 5 else ''}")
  labels = tf.constant([classifier.class_names.index(name) for name in examples.source.class_names], tf.int64)
  info = classifier.info
  crops = Crops(classifier.inputs, examples.source.bitstreams, FLAGS.crop_size or info["crop_size"],
                FLAGS.crop or info.get("crop", "pixels"), FLAGS.image_size or info.get("image_size", 256), info.get("resize"))
  figures = accuracy.evaluator(classifier.network, crops, examples, FLAGS.batch_size, labels)()
  print(f"{FLAGS.classifier} on {examples.source.name}, {FLAGS.split}: top-1 {100 * figures['top_1']:.2f} %, "
        f"top-5 {100 * figures['top_5']:.2f} %, {figures['examples']} examples")
  missing = len(examples) - figures["examples"]
  if missing:
    print(f"{missing} of {len(examples)} examples cannot be decoded and are left out")


if __name__ == "__main__":
  training_flags.main(main)
