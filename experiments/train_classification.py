"""Trains a classification network on pixels, decoded pixels or the representation (section 4, appendix A.4).

The rows of Table 2, on ImageNet:
  python -m experiments.train_classification --flagfile=flags/classification/cresnet51_bpp0.330.flags --run_dir=...
Their twins for smaller images and two cores:
  python -m experiments.train_classification --flagfile=flags/classification/cresnet51_bpp0.330_small.flags \
      --dataset=SET --run_dir=...
SET is a TFDS set, a folder with split/class/*.jpg, or a set that `experiments.compress_dataset` wrote; images that
are not compressed yet are compressed on the way, by the fixed networks of the operating point. The same command
continues a run that was stopped. RUN_DIR/classifier is what `dc.Classifier.load` takes.

Own classes, from a shipped classifier, whose last layer is trained anew (minutes on two cores; FOLDER has a folder of photos for
each class):
  python -m experiments.train_classification --flagfile=flags/classification/own_classes.flags --dataset=FOLDER --run_dir=...
"""

from absl import flags
from absl import logging
import numpy as np
import tensorflow as tf
import tqdm

import deepcomp_tf as dc
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import classification
from deepcomp_tf.data import crops as cropping
from deepcomp_tf.data.store import Store
from deepcomp_tf.errors import first_of
from deepcomp_tf.evaluation import accuracy
from deepcomp_tf.layers import naming
from deepcomp_tf.layers.bottleneck import STRIDE_PLACES
from deepcomp_tf.models import pretrained
from deepcomp_tf.models import resnet
from deepcomp_tf.representation import INPUTS
from deepcomp_tf.tasks import last_layer
from deepcomp_tf.tasks import teachers
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import schedules
from deepcomp_tf.training import starts

