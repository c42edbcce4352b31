"""Trains DeepLab on pixels, decoded pixels or the representation (section 5, appendix A.5).

The rows of Table 2, on Pascal VOC 2012 with SBD's annotations:
  python -m experiments.train_segmentation --flagfile=flags/segmentation/cresnet51_bpp0.330.flags \
      --classifier=RUN_DIR/classifier --run_dir=...
Their twins for smaller images and two cores:
  python -m experiments.train_segmentation --flagfile=flags/segmentation/cresnet51_bpp0.330_small.flags \
      --dataset=FOLDER --classifier=RUN_DIR/classifier --run_dir=...
Other classes than VOC's: a folder with a classes.json, a TFDS set whose masks name theirs, or --classes.
The backbone starts as the classifier, in its dilated form; network, input and operating point are the classifier's.
The same command continues a run that was stopped. RUN_DIR/segmenter is what `dc.Segmenter.load` takes.
"""

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import segmentation
from deepcomp_tf.evaluation import segmentation as measures
from deepcomp_tf.representation import INPUTS
from deepcomp_tf.models.resnet import ARCHITECTURES
from deepcomp_tf.training import distribution
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers

FLAGS = flags.FLAGS
training_flags.define_flags()
flags.DEFINE_string("dataset", "voc_segmentation", "TFDS set with images and masks, or folder with images/SPLIT/*.jpg, "
                    "masks/SPLIT/*.png and, for other classes than VOC's, classes.json.")
flags.DEFINE_string("classes", None, "JSON file of the classes of the masks, where --dataset does not name them.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("train_split", "train", "Split of --dataset to train on.")
flags.DEFINE_string("validation_split", "validation", "Split of --dataset to validate on.")
flags.DEFINE_list("class_ids", [], "Mask ids that count, as classes 0, 1, ...; the others become void. Empty: all of the "
                  "set's classes.")
flags.DEFINE_list("well_covered_ids", [], "Mask ids whose mean IoU is reported besides, for a set where others are rare.")
training_flags.define_cache_flags(segmentation.CACHES, default="decoded")
flags.DEFINE_string("classifier", None, "Trained classifier to start from.", required=True)
flags.DEFINE_enum("network", None, list(ARCHITECTURES), "The network that the classifier must be; empty: any.")
flags.DEFINE_enum("input", None, INPUTS, "The input that it must have been trained on; empty: any.")
flags.DEFINE_string("operating_point", None, "Its operating point: a name, or the folder where that is now.")
flags.DEFINE_integer("steps", 20000, "Training steps.", lower_bound=1)
flags.DEFINE_integer("head_steps", 0, "The first of them, which take less time: the pooling alone learns, and the "
                     "backbone stays as it is.", lower_bound=0)
flags.DEFINE_integer("crop_size", 320, "Edge of the crops in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_list("random_scale", [], "LOW,HIGH: training images are resized by a random factor; 0.5,1.5 in DrSleep's "
                  "DeepLab. Empty: none (the paper).")
flags.DEFINE_float("learning_rate", 0.001, "At the start; falls as (1 - step/steps)^power.", lower_bound=0.0)
flags.DEFINE_float("head_learning_rate", 0.01, "Of the pooling.", lower_bound=0.0)
flags.DEFINE_float("power", 0.9, "Of the fall of the learning rates.", lower_bound=0.0)
flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adam"], "The paper's SGD, or Adam, which is faster from a classifier that is "
                  "not yet good.")
training_flags.define_momentum_flags()
training_flags.define_pixel_mean_flag(None)
flags.DEFINE_float("weight_decay", 5e-4, "Of kernels.", lower_bound=0.0)
flags.DEFINE_integer("validate_every", 2000, "Steps between validations.", lower_bound=1)
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the segmenter.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("dataset", "data_dir", "classes", "cache", "cache_dir", "classifier", "operating_point", "validate_every",
                     "well_covered_ids", "data_note")


