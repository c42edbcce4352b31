"""Trains a compression network for Eq. 1 (section 3.1, appendix A.1).

The paper's operating points, on ImageNet:
  python -m experiments.train_compression --flagfile=flags/compression/bpp0.330.flags --run_dir=...
Their twins for a folder of photos and two cores (the shipped operating points):
  python -m experiments.train_compression --flagfile=flags/compression/bpp0.330_small.flags \
      --images=PHOTOS --run_dir=...
The same command continues a run that was stopped. Curves: `tensorboard --logdir=RUN_DIR`.
"""

import os

from absl import flags
from absl import logging
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import fitting
from deepcomp_tf.codec import images as image_files
from deepcomp_tf.codec import operating_point
from deepcomp_tf.data import photos
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.models.compression import ENTROPIES
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import klt
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import photo_validation
from deepcomp_tf.training import schedules
from deepcomp_tf.training import starts
from deepcomp_tf.training.export import export_operating_point

FLAGS = flags.FLAGS
training_flags.define_flags()
flags.DEFINE_integer("steps", None, "Training steps.", required=True, lower_bound=1)
flags.DEFINE_integer("validate_every", 1000, "Steps between validations.", lower_bound=1)
flags.DEFINE_string("images", None, "Folder or pattern of photos to train on, in place of --dataset.")
flags.DEFINE_string("dataset", "imagenet2012", "TFDS data set to train on.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
flags.DEFINE_string("train_split", "train", "Split of --dataset to train on.")
flags.DEFINE_string("validation_split", "validation[:64]", "Split of --dataset to validate on.")
flags.DEFINE_string("measured_split", None, "Split of --dataset that the operating point's own figures are measured on; empty: "
                    "--validation_split.")
flags.DEFINE_integer("held_out", 30, "Photos of --images held back from training for validation; at most a tenth of them, but "
                     "one.", lower_bound=1)
flags.DEFINE_integer("channels", None, "C, channels of the representation.", required=True, lower_bound=1)
flags.DEFINE_integer("num_centers", 6, "L, centers of the quantizer.", lower_bound=2, upper_bound=256)
flags.DEFINE_float("temperature", 1.0, "sigma, temperature of the soft assignment.", lower_bound=1e-6)
flags.DEFINE_float("centers_l2", 0.0, "Factor of the L2 penalty on the centers.", lower_bound=0.0)
flags.DEFINE_enum("entropy", "pooled", ENTROPIES, "H of Eq. 1: entropy of one histogram (the paper), of one per "
                  "channel, or given the neighbours, as the files are coded.")
flags.DEFINE_float("beta", None, "beta of Eq. 1.", required=True, lower_bound=0.0)
flags.DEFINE_float("target_entropy", None, "H_t of Eq. 1, in bits per symbol.", required=True, lower_bound=0.0)
flags.DEFINE_float("rate_step", 0.0, "Step by which the weight of the rate term follows H - H_t, between 0 and beta; 0 "
                   "weighs with beta where a batch's H is above H_t, else with 0 (the paper).", lower_bound=0.0)
flags.DEFINE_integer("crop_size", 224, "Edge of the training crops in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_float("learning_rate", None, "Adam's learning rate.", required=True, lower_bound=0.0)
flags.DEFINE_enum("schedule", "constant", ["constant", "cosine"], "Course of the learning rate after a warm-up of a tenth of the "
                  "steps, at most 500.")
flags.DEFINE_float("gradient_clip", 0.0, "Largest norm of the gradient, all weights together; 0 is no limit.",
                   lower_bound=0.0)
flags.DEFINE_float("weight_average", 0.0, "Decay of the average of the weights that is validated and exported; 0 "
                   "takes the last weights.", lower_bound=0.0, upper_bound=0.9999)
flags.DEFINE_string("start", "random", "Weights to start from: random, klt, or an operating point (a name or a "
                    "folder), whose first channels are taken where it has more.")
flags.DEFINE_float("klt_step", 60.0, "Quantizer step of the KLT start, in pixel values.", lower_bound=0.01)
flags.DEFINE_float("start_scale", 1.0, "Factor on the representation of the operating point to start from; below 1 "
                   "quantizes it more coarsely.", lower_bound=1e-3)
flags.DEFINE_string("name", None, "Name of the operating point that the run ends in.", required=True)
flags.DEFINE_integer("tables_from", 360, "Training photos that the coder's tables are fitted to, and that the mean and deviation "
                     "of the representation are taken over.", lower_bound=1)
flags.DEFINE_string("data_note", "", "What the photos are and under which terms; written into the operating point.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("validate_every", "images", "data_dir", "name", "tables_from", "measured_split", "data_note")


def main(argv):
  del argv
  if FLAGS.crop_size % 8:
    raise dc.DeepcompError(f"--crop_size must be a multiple of 8. Received: {FLAGS.crop_size}")
  strategy = loop.begin()
  if FLAGS.images:
    paths, held_out = image_files.split_images(image_files.list_images(FLAGS.images), FLAGS.held_out)
    logging.info("%d photos to train on, %d to validate on.", len(paths), len(held_out))
    from_photos = photos.Photos(paths)
    of_tables = lambda: photos.read_photos(paths[:FLAGS.tables_from])
    batches = lambda first, part=WHOLE: from_photos.batches(FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first, part)
    validation = list(photos.read_photos(held_out))
  else:
    batches = lambda first, part=WHOLE: photos.tfds_crops(
        FLAGS.dataset, FLAGS.train_split, FLAGS.data_dir, FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first, part)
    of_tables = lambda: photos.tfds_images(FLAGS.dataset, FLAGS.train_split, FLAGS.data_dir, most=FLAGS.tables_from)
    validation = photos.tfds_images(FLAGS.dataset, FLAGS.validation_split, FLAGS.data_dir)

  with loop.networks(strategy):
    model = dc.models.CompressionModel(
        FLAGS.channels, FLAGS.num_centers, FLAGS.temperature, entropy=FLAGS.entropy, centers_l2=FLAGS.centers_l2,
        centers=None if FLAGS.start == "random" else klt.centers(FLAGS.num_centers))
    model.build([None, None, None, 3])
    rate_weight = tf.Variable(0.0, trainable=False, name="rate_weight")
  named = model.named_variables()

  settings = training_flags.settings("channels", leave_out=OPERATIONAL_FLAGS)
  if FLAGS.images:
    settings["photos"] = len(paths)
    for name in ("dataset", "train_split", "validation_split"):
      del settings[name]
  if FLAGS.start not in ("random", "klt"):
    settings["start"] = operating_point.read_info(FLAGS.start)["name"]

  def optimizer_parts():
    rate = schedules.WarmupCosine(FLAGS.learning_rate, FLAGS.steps, warmup=min(500, FLAGS.steps // 10),
                                  final=1.0 if FLAGS.schedule == "constant" else 0.01)
    return {"optimizer": (optimizers.averaging_adam(rate, FLAGS.weight_average), optimizers.trainable(named))}

  def loss(images, step):
    del step
    output = model(images, training=True)
    mse, bits = output.mse(images), output.bits_per_symbol
    value = losses.settled_rate_distortion(mse, bits, FLAGS.beta, FLAGS.target_entropy, rate_weight, FLAGS.rate_step)
    return value + tf.add_n(model.losses) if model.losses else value, {
        "loss": value, "mse": mse, "bits_per_symbol": bits, "bits_per_pixel": bits * FLAGS.channels / 64,
        "rate_weight": rate_weight.read_value()}

  def export(_, trained, __):
    """Fits the coder's tables and writes the operating point into the run's folder."""
    trained["data"] = f"{len(paths)} photos of a folder" if FLAGS.images else f"{FLAGS.dataset}, {FLAGS.train_split}"
    measured = validation if FLAGS.images or not FLAGS.measured_split else photos.tfds_images(
        FLAGS.dataset, FLAGS.measured_split, FLAGS.data_dir)
    return export_operating_point(os.path.join(FLAGS.run_dir, "operating_point"), model, of_tables(), measured,
                                  {"name": FLAGS.name, "trained": trained})

  loop.train(
      strategy, [loop.Stage(FLAGS.steps, loss, optimizer_parts, batches, gradient_clip=FLAGS.gradient_clip)],
      {**named, "rate_weight": rate_weight}, program="train_compression", settings=settings, result="operating_point",
      start=(lambda: start_from(strategy, model, FLAGS.start, batches)) if FLAGS.start != "random" else None,
      measure=lambda _: measure(strategy, model, validation), every=FLAGS.validate_every, export=export,
      shown=("mse", "bits_per_symbol", "bits_per_pixel"))


def start_from(strategy, model, start, batches):
  """Sets the weights of a new run to the KLT of its first training crops, or to those of another run."""
  if start == "klt":
    logging.info("Starting from the KLT of the first training crops.")
    basis = klt.block_basis(batches(0).take(max(1, 1600 // FLAGS.batch_size)), FLAGS.channels)
    klt.set_weights(model, basis, FLAGS.klt_step)
  else:
    starts.from_operating_point(model, dc.operating_points.load(start), FLAGS.start_scale)
  if FLAGS.entropy == "context":
    bits = starts.fit_entropy(strategy, model, batches(0), FLAGS.batch_size)
    logging.info("The fitted entropy of the start is %.3f bits per symbol, %.4f bits per pixel.",
                 bits, bits * FLAGS.channels / 64)


def measure(strategy, model, images):
  """Rate and distortion on whole photos, and the centers."""
  tf.summary.histogram("centers", tf.convert_to_tensor(model.quantizer.centers))
  # Without tables there are no files yet: the rate is the entropy layer's.
  networks = dc.Codec(operating_point.OperatingPoint(FLAGS.name, model.quantizer.centers.numpy(), fitting.flat_model(
      FLAGS.channels, FLAGS.num_centers, 0), model=model))
  return photo_validation.measure(strategy, networks, images,
                                  lambda _, symbols: entropy_of(model, symbols) * FLAGS.channels / 64)


def entropy_of(model, symbols):
  """H of one photo's symbols, in bits per symbol."""
  quantizer = model.quantizer
  values = quantizer.values(symbols)[tf.newaxis]
  return float(model.entropy(values if model.entropy_kind == "context" else
                             tf.one_hot(tf.cast(symbols, tf.int32), quantizer.num_centers)[tf.newaxis]))


if __name__ == "__main__":
  training_flags.main(main)