FLAGS = flags.FLAGS
training_flags.define_flags()
training_flags.define_batch_norm_flag()
flags.DEFINE_string("dataset", "imagenet2012", "TFDS set, set of compressed files, or folder of split/class/*.jpg; one of "
                    "class/*.jpg has the split train.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("train_split", "train", "Split of --dataset to train on.")
flags.DEFINE_string("validation_split", "validation", "Split of --dataset to validate on.")
flags.DEFINE_integer("examples_per_class", 0, "Training takes the first so many of each class; 0 takes all.", lower_bound=0)
flags.DEFINE_enum("network", None, list(resnet.ARCHITECTURES), "Network of Table 1; by default that of --start.")
flags.DEFINE_float("width", 1.0, "Factor on the network's numbers of channels.", lower_bound=0.01)
flags.DEFINE_enum("stride_in", "conv1", STRIDE_PLACES, "Where the network subsamples: as in Table 3 (conv1) or as in "
                  "TF-Slim (conv2).")
flags.DEFINE_enum("input", None, INPUTS, "What the network sees of a photo; by default as of --start.")
flags.DEFINE_string("operating_point", None, "The compression network: a name or a folder; by default that of --start.")
training_flags.define_cache_flags(classification.CACHES)
flags.DEFINE_integer("crop_size", 224, "Edge of the crops in pixels, 8 times that of the representation's.")
flags.DEFINE_enum("crop", "pixels", cropping.CROPS, "Of images that are compressed on the way: whether their pixels are cropped, "
                  "or the representation of --image_size pixels.")
flags.DEFINE_integer("image_size", 256, "Edge of the images whose representation is cropped.", lower_bound=8)
flags.DEFINE_list("resize", [], "LOW,HIGH: images are resized to a shorter side of LOW for validation, of LOW to HIGH for "
                  "training. Compressed files keep their size.")
flags.DEFINE_integer("epochs", 28, "Passes through the training split; 0 only with --last_layer_steps.", lower_bound=0)
flags.DEFINE_list("decay_epochs", ["8", "16", "24"], "After so many epochs the learning rate is divided by 10.")
flags.DEFINE_float("learning_rate", 0.025, "At a batch of 64; scaled in proportion to the batch (Goyal et al. 2017).",
                   lower_bound=0.0)
training_flags.define_momentum_flags()
training_flags.define_pixel_mean_flag("imagenet")
flags.DEFINE_float("weight_decay", 1e-4, "Of kernels.", lower_bound=0.0)
flags.DEFINE_string("start", None, "Trained classifier to start from, in place of random weights: a shipped one, a folder, or "
                    "for --input=decoded and original a pretrained network, as of train_graft's --backbone. Where it knows other "
                    "classes, the last layer is a new one.")
flags.DEFINE_integer("last_layer_steps", 0, "Before the epochs the last layer alone learns for so many steps, from what it sees "
                     "of the photos' centers, which is computed once.", lower_bound=0)
training_flags.define_start_share_flag()
flags.DEFINE_string("data_note", "", "What the images are and under which terms; written into the classifier.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("dataset", "data_dir", "cache", "cache_dir", "operating_point", "start", "data_note")
LEARNING_RATE_BATCH = 64


def main(argv):
  del argv
  strategy = loop.begin()
  trained = FLAGS.start and load_start()
  inputs = checked_inputs(trained)
  decay_epochs = training_flags.rising("decay_epochs")
  training, validation = (
      classification.open_examples(FLAGS.dataset, split, inputs, FLAGS.data_dir, FLAGS.cache, FLAGS.cache_dir, of_each)
      for split, of_each in ((FLAGS.train_split, FLAGS.examples_per_class), (FLAGS.validation_split, 0)))
  for examples in (training, validation):
    report(examples)
  class_names = training.source.class_names
  if validation.source.class_names != class_names:
    raise dc.DeepcompError("expected the same classes in the splits for training and validation. Received: "
                           f"{first_of(class_names)} and {first_of(validation.source.class_names)}")
  steps_per_epoch = loop.steps_per_epoch(len(training)) if FLAGS.epochs else 1
  crops = cropping.Crops(inputs, training.source.bitstreams, FLAGS.crop_size, FLAGS.crop, FLAGS.image_size,
                         training_flags.numbers("resize", counts=(0, 2)) or None, bool(training.pixels_codec))

  with loop.networks(strategy):
    network = make_network(trained, inputs, class_names)
  if trained and trained.class_names == class_names:
    starts.from_trained(network, trained.network, FLAGS.start)
  elif FLAGS.start_share:
    raise dc.DeepcompError("expected --start_share with a classifier to --start from that knows the same classes. Received: "
                           f"--start_share={FLAGS.start_share:g} --start={FLAGS.start}")
  named = network.named_variables()

  settings = training_flags.settings("network", leave_out=OPERATIONAL_FLAGS)
  if FLAGS.start:
    settings.update(start="trained", network=network.architecture, input=inputs.kind)
  settings["resize"] = list(map(str, crops.resize or ()))  # compressed files keep their size
  settings.update(source=training.source.name, examples=len(training), fingerprint=inputs.codec and
                  inputs.codec.fingerprint.hex())

  def optimizer_parts():
    rate = schedules.divided_by_10(FLAGS.learning_rate * FLAGS.batch_size / LEARNING_RATE_BATCH, decay_epochs, steps_per_epoch)
    return {"optimizer": (optimizers.sgd(rate, FLAGS.momentum, FLAGS.momentum_of), optimizers.trainable(named))}

  def loss(stored, labels, step):
    x = crops.on_device(stored, tf.stack([FLAGS.seed + 1, tf.cast(step, tf.int32)]))
    figures = losses.classification(labels, network(x, training=True))
    value = figures["cross_entropy"] + losses.weight_decay(network, FLAGS.weight_decay)
    return value, {"loss": value, **figures}

  evaluate = lambda network: accuracy.evaluator(network, crops, validation, FLAGS.batch_size, strategy=strategy)
  evaluate_training = evaluate(network)  # traced once

  loop.train(
      strategy,
      [loop.Stage(FLAGS.epochs * steps_per_epoch, loss, optimizer_parts, lambda *place: crops.training_batches(
          training, FLAGS.batch_size, FLAGS.seed, *place), steps_per_epoch)],
      {f"network/{name}": variable for name, variable in named.items()}, program="train_classification", settings=settings,
      result="classifier",
      keep=lambda: starts.kept(dc.Classifier(network, inputs, class_names), FLAGS.start_share and trained.network, FLAGS.start,
                               FLAGS.start_share),
      start=(lambda: fit_last_layer(network, crops, training)) if FLAGS.last_layer_steps else None,
      measure=lambda kept: evaluate(kept.network)() if kept else evaluate_training(), every=steps_per_epoch, count_epochs=True,
      export=loop.save_task("classifier", crop_size=crops.crop_size, crop=crops.crop, image_size=crops.image_size,
                            resize=crops.resize), shown=("loss", "top_1"))


def load_start():
  """The classifier of --start; of a network for pixels that is no classifier here, on --input and --operating_point."""
  codec = FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point)
  if FLAGS.start not in pretrained.backbone_names() and not FLAGS.start.endswith((".tflite", ".keras", ".h5")):
    return dc.Classifier.load(FLAGS.start, codec)
  if FLAGS.input not in ("decoded", "original") or (FLAGS.input == "decoded") != bool(codec):
    raise dc.DeepcompError(f"expected --input=decoded with --operating_point, or --input=original, with --start={FLAGS.start}, a "
                           f"network for pixels. Received: --input={FLAGS.input} --operating_point={FLAGS.operating_point}")
  teacher = teachers.load_teacher(FLAGS.start)
  return dc.Classifier(
      teacher.cut_network(None), NetworkInput(FLAGS.input, codec, pixel_mean=FLAGS.pixel_mean), teacher.class_names)


def checked_inputs(trained):
  """The network's input, after a look at whether the flags go together; `trained` is the classifier of --start, or None."""
  if not trained:
    if FLAGS.network is None or FLAGS.input is None:
      raise dc.DeepcompError("expected --network and --input, or --start. Received: "
                             f"--network={FLAGS.network} --input={FLAGS.input} without --start")
    if FLAGS.last_layer_steps or not FLAGS.epochs:
      raise dc.DeepcompError("expected --last_layer_steps, and --epochs=0, with --start. Received: "
                             f"--last_layer_steps={FLAGS.last_layer_steps} --epochs={FLAGS.epochs} without it")
  elif not FLAGS.epochs and not FLAGS.last_layer_steps:
    raise dc.DeepcompError("expected --epochs or --last_layer_steps above 0. Received: 0 of both")
  kind = FLAGS.input or trained.inputs.kind
  network = FLAGS.network or trained.network.architecture
  if network in resnet.ARCHITECTURES and resnet.takes_representation(network) != (kind == "representation"):
    raise dc.DeepcompError(f"expected a ResNet for pixels or a cResNet for the representation. Received: "
                           f"--network={network} --input={kind}")
  if trained and (kind, network) != (trained.inputs.kind, trained.network.architecture):
    raise dc.DeepcompError(f"expected a classifier to start from of {network} and the input {kind}. "
                           f"Received: --start={FLAGS.start}, of {trained.network.architecture} and {trained.inputs.kind}")
  if (kind == "original") != (FLAGS.operating_point is None) and not (trained and FLAGS.operating_point is None):
    raise dc.DeepcompError("--operating_point is for --input=decoded and --input=representation, which need it. "
                           f"Received: --input={kind} --operating_point={FLAGS.operating_point}")
  codec = trained.codec if trained else FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point)
  return NetworkInput(kind, codec, pixel_mean=FLAGS.pixel_mean)


