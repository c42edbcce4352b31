"""Trains DeepLab on pixels, decoded pixels or the representation (section 5, appendix A.5).

The rows of Table 2, on Pascal VOC 2012 with SBD's annotations:
  python -m experiments.train_segmentation --flagfile=flags/segmentation/cresnet51_bpp0.330.flags \
      --classifier=RUN_DIR/classifier --run_dir=...
Their twins for smaller images and two cores:
  python -m experiments.train_segmentation --flagfile=flags/segmentation/cresnet51_bpp0.330_small.flags \
      --dataset=FOLDER --classifier=RUN_DIR/classifier --run_dir=...
The backbone starts as the classifier, in its dilated form; network, input and operating point are the classifier's.
The same command continues a run that was stopped. RUN_DIR/segmenter is what `dc.Segmenter.load` takes.
"""

import os
import time

from absl import flags
from absl import logging
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.data import segmentation
from deepcomp_tf.data import voc
from deepcomp_tf.evaluation import segmentation as measures
from deepcomp_tf.inference.inputs import INPUTS
from deepcomp_tf.models.resnet import ARCHITECTURES
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers

FLAGS = flags.FLAGS
loop.define_flags()
flags.DEFINE_string("dataset", "voc_segmentation", "TFDS set with image and mask, or folder with images/SPLIT/*.jpg and "
                    "masks/SPLIT/*.png.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("train_split", "train", "Split of --dataset to train on.")
flags.DEFINE_string("validation_split", "validation", "Split of --dataset to validate on.")
flags.DEFINE_list("class_ids", [], "Mask ids that count, as classes 0, 1, ...; the others become void. Empty: VOC's 21.")
flags.DEFINE_list("well_covered_ids", [], "Mask ids whose mean IoU is reported besides, for a set where others are rare.")
flags.DEFINE_enum("cache", "decoded", segmentation.CACHES, "Keep pixels or symbols in memory, or read them in every epoch.")
flags.DEFINE_string("classifier", None, "Trained classifier to start from.", required=True)
flags.DEFINE_enum("network", None, list(ARCHITECTURES), "The network that the classifier must be; empty: any.")
flags.DEFINE_enum("input", None, INPUTS, "The input that it must have been trained on; empty: any.")
flags.DEFINE_string("operating_point", None, "Its operating point: a name, or the folder where that is now.")
flags.DEFINE_integer("steps", 20000, "Training steps.", lower_bound=1)
flags.DEFINE_integer("crop_size", 320, "Edge of the crops in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_list("random_scale", [], "LOW,HIGH: training images are resized by a random factor; 0.5,1.5 in DrSleep's "
                  "DeepLab. Empty: none (the paper).")
flags.DEFINE_float("learning_rate", 0.001, "At the start; falls as (1 - step/steps)^power.", lower_bound=0.0)
flags.DEFINE_float("head_learning_rate", 0.01, "Of the pooling.", lower_bound=0.0)
flags.DEFINE_float("power", 0.9, "Of the fall of the learning rates.", lower_bound=0.0)
flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adam"], "The paper's, or one that is faster from a classifier that is not yet "
                  "good.")
