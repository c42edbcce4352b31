"""Trains compression and classification on one representation for Eq. 2 (section 6.1, appendix A.8), or its control.

The paper's runs, on ImageNet:
  python -m experiments.train_joint --flagfile=flags/joint/bpp0.0983.flags --classifier=RUN/classifier --run_dir=...
Their twins for smaller images and two cores:
  python -m experiments.train_joint --flagfile=flags/joint/bpp0.0983_small.flags --dataset=FOLDER \
      --classifier=RUN/classifier --run_dir=...
Both networks start trained: the classifier, and the operating point that it was trained on. With --compression_only the
compression network alone is trained by the same schedule (the control of section 6.1). Images are compressed whole; the
classifier sees crops of their representation, as classifiers of compressed sets do, in training and in every measure.
The same command continues a run that was stopped. RUN_DIR/operating_point is what `dc.Codec.load` takes;
RUN_DIR/classifier is its classifier.
"""

import os

from absl import flags
from absl import logging
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import images
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.codec.operating_point import OperatingPoint
from deepcomp_tf.data import classification
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.photos import read_photos
from deepcomp_tf.errors import first_of
from deepcomp_tf.evaluation import accuracy
from deepcomp_tf.models.compression import ENTROPIES
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.training import distribution
from deepcomp_tf.training import export
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import schedules
from deepcomp_tf.training import starts

FLAGS = flags.FLAGS
training_flags.define_flags()
training_flags.define_batch_norm_flag()
training_flags.define_cache_flags(classification.CACHES)
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
flags.DEFINE_float("target_entropy", None, "H_t of Eq. 1, in bits per symbol; empty: that of the start on training images.",
                   lower_bound=0.0)
flags.DEFINE_integer("crop_size", 224, "8 times the edge of the crops of the representation.")
flags.DEFINE_integer("image_size", 256, "Edge of what is compressed of an image, in pixels: a part at random, in validation its "
                     "middle.", lower_bound=8)
flags.DEFINE_list("resize", [], "LOW,HIGH: images are resized to a shorter side of LOW for validation, of LOW to HIGH for "
                  "training.")
flags.DEFINE_integer("epochs", 9, "Passes through the training split.", lower_bound=1)
flags.DEFINE_list("decay_epochs", ["3", "6"], "After so many epochs the learning rate is divided by 10.")
flags.DEFINE_float("learning_rate", 0.0025, "Of all networks.", lower_bound=0.0)
flags.DEFINE_float("compression_learning_rate", None, "Of the compression network, which then trains with Adam; empty: SGD "
                   "at --learning_rate, as the classifier (the paper).", lower_bound=0.0)
training_flags.define_momentum_flags()
flags.DEFINE_float("gradient_clip", 0.0, "Largest norm of the gradient, all weights together; 0 is no limit (the paper).",
                   lower_bound=0.0)
flags.DEFINE_float("weight_decay", 1e-4, "Of the classifier's kernels.", lower_bound=0.0)
flags.DEFINE_string("images", None, "Photos that the coder's tables are fitted to, in place of the training split's; a folder "
                    "or pattern.")
flags.DEFINE_integer("tables_from", 360, "How many photos the coder's tables are fitted to.", lower_bound=1)
flags.DEFINE_integer("held_out", 30, "Photos of --images, at most a tenth of them, or of the validation split, to measure the "
                     "operating point on.", lower_bound=1)
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the results.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("dataset", "data_dir", "cache", "cache_dir", "operating_point", "classifier", "images", "data_note")


