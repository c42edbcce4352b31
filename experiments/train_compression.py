"""Trains a compression network for Eq. 1 (section 3.1, appendix A.1).

The paper's operating points, on ImageNet:
  python -m experiments.train_compression --flagfile=flags/compression/bpp0.330.flags --run_dir=...
Their twins for a folder of photos and two cores (the shipped operating points):
  python -m experiments.train_compression --flagfile=flags/compression/bpp0.330_small.flags \
      --images=PHOTOS --run_dir=...
The same command continues a run that was stopped. Curves: `tensorboard --logdir=RUN_DIR`.
"""

from absl import flags
from absl import logging
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import fitting
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import split_images
from deepcomp_tf.data import photos
from deepcomp_tf.data.part import distribute
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.models.compression import ENTROPIES
from deepcomp_tf.training import distribution
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import klt
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import photo_validation
from deepcomp_tf.training import runs
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
flags.DEFINE_integer("held_out", 30, "Photos of --images held back from training for validation.", lower_bound=1)
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
flags.DEFINE_integer("tables_from", 360, "Training photos that the coder's tables are fitted to.", lower_bound=1)
flags.DEFINE_string("data_note", "", "What the photos are and under which terms; written into the operating point.")
flags.DEFINE_bool("export_now", False, "Write the operating point of the last checkpoint and stop. Without the flag the "
                  "same command goes on from there.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("validate_every", "images", "data_dir", "name", "tables_from", "data_note", "export_now")


def main(argv):
  del argv
  if FLAGS.crop_size % 8:
    raise dc.DeepcompError(f"--crop_size must be a multiple of 8. Received: {FLAGS.crop_size}")
  strategy = distribution.make_strategy(FLAGS.strategy)
  tf.keras.utils.set_random_seed(FLAGS.seed)

  if FLAGS.images:
    paths, held_out = split_images(list_images(FLAGS.images), FLAGS.held_out)
    logging.info("%d photos to train on, %d to validate on.", len(paths), len(held_out))
    from_photos = photos.Photos(paths)
    batches = lambda first, part=WHOLE: from_photos.batches(FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first, part)
    validation = list(photos.read_photos(held_out))
  else:
    batches = lambda first, part=WHOLE: photos.tfds_crops(
        FLAGS.dataset, FLAGS.train_split, FLAGS.data_dir, FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first, part)
    validation = photos.tfds_images(FLAGS.dataset, FLAGS.validation_split, FLAGS.data_dir)

  with strategy.scope():
    with distribution.precision(FLAGS.precision):
      model = dc.models.CompressionModel(
          FLAGS.channels, FLAGS.num_centers, FLAGS.temperature, entropy=FLAGS.entropy, centers_l2=FLAGS.centers_l2,
          centers=None if FLAGS.start == "random" else klt.centers(FLAGS.num_centers))
      model.build([None, None, None, 3])
    rate = schedules.WarmupCosine(FLAGS.learning_rate, FLAGS.steps, warmup=min(500, FLAGS.steps // 10),
                                  final=1.0 if FLAGS.schedule == "constant" else 0.01)
    adam = optimizers.adam(rate, use_ema=FLAGS.weight_average > 0, ema_momentum=FLAGS.weight_average or 0.99)
    trained = {name: variable for name, variable in model.named_variables().items() if variable.trainable}
    optimizer = optimizers.Optimizers({"optimizer": (adam, trained)}, FLAGS.gradient_clip,
                                      scale_losses=FLAGS.precision == "mixed_float16")
    rate_weight = tf.Variable(0.0, trainable=False, name="rate_weight")

  settings = training_flags.settings("channels", leave_out=OPERATIONAL_FLAGS)
  if FLAGS.images:
    settings["photos"] = len(paths)
    for name in ("dataset", "train_split", "validation_split"):
      del settings[name]
  if FLAGS.start not in ("random", "klt"):
    settings["start"] = operating_point.read_info(FLAGS.start)["name"]
  run = runs.Run(FLAGS.run_dir, settings, "operating_point",
                 {**model.named_variables(), **optimizer.named_variables(), "rate_weight": rate_weight})
  if not FLAGS.export_now and not exported_early(run) and run.is_done():
    return
  done = run.restore()
  if FLAGS.export_now and not done:
    raise dc.DeepcompError(f"--export_now takes a run with a checkpoint. Received: --run_dir={FLAGS.run_dir}, without one")
  if not done and FLAGS.start != "random":
    start_from(strategy, model, FLAGS.start, batches)

  def replica_step(images, step):
    del step
    with tf.GradientTape() as tape:
      output = model(images, training=True)
      error = tf.cast(images, tf.float32) - output.reconstruction
      # The figures are those of the global batch, on every replica.
      mse = dc.layers.replica_mean(tf.reduce_mean(tf.square(error)))
      bits = output.bits_per_symbol
      loss = losses.settled_rate_distortion(mse, bits, FLAGS.beta, FLAGS.target_entropy, rate_weight, FLAGS.rate_step)
      scaled = optimizer.scaled(loss + tf.add_n(model.losses) if model.losses else loss)
    optimizer.step(tape, scaled)
    return {"loss": loss, "mse": mse, "bits_per_symbol": bits, "bits_per_pixel": bits * FLAGS.channels / 64,
            "rate_weight": rate_weight.read_value()}

  steps = run.steps(
      zip(distribute(strategy, lambda part: batches(done, part), FLAGS.batch_size)),
      distribution.on_replicas(strategy, replica_step), 0 if FLAGS.export_now else FLAGS.steps,
      checkpoint_every=FLAGS.checkpoint_every, summary_every=FLAGS.summary_every, curves=optimizer.learning_rates,
      describe=lambda point: {"mse": f"{point['mse']:.1f}", "H": f"{point['bits_per_symbol']:.3f}",
                              "bpp": f"{point['bits_per_pixel']:.4f}"})
  for done in steps:
    if done % FLAGS.validate_every == 0 and done < FLAGS.steps:  # the export measures the end
      with optimizers.averaged_weights(optimizer):
        validate(run, strategy, model, validation)
  if run.is_chief:
    with optimizers.averaged_weights(optimizer):
      export(run, model, paths if FLAGS.images else None, validation)
  distribution.wait_for_all(strategy)


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


def exported_early(run):
  """Whether the operating point that is there was written by --export_now before the last step."""
  try:
    return operating_point.read_info(run.result)["trained"]["steps"] < FLAGS.steps
  except dc.DeepcompError:
    return False


def export(run, model, paths, validation):
  """Fits the coder's tables and writes the operating point into the run's folder."""
  if paths is None:
    training = photos.tfds_images(FLAGS.dataset, FLAGS.train_split, FLAGS.data_dir, most=FLAGS.tables_from)
  else:
    training = photos.read_photos(paths[:FLAGS.tables_from])
  info = {"name": FLAGS.name, "trained": {
      "program": "experiments.train_compression", "steps": int(run.step.numpy()), "settings": run.settings,
      "data": f"{len(paths)} photos of a folder" if paths else f"{FLAGS.dataset}, {FLAGS.train_split}",
      "data_note": FLAGS.data_note}}
  reached = export_operating_point(run.result, model, training, validation, info)
  run.record(reached)
  logging.info("Written to %s: validation %s", run.result,
               "  ".join(f"{name} {value:.4f}" for name, value in reached.items()))


def validate(run, strategy, model, images):
  """Rate and distortion on whole photos, and the centers."""
  # Without tables there are no files yet: the rate is the entropy layer's.
  networks = dc.Codec(operating_point.OperatingPoint(FLAGS.name, model.quantizer.centers.numpy(), fitting.flat_model(
      FLAGS.channels, FLAGS.num_centers, 0), model=model))
  photo_validation.validate(run, strategy, networks, images, lambda _, symbols: entropy_of(model, symbols) * FLAGS.channels / 64)
  with run.summaries("validation"):
    tf.summary.histogram("centers", tf.convert_to_tensor(model.quantizer.centers))


def entropy_of(model, symbols):
  """H of one photo's symbols, in bits per symbol."""
  quantizer = model.quantizer
  values = quantizer.values(symbols)[tf.newaxis]
  return float(model.entropy(values if model.entropy_kind == "context" else
                             tf.one_hot(tf.cast(symbols, tf.int32), quantizer.num_centers)[tf.newaxis]))


if __name__ == "__main__":
  training_flags.main(main)