def make_network(trained, inputs, class_names):
  """The network that learns: of the flags, or that of --start, for other classes with a new last layer."""
  if trained and trained.class_names != class_names:
    logging.info("A new last layer, for %d classes in place of %d.", len(class_names), len(trained.class_names))
    return dc.models.with_classes(trained.network, len(class_names), inputs.channels)
  if FLAGS.network:
    network = resnet.make_network(FLAGS.network, len(class_names), FLAGS.width, FLAGS.stride_in,
                                  synchronized=FLAGS.synchronized_batch_norm)
  else:
    network = dc.models.from_blueprint(trained.network.blueprint(), len(class_names))
  naming.build(network, inputs.channels)
  return network


def fit_last_layer(network, crops, examples):
  """Trains the last layer alone, from what it sees of the photos' centers."""
  see = tf.function(lambda stored: network.vectors(crops.on_device(stored), training=False), jit_compile=False)
  batches = tqdm.tqdm(crops.evaluation_batches(examples, FLAGS.batch_size), desc="what the last layer sees", unit="batch",
                      total=-(-len(examples) // FLAGS.batch_size), mininterval=10)
  vectors, labels = zip(*((see(stored).numpy(), truth.numpy()) for stored, truth in batches))
  loss = last_layer.fit(network.last_layer, np.concatenate(vectors), np.concatenate(labels), FLAGS.last_layer_steps,
                        seed=FLAGS.seed)
  logging.info("The last layer has learned: loss %.3g of %d examples.", loss, sum(map(len, labels)))


def report(examples):
  """Says what a split takes, and what of it could not be read."""
  logging.info("%s: %d examples", examples.source.name, len(examples))
  if isinstance(examples, Store):
    logging.info("%.1f MB of files are %.1f MB in %s.", examples.stored_bytes / 1e6, examples.memory_bytes / 1e6, examples.folder)
    for line in examples.skipped[:5]:
      logging.warning("Left out: %s", line)
    if examples.skipped:
      logging.warning("%d examples of %s cannot be decoded and are left out.", len(examples.skipped), examples.source.name)


if __name__ == "__main__":
  training_flags.main(main)