def main(argv):
  del argv
  strategy = loop.begin()
  if FLAGS.precision == "mixed_float16":
    raise dc.DeepcompError("expected --precision=float32 or mixed_bfloat16, since segmentation's two optimizers do not share a "
                           "scale of losses. Received: --precision=mixed_float16")
  if FLAGS.head_steps > FLAGS.steps:
    raise dc.DeepcompError(f"--head_steps must be at most --steps={FLAGS.steps}. Received: {FLAGS.head_steps}")
  scale = training_flags.numbers("random_scale", float, counts=(0, 2)) or None
  builder = distribution.chief_first(strategy, lambda: segmentation.open_builder(FLAGS.dataset, FLAGS.data_dir))
  known = segmentation.classes_of(builder, FLAGS.classes)
  classes = training_flags.chosen_classes("class_ids", known) or known
  class_ids = [chosen.id for chosen in classes]
  well_covered = [chosen.name for chosen in training_flags.chosen_classes("well_covered_ids", known)]

  classifier = dc.Classifier.load(FLAGS.classifier, FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point))
  inputs = NetworkInput(classifier.inputs.kind, classifier.codec, pixel_mean=FLAGS.pixel_mean or classifier.inputs.pixel_mean)
  for flag, value in (("network", classifier.network.architecture), ("input", inputs.kind)):
    if FLAGS[flag].value not in (None, value):
      raise dc.DeepcompError(f"expected a classifier with --{flag}={FLAGS[flag].value}. Received: "
                             f"--classifier={FLAGS.classifier}, whose is {value}")
  if FLAGS.pixel_mean and isinstance(classifier.network, dc.models.Backbone):
    raise dc.DeepcompError("expected a backbone's pixels without --pixel_mean, since it has its own preprocessing. Received: "
                           f"--pixel_mean={FLAGS.pixel_mean}")
  with loop.networks(strategy):
    model = dc.models.DeepLab.from_classifier(classifier.network, len(classes))
    model.build([None, None, None, inputs.channels])
  examples_of = lambda split, scale=None: segmentation.SegmentationExamples(
      builder, split, inputs, class_ids, FLAGS.cache, FLAGS.cache_dir, scale)
  training, validation = examples_of(FLAGS.train_split, scale), examples_of(FLAGS.validation_split)

  settings = training_flags.settings("crop_size", leave_out=OPERATIONAL_FLAGS)
  blueprint = {name: value for name, value in classifier.network.blueprint().items() if name not in ("backbone", "stride_in")}
  settings.update(source=builder.info.full_name, **blueprint, input=inputs.kind, pixel_mean=inputs.pixel_mean,
                  fingerprint=inputs.codec and inputs.codec.fingerprint.hex())

  def loss(x, labels, step):
    del step
    # Means over the labelled pixels of the global batch.
    cross_entropy = losses.masked_cross_entropy(labels, model(x, training=True), mask_classes.VOID)
    value = cross_entropy + losses.weight_decay(model, FLAGS.weight_decay)
    return value, {"loss": value, "cross_entropy": cross_entropy}

  batches = lambda first, share: training.training_batches(FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first, share)
  segmenter = dc.Segmenter(model, inputs, classes)

  loop.train(
      strategy,
      [loop.Stage(FLAGS.head_steps, loss, lambda: {"pooling_optimizer": optimizer_of(
          model, "head", FLAGS.head_learning_rate, FLAGS.head_steps)}, batches),
       loop.Stage(FLAGS.steps, loss, lambda: whole_optimizers(model), batches)],
      model.named_variables(), program="train_segmentation", settings=settings, result="segmenter",
      measure=lambda kept: measure(strategy, kept or segmenter, validation, well_covered), every=FLAGS.validate_every,
      keep=lambda: segmenter.copy(rounded=True), export=loop.save_task("segmenter", trained_size=training.shorter_side),
      shown=("loss",))


def whole_optimizers(model):
  """The optimizers of the steps after those: backbone and pooling learn at different rates (appendix A.5)."""
  steps = FLAGS.steps - FLAGS.head_steps
  return {"backbone_optimizer": optimizer_of(model, "backbone", FLAGS.learning_rate, steps),
          "head_optimizer": optimizer_of(model, "head", FLAGS.head_learning_rate, steps)}


def optimizer_of(model, part, learning_rate, steps):
  """The optimizer of a part of the network, and the variables that it moves."""
  trainable = {id(variable) for variable in model.trainable_variables}  # Keras 2's variables do not know if their layers are
  rate = optimizers.falling(learning_rate, steps, FLAGS.power)
  return (optimizers.adam(rate) if FLAGS.optimizer == "adam" else optimizers.sgd(rate, FLAGS.momentum, FLAGS.momentum_of),
          {name: variable for name, variable in model.named_variables().items()
           if id(variable) in trainable and name.startswith(f"{part}/") and not name.endswith(("/gamma", "/beta"))})


def measure(strategy, segmenter, validation, well_covered):
  """IoU on the validation split, with a few pictures for TensorBoard."""
  num_classes = len(segmenter.classes)
  counts = distribution.share_work(
      strategy, len(validation), num_classes ** 2,
      lambda indices: (counts.ravel() for counts in measures.confusions(
          segmenter.predict, validation, num_classes, own=indices)))
  colors = mask_classes.palette(segmenter.classes)[segmenter.mask_ids]
  for i, (stored, label) in zip(range(4), validation.whole()):
    pictures = [segmenter.picture(stored, *label.shape), colors[label], colors[segmenter.predict(stored, *label.shape)]]
    tf.summary.image(f"input_truth_prediction/{i}", np.concatenate(pictures, axis=1)[np.newaxis])
  return measures.summary(counts.reshape(-1, num_classes, num_classes), segmenter.places_of(well_covered))


if __name__ == "__main__":
  training_flags.main(main)