def main(argv):
  del argv
  strategy = loop.begin()
  decay_epochs = training_flags.rising("decay_epochs")
  if FLAGS.compression_learning_rate is not None and FLAGS.precision == "mixed_float16":
    raise dc.DeepcompError("expected --precision=float32 or mixed_bfloat16 with --compression_learning_rate, since two "
                           "optimizers do not share a scale of losses. Received: --precision=mixed_float16")
  training, validation = (
      classification.open_examples(FLAGS.dataset, split, NetworkInput("original"), FLAGS.data_dir, FLAGS.cache, FLAGS.cache_dir)
      for split in (FLAGS.train_split, FLAGS.validation_split))
  steps_per_epoch = loop.steps_per_epoch(len(training))
  start = OperatingPoint.load(FLAGS.operating_point)
  trained = classifier_on(start, training.source.class_names)
  crops_for = lambda inputs: Crops(inputs, False, FLAGS.crop_size, "representation", FLAGS.image_size,
                                   training_flags.numbers("resize", counts=(0, 2)) or None)
  crops = crops_for(trained.inputs)

  before = {"temperature": 1.0, "centers_l2": 0.0, **start.info.get("trained", {}).get("settings", {})}
  quantizer = {name: before[name] for name in ("temperature", "centers_l2")}
  with loop.networks(strategy):
    compression = dc.models.CompressionModel(
        start.channels, len(start.centers), centers=start.centers, entropy=FLAGS.entropy, **quantizer)
    network = make_network(trained.network.architecture, len(trained.class_names), trained.network.width,
                           trained.network.stride_in, synchronized=FLAGS.synchronized_batch_norm)
    model = dc.models.JointModel(compression, network, start.mean, start.deviation)
    model.build([None, None, None, 3])
    target_entropy = tf.Variable(FLAGS.target_entropy or 0.0, trainable=False, name="target_entropy")
  starts.from_operating_point(compression, start.model)
  starts.from_trained(network, trained.network, FLAGS.classifier)

  settings = training_flags.settings("gamma", leave_out=OPERATIONAL_FLAGS)
  settings.update(source=training.source.name, examples=len(training), start=start.fingerprint.hex(),
                  start_encoder=start.encoder_version, network=network.architecture, width=network.width, **quantizer)

  def set_out():
    few = distribution.shared_alike(min(8, FLAGS.batch_size), strategy)
    pixels = crops.training_batches(training, few, FLAGS.seed).map(lambda stored, _: stored)
    if FLAGS.entropy == "context":
      bits = starts.fit_entropy(strategy, compression, pixels.repeat(), few)
      logging.info("The start has %.3f bits per symbol of the training images.", bits)
    if FLAGS.target_entropy is None:
      target_entropy.assign(tf.reduce_mean([compression(batch).bits_per_symbol for batch in pixels.take(32)]))
      logging.info("H_t = %.3f bits per symbol.", target_entropy.numpy())

  def loss(stored, labels, step):
    learns = not FLAGS.compression_only
    output = compression(stored, training=learns)
    key = tf.stack([FLAGS.seed + 1, tf.cast(step, tf.int32)])
    figures = losses.classification(labels, model.logits_of(crops.cut(output.values, key), learns))
    # The compression losses are those of the global batch, on every replica; the cross entropy is the replica's.
    mse, bits = output.mse(stored), output.bits_per_symbol
    of_compression = losses.rate_distortion(mse, bits, FLAGS.beta, target_entropy) + tf.add_n([0.0, *compression.losses])
    value = losses.joint(of_compression, figures["cross_entropy"] if learns else 0.0, FLAGS.gamma)
    if learns:
      value += losses.weight_decay(network, FLAGS.weight_decay)
    return value, {"loss": value, "mse": mse, "bits_per_symbol": bits, **figures}

  def optimizer_parts():
    falling = lambda rate: schedules.divided_by_10(rate, decay_epochs, steps_per_epoch)
    sgd = lambda: optimizers.sgd(falling(FLAGS.learning_rate), FLAGS.momentum, FLAGS.momentum_of)
    named = optimizers.trainable(model.named_variables())
    of_compression, of_classifier = ({name: variable for name, variable in named.items() if name.startswith(part)}
                                     for part in ("compression/", "classifier/"))
    if FLAGS.compression_only:
      of_classifier = {}
    if FLAGS.compression_learning_rate is None:
      return {"optimizer": (sgd(), {**of_compression, **of_classifier})}
    adam = optimizers.adam(falling(FLAGS.compression_learning_rate))
    return {"compression_optimizer": (adam, of_compression), **({"optimizer": (sgd(), of_classifier)} if of_classifier else {})}

  def write(classifier, made, _):
    """Writes the operating point with its own tables, and the classifier; returns what they reach on what the files hold."""
    if FLAGS.images:
      paths, held_out = images.split_images(images.list_images(FLAGS.images), FLAGS.held_out)
      tables, measured = read_photos(paths[:FLAGS.tables_from]), list(read_photos(held_out))
    else:  # the first of a split are as good as any: sets are stored in a random order
      tables, measured = ([data for data, _ in examples.epoch().take(count).as_numpy_iterator()] for examples, count in
                          ((training, FLAGS.tables_from), (validation, FLAGS.held_out)))
    info = {**made, "trained_for": "compression only" if FLAGS.compression_only else "compression and classification"}
    folder = os.path.join(FLAGS.run_dir, "operating_point")
    reached = export.export_operating_point(folder, compression, tables, measured, {"name": FLAGS.name, "trained": info},
                                            (model.mean, model.deviation))
    classifier = dc.Classifier(classifier.network, NetworkInput("representation", dc.Codec.load(folder)), classifier.class_names)
    figures = accuracy.evaluator(classifier.network, crops_for(classifier.inputs), validation, FLAGS.batch_size)()
    classifier.info = {"crop_size": crops.crop_size, "crop": crops.crop, "image_size": crops.image_size, "resize": crops.resize,
                       "trained": info, "reached_on_validation": figures}
    classifier.save(os.path.join(FLAGS.run_dir, "classifier"))
    return {**figures, **reached}

  measure = measure_of(strategy, model, crops, validation)
  loop.train(
      strategy,
      [loop.Stage(FLAGS.epochs * steps_per_epoch, loss, optimizer_parts, lambda *place: crops.training_batches(
          training, FLAGS.batch_size, FLAGS.seed, *place), steps_per_epoch, FLAGS.gradient_clip)],
      {**model.named_variables(), "target_entropy": target_entropy}, program="train_joint",
      settings=settings, result="classifier",
      # Reading statistics that the replicas keep apart takes all workers, so every one makes the copy.
      keep=lambda: dc.Classifier(network, trained.inputs, trained.class_names).copy(rounded=True),
      start=set_out, measure_start=True, measure=lambda _: measure(), every=steps_per_epoch, count_epochs=True, export=write,
      shown=("mse", "bits_per_symbol", "top_1"))