flags.DEFINE_float("momentum", 0.9, "Of SGD.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_float("weight_decay", 5e-4, "Of kernels.", lower_bound=0.0)
flags.DEFINE_integer("validate_every", 2000, "Steps between validations.", lower_bound=1)
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the segmenter.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("dataset", "data_dir", "cache", "classifier", "operating_point", "validate_every", "well_covered_ids",
                     "data_note")


def main(argv):
  del argv
  tf.keras.utils.set_random_seed(FLAGS.seed)
  if FLAGS.precision == "mixed_float16":
    raise dc.DeepcompError("expected --precision=float32 or mixed_bfloat16, since segmentation's optimizer does not scale "
                           "losses. Received: --precision=mixed_float16")
  strategy = loop.make_strategy(FLAGS.strategy)
  replicas = strategy.num_replicas_in_sync
  class_ids = loop.ids("class_ids", len(voc.CLASS_NAMES)) or list(range(len(voc.CLASS_NAMES)))
  well_covered = loop.ids("well_covered_ids", len(voc.CLASS_NAMES))
  scale = loop.numbers("random_scale", float, counts=(0, 2)) or None
  class_names = [voc.CLASS_NAMES[i] for i in class_ids]

  with strategy.scope():
    classifier = dc.Classifier.load(FLAGS.classifier, FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point))
    inputs = classifier.inputs
    for flag, value in (("network", classifier.network.architecture), ("input", inputs.kind)):
      if FLAGS[flag].value not in (None, value):
        raise dc.DeepcompError(f"expected a classifier with --{flag}={FLAGS[flag].value}. Received: "
                               f"--classifier={FLAGS.classifier}, whose is {value}")
    with loop.precision():
      model = dc.models.DeepLab.from_classifier(classifier.network, len(class_names))
      model(tf.zeros([1, 32, 32, inputs.channels]))
    variables = [variable for variable in model.trainable_variables if "bn" not in variable.name]
    optimizer, parts = optimizers.two_rates(model.backbone, model.head, FLAGS.learning_rate, FLAGS.head_learning_rate,
                                            FLAGS.steps, FLAGS.power, FLAGS.momentum, FLAGS.optimizer == "adam")

  builder = segmentation.open_builder(FLAGS.dataset, FLAGS.data_dir)
  training = segmentation.SegmentationExamples(builder, FLAGS.train_split, inputs, class_ids, FLAGS.cache, scale)
  validation = segmentation.SegmentationExamples(builder, FLAGS.validation_split, inputs, class_ids, FLAGS.cache)

  settings = loop.settings("crop_size", leave_out=OPERATIONAL_FLAGS)
  settings.update(source=builder.info.full_name, network=classifier.network.architecture, width=classifier.network.width,
                  input=inputs.kind, fingerprint=inputs.codec and inputs.codec.fingerprint.hex())
  run = loop.Run(FLAGS.run_dir, settings, model=model, **parts)
  done = run.restore()

  def replica_step(x, labels):
    with tf.GradientTape() as tape:
      logits = model(x, training=True)
      cross_entropy = losses.masked_cross_entropy(labels, logits, voc.VOID)
      loss = cross_entropy + losses.weight_decay(variables, FLAGS.weight_decay)
      # The gradients of the replicas are summed.
      scaled = loss / replicas
    optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables))
    return {"loss": loss, "cross_entropy": cross_entropy}

  train_step = loop.on_replicas(strategy, replica_step)
  segmenter = dc.Segmenter(model, inputs, class_names)
  means = loop.Means()
  with loop.progress_bar(FLAGS.steps, done) as bar:
    batches = loop.distribute(strategy, lambda: training.training_batches(
        FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, done), FLAGS.batch_size)
    for x, labels in batches:
      if done >= FLAGS.steps:
        break
      figures = train_step(x, labels)
      run.step.assign_add(1)
      done += 1
      bar.update()
      means.add(figures)
      if done % FLAGS.summary_every == 0 or done == FLAGS.steps:
        point = means.take()
        run.curves("train", {**point, "learning_rate": parts["body_optimizer"].learning_rate(run.step)})
        bar.set_postfix(loss=f"{point['loss']:.3f}")
      if done % FLAGS.checkpoint_every == 0 and done < FLAGS.steps:
        run.save()
      if done % FLAGS.validate_every == 0 and done < FLAGS.steps:
        validate(run, segmenter, validation, well_covered)
  if run.history() and run.history()[-1]["step"] == FLAGS.steps:
    logging.info("The run is done: %s", run.history()[-1])
    return
  run.save()
  segmenter = segmenter.copy(rounded=True)
  reached = validate(run, segmenter, validation, well_covered)
  segmenter.info = {
      "trained": {"program": "experiments.train_segmentation", "steps": done, "settings": settings,
                  "seconds": run.seconds(), "data_note": FLAGS.data_note},
      "reached_on_validation": reached}
  segmenter.save(os.path.join(run.folder, "segmenter"), FLAGS.operating_point or classifier.info.get("operating_point"))
  logging.info("Written to %s/segmenter", run.folder)


def validate(run, segmenter, validation, well_covered):
  """IoU on the validation split, into the curves and `history.jsonl`, with a few pictures."""
  begin = time.time()
  figures = measures.evaluate(segmenter.predict, validation, len(segmenter.class_names),
                              segmenter.classes_of(well_covered))
  run.curves("validation", {name: value for name, value in figures.items() if name != "iou"})
  with run.summaries("validation"):
    for i, (stored, label) in zip(range(4), validation.whole()):
      masks = (label, segmenter.predict(stored, *label.shape))
      pictures = [segmenter.seen(stored, *label.shape), *(measures.palette()[segmenter.voc_ids[mask]] for mask in masks)]
      tf.summary.image(f"input_truth_prediction/{i}", np.concatenate(pictures, axis=1)[np.newaxis])
  run.record(figures)
  logging.info("step %d: validation mIoU %.4f, pixel accuracy %.4f (%.0f s)", run.step.numpy(), figures["mean_iou"],
               figures["pixel_accuracy"], time.time() - begin)
  return figures


if __name__ == "__main__":
  loop.main(main)
