"""Trains compression and classification on one representation for Eq. 2 (section 6, appendix A.8), or its control.

The paper's runs, on ImageNet:
  python -m experiments.train_joint --flagfile=flags/joint/bpp0.0983.flags --classifier=RUN/classifier --run_dir=...
Their twins for smaller images and two cores:
  python -m experiments.train_joint --flagfile=flags/joint/bpp0.0983_small.flags --dataset=FOLDER \
      --classifier=RUN/classifier --run_dir=...
Both networks start trained: the classifier, and the operating point that it was trained on. With --compression_only the
compression network alone is trained by the same schedule (the control of section 6.1). The same command continues a run
that was stopped. RUN_DIR/operating_point is what `dc.Codec.load` takes; RUN_DIR/classifier is its classifier.
"""

import os
import time

from absl import flags
from absl import logging
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import split_images
from deepcomp_tf.data import classification
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.photos import read_photos
from deepcomp_tf.evaluation import accuracy
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.codec.operating_point import OperatingPoint
from deepcomp_tf.models.compression import ENTROPIES
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.training import distribution
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import runs
from deepcomp_tf.training import schedules
from deepcomp_tf.training import starts
from deepcomp_tf.training.export import export_operating_point

FLAGS = flags.FLAGS
training_flags.define_flags()
training_flags.define_batch_norm_flag()
flags.DEFINE_string("dataset", "imagenet2012", "TFDS set of images, or folder of split/class/*.jpg.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("train_split", "train", "Split of --dataset to train on.")
flags.DEFINE_string("validation_split", "validation", "Split of --dataset to validate on.")
flags.DEFINE_string("classifier", None, "Trained classifier of the representation to start from.", required=True)
flags.DEFINE_string("operating_point", None, "Its operating point, to start from: a name or a folder.", required=True)
flags.DEFINE_bool("compression_only", False, "Train the compression network alone, for gamma times Eq. 1.")
flags.DEFINE_string("name", None, "Name of the operating point that the run ends in.", required=True)
flags.DEFINE_float("gamma", 0.001, "Weight of the compression loss in Eq. 2.", lower_bound=0.0)
flags.DEFINE_enum("entropy", "pooled", ENTROPIES, "H of Eq. 1: entropy of one histogram (the paper), of one per "
                  "channel, or given the neighbours, as the files are coded.")
flags.DEFINE_float("beta", None, "beta of Eq. 1.", required=True, lower_bound=0.0)
flags.DEFINE_float("target_entropy", None, "H_t of Eq. 1, in bits per symbol; empty: that of the start on training crops.",
                   lower_bound=0.0)
training_flags.define_cache_flags(classification.CACHES)
flags.DEFINE_integer("crop_size", 224, "Edge of the crops in pixels, a multiple of 8.")
flags.DEFINE_list("resize", [], "LOW,HIGH: images are resized to a shorter side of LOW for validation, of LOW to HIGH for "
                  "training.")
flags.DEFINE_integer("epochs", 9, "Passes through the training split.", lower_bound=1)
flags.DEFINE_list("decay_epochs", ["3", "6"], "After so many epochs the learning rate is divided by 10.")
flags.DEFINE_float("learning_rate", 0.0025, "Of all networks.", lower_bound=0.0)
flags.DEFINE_float("compression_learning_rate", None, "Of the compression network, which then trains with Adam; empty: SGD "
                   "at --learning_rate, as the classifier (the paper).", lower_bound=0.0)
flags.DEFINE_float("momentum", 0.9, "Of SGD.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_float("gradient_clip", 0.0, "Largest norm of the gradient, all weights together; 0 is no limit (the paper).",
                   lower_bound=0.0)
flags.DEFINE_float("weight_decay", 1e-4, "Of the classifier's kernels.", lower_bound=0.0)
flags.DEFINE_string("images", None, "Photos that the coder's tables are fitted to, in place of the training split's; a folder "
                    "or pattern.")
flags.DEFINE_integer("tables_from", 360, "How many photos the coder's tables are fitted to.", lower_bound=1)
flags.DEFINE_integer("held_out", 30, "Photos of --images, or of the validation split, to measure the operating point on.",
                     lower_bound=1)
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the results.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("dataset", "data_dir", "cache", "cache_dir", "operating_point", "classifier", "images", "data_note")


def main(argv):
  del argv
  strategy = distribution.make_strategy(FLAGS.strategy)
  tf.keras.utils.set_random_seed(FLAGS.seed)
  decay_epochs = training_flags.rising("decay_epochs")
  resize = training_flags.numbers("resize", counts=(0, 2)) or None
  if FLAGS.compression_learning_rate is not None and FLAGS.precision == "mixed_float16":
    raise dc.DeepcompError("expected --precision=float32 or mixed_bfloat16 with --compression_learning_rate, since two "
                           "optimizers do not share a scale of losses. Received: --precision=mixed_float16")

  pixels = NetworkInput("original")
  training, validation = (
      classification.open_examples(FLAGS.dataset, split, pixels, FLAGS.data_dir, FLAGS.cache, FLAGS.cache_dir)
      for split in (FLAGS.train_split, FLAGS.validation_split))
  crops = Crops(pixels, False, FLAGS.crop_size, resize=resize)
  steps_per_epoch = len(training) // FLAGS.batch_size
  if not steps_per_epoch:
    raise dc.DeepcompError(f"--batch_size must be at most the {len(training)} training examples. "
                           f"Received: {FLAGS.batch_size}")
  start = OperatingPoint.load(FLAGS.operating_point)
  trained = dc.Classifier.load(FLAGS.classifier, dc.Codec(start))
  if trained.inputs.kind != "representation":
    raise dc.DeepcompError(f"expected a classifier of the representation. Received: --classifier={FLAGS.classifier}, of "
                           f"{trained.inputs.kind} pixels")
  if isinstance(trained.network, dc.models.Graft):
    raise dc.DeepcompError(f"expected a cResNet. Received: --classifier={FLAGS.classifier}, a {trained.network.architecture}")
  if trained.class_names != training.source.class_names:
    raise dc.DeepcompError(f"expected the classes {', '.join(trained.class_names[:5])}... of --classifier. Received: "
                           f"{', '.join(training.source.class_names[:5])}...")

  with strategy.scope():
    with distribution.precision(FLAGS.precision):
      compression = dc.models.CompressionModel(
          start.channels, len(start.centers), centers=start.centers, entropy=FLAGS.entropy)
      network = make_network(trained.network.architecture, len(trained.class_names), trained.network.width,
                             trained.network.stride_in, synchronized=FLAGS.synchronized_batch_norm)
      model = dc.models.JointModel(compression, network, start.mean, start.deviation)
      model.build([None, None, None, 3])
    starts.from_operating_point(compression, start.model)
    weights = trained.network.named_variables()
    for name, variable in network.named_variables().items():
      variable.assign(weights[name].numpy())
    optimizer = make_optimizers(model, lambda rate: schedules.divided_by_10(rate, decay_epochs, steps_per_epoch))
    target_entropy = tf.Variable(FLAGS.target_entropy or 0.0, trainable=False, name="target_entropy")

  settings = training_flags.settings("gamma", leave_out=OPERATIONAL_FLAGS)
  settings.update(source=training.source.name, examples=len(training), start=start.fingerprint.hex(),
                  network=network.architecture, width=network.width)
  run = runs.Run(FLAGS.run_dir, settings, "classifier", {
      **model.named_variables(), **optimizer.named_variables(), "target_entropy": target_entropy})
  if run.is_done():
    return
  done, total = run.restore(), FLAGS.epochs * steps_per_epoch
  measure = measure_of(strategy, model, crops, validation)
  pictures = next(iter(crops.evaluation_batches(validation, 4)))[0]
  if not done:
    few = distribution.shared_alike(min(8, FLAGS.batch_size), strategy)
    images = crops.training_batches(training, few, FLAGS.seed).map(lambda stored, _: stored)
    if FLAGS.entropy == "context":
      bits = starts.fit_entropy(strategy, compression, images.repeat(), few)
      logging.info("The start has %.3f bits per symbol of the training crops.", bits)
    if FLAGS.target_entropy is None:
      target_entropy.assign(tf.reduce_mean([compression(batch).bits_per_symbol for batch in images.take(32)]))
      logging.info("H_t = %.3f bits per symbol.", target_entropy.numpy())
    validate(run, measure, model, pictures, 0)

  def replica_step(stored, labels, step):
    del step
    with tf.GradientTape() as tape:
      output = model(stored, training=not FLAGS.compression_only)
      error = tf.cast(stored, tf.float32) - output.compression.reconstruction
      # The compression losses are those of the global batch, on every replica; the cross entropy is the replica's.
      mse = dc.layers.replica_mean(tf.reduce_mean(tf.square(error)))
      bits = output.compression.bits_per_symbol
      rate_distortion = losses.rate_distortion(mse, bits, FLAGS.beta, target_entropy)
      cross_entropy = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, output.logits))
      if FLAGS.compression_only:
        loss = losses.joint(rate_distortion, 0.0, FLAGS.gamma)
      else:
        loss = losses.joint(rate_distortion, cross_entropy, FLAGS.gamma) + losses.weight_decay(
            model.classifier, FLAGS.weight_decay)
      scaled = optimizer.scaled(loss)
    optimizer.step(tape, scaled)
    correct = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(output.logits, -1), labels), tf.float32))
    return {"loss": loss, "mse": mse, "bits_per_symbol": bits, "cross_entropy": cross_entropy, "top_1": correct}

  batches = runs.epoch_batches(
      strategy, lambda *place: crops.training_batches(training, FLAGS.batch_size, FLAGS.seed, *place),
      FLAGS.batch_size, FLAGS.epochs, steps_per_epoch, done)
  steps = run.steps(
      batches, distribution.on_replicas(strategy, replica_step), total, checkpoint_every=FLAGS.checkpoint_every,
      summary_every=FLAGS.summary_every, curves=optimizer.learning_rates,
      describe=lambda point: {"mse": f"{point['mse']:.1f}", "H": f"{point['bits_per_symbol']:.3f}",
                              "top_1": f"{point['top_1']:.3f}"})
  for done in steps:
    if done % steps_per_epoch == 0:
      validate(run, measure, model, pictures, done // steps_per_epoch)
  # Reading statistics that the replicas keep apart takes all workers, so every one makes the copy.
  classifier = dc.Classifier(model.classifier, trained.inputs, trained.class_names).copy(rounded=True)
  if run.is_chief:
    export(run, model, classifier, training, validation, crops)
  distribution.wait_for_all(strategy)


def make_optimizers(model, falling):
  """The optimizer of all networks, or one for each of the two; `falling` makes a schedule of a learning rate."""
  named = {name: variable for name, variable in model.named_variables().items() if variable.trainable}
  of_compression, of_classifier = ({name: variable for name, variable in named.items() if name.startswith(part)}
                                   for part in ("compression/", "classifier/"))
  if FLAGS.compression_only:
    of_classifier = {}
  sgd = optimizers.sgd(falling(FLAGS.learning_rate), FLAGS.momentum)
  if FLAGS.compression_learning_rate is None:
    parts = {"optimizer": (sgd, {**of_compression, **of_classifier})}
  else:
    adam = optimizers.adam(falling(FLAGS.compression_learning_rate))
    parts = {"compression_optimizer": (adam, of_compression)}
    if of_classifier:
      parts["optimizer"] = sgd, of_classifier
  return optimizers.Optimizers(parts, FLAGS.gradient_clip, scale_losses=FLAGS.precision == "mixed_float16")


def measure_of(strategy, model, crops, validation):
  """A function that measures accuracy, distortion and estimated rate on the center crops of the validation split."""
  def figures_of(stored, labels, counted):
    output = model(stored, training=False)
    decoded = tf.clip_by_value(tf.round(output.compression.reconstruction), 0.0, 255.0)
    error = tf.reduce_mean(tf.square(tf.cast(stored, tf.float32) - decoded), axis=[1, 2, 3])
    # H is of the whole batch, but for what fills it up.
    bits = model.compression.bits_of(output.compression, counted)
    return {"top_1": tf.math.in_top_k(labels, output.logits, 1), "mse": error,
            "bits_per_symbol": tf.repeat(bits, tf.shape(error)[0])}

  return accuracy.means_over(figures_of, crops, validation, FLAGS.batch_size, strategy)


def validate(run, measure, model, pictures, epoch):
  """What `measure` gives, into the curves and `history.jsonl`, with the reconstruction of some pictures."""
  begin = time.time()
  figures = measure()
  run.curves("validation", figures)
  with run.summaries("validation"):
    decoded = model.compression(pictures).reconstruction
    both = tf.saturate_cast(tf.round(tf.concat([tf.cast(pictures, tf.float32), decoded], axis=2)), tf.uint8)
    tf.summary.image("input_beside_reconstruction", both, max_outputs=4)
  run.record({"epoch": epoch, **figures})
  logging.info("epoch %d: validation %s (%.0f s)", epoch,
               "  ".join(f"{name} {value:.4g}" for name, value in figures.items()), time.time() - begin)


def export(run, model, classifier, training, validation, crops):
  """Writes the operating point with its own tables, and the classifier, measured on what the files hold."""
  if FLAGS.images:
    paths, held_out = split_images(list_images(FLAGS.images), FLAGS.held_out)
    tables, measured = read_photos(paths[:FLAGS.tables_from]), list(read_photos(held_out))
  else:
    tables, measured = (images_of(examples, count) for examples, count in
                        ((training, FLAGS.tables_from), (validation, FLAGS.held_out)))
  kind = "compression only" if FLAGS.compression_only else "compression and classification"
  info = {"program": "experiments.train_joint", "trained_for": kind, "steps": int(run.step.numpy()), "settings": run.settings,
          "seconds": run.seconds(), "data_note": FLAGS.data_note}
  folder = os.path.join(run.folder, "operating_point")
  reached = export_operating_point(folder, model.compression, tables, measured, {"name": FLAGS.name, "trained": info},
                                   (model.mean, model.deviation))
  codec = dc.Codec.load(folder)
  classifier = dc.Classifier(classifier.network, NetworkInput("representation", codec), classifier.class_names)
  from_files = Crops(classifier.inputs, False, FLAGS.crop_size, resize=crops.resize)
  figures = accuracy.evaluator(classifier.network, from_files, validation, FLAGS.batch_size)()
  classifier.info = {"crop_size": FLAGS.crop_size, "resize": crops.resize, "trained": info, "reached_on_validation": figures}
  classifier.save(run.result)
  run.record({"epoch": FLAGS.epochs, **figures, **reached})
  logging.info("Written to %s: validation %s", run.folder,
               "  ".join(f"{name} {value:.4g}" for name, value in {**figures, **reached}.items()))


def images_of(examples, count):
  """`count` images of a set, evenly spread."""
  chosen = set(np.linspace(0, len(examples) - 1, count).round().astype(int).tolist())
  return [data for number, (data, _) in enumerate(examples.epoch().as_numpy_iterator()) if number in chosen]


if __name__ == "__main__":
  training_flags.main(main)