def classifier_on(start, class_names):
  """The classifier to start from, after a look at whether it is a cResNet of these classes on that operating point."""
  trained = dc.Classifier.load(FLAGS.classifier, dc.Codec(start))
  if trained.inputs.kind != "representation":
    raise dc.DeepcompError(f"expected a classifier of the representation. Received: --classifier={FLAGS.classifier}, of "
                           f"{trained.inputs.kind} pixels")
  if isinstance(trained.network, dc.models.Graft):
    raise dc.DeepcompError(f"expected a cResNet. Received: --classifier={FLAGS.classifier}, a {trained.network.architecture}")
  if trained.class_names != class_names:
    raise dc.DeepcompError(f"expected the classes {first_of(trained.class_names)} of --classifier. "
                           f"Received: {first_of(class_names)}")
  return trained


def measure_of(strategy, model, crops, validation):
  """A function that measures accuracy, distortion and estimated rate on the middles of validation images, and shows a few."""
  pictures = next(iter(crops.evaluation_batches(validation, 4)))[0]

  def figures_of(stored, labels, counted):
    output = model.compression(stored, training=False)
    decoded = tf.clip_by_value(tf.round(output.reconstruction), 0.0, 255.0)
    error = tf.reduce_mean(tf.square(tf.cast(stored, tf.float32) - decoded), axis=[1, 2, 3])
    # H is of the whole batch, but for what fills it up.
    bits = model.compression.bits_of(output, counted)
    return {**accuracy.accuracies(model.logits_of(crops.cut(output.values), False), labels), "mse": error,
            "bits_per_symbol": tf.repeat(bits, tf.shape(error)[0])}

  means = accuracy.means_over(figures_of, crops, validation, FLAGS.batch_size, strategy)

  def measure():
    decoded = model.compression(pictures).reconstruction
    both = tf.saturate_cast(tf.round(tf.concat([tf.cast(pictures, tf.float32), decoded], axis=2)), tf.uint8)
    tf.summary.image("input_beside_reconstruction", both, max_outputs=4)
    return means()

  return measure


if __name__ == "__main__":
  training_flags.main(main)
