"""Trains the decoder of an operating point further, on the symbols of its fixed encoder.

  python -m experiments.train_decoder --flagfile=flags/decoder/bpp0.0983.flags --photos=PHOTOS --validation_photos=PHOTOS \
      --run_dir=RUN_DIR

Files, tables and all networks on the representation stay what they are: every file that was ever written then looks better.
RUN_DIR/operating_point is the same operating point with the new decoder, one version up. The same command continues a run
that was stopped. Photos count at their size, at half of it, a quarter and so on, as long as a crop fits.
"""

from absl import flags
from absl import logging
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import operating_point
from deepcomp_tf.data.part import distribute
from deepcomp_tf.data.photo_files import find_photos
from deepcomp_tf.data.photos import read_photos
from deepcomp_tf.data.symbol_pairs import SymbolPairs
from deepcomp_tf.layers.naming import copy_weights
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.training import distribution
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from deepcomp_tf.training.photo_validation import validate
from deepcomp_tf.training import runs
from deepcomp_tf.training import schedules

FLAGS = flags.FLAGS
training_flags.define_flags()
flags.DEFINE_string("operating_point", None, "A name or a folder.", required=True)
flags.DEFINE_list("photos", None, "Folders of photos to train on, and lists of paths (.txt).", required=True)
flags.DEFINE_list("shrunk_photos", [], "Others that were JPEG files of low quality: their halves and smaller are taken only.")
flags.DEFINE_list("validation_photos", None, "Folders of photos to validate on; those among --photos are held back.", required=True)
flags.DEFINE_string("cache_dir", None, "Folder on a local disk for symbols and pixels; empty: deepcomp_tf in the user's cache "
                    "folder.")
flags.DEFINE_integer("crop_size", 144, "Edge of the training crops in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_integer("margin", 16, "Pixels of a crop around the window that counts, a multiple of 8, since the decoder sees beyond "
                     "that in a whole photo. Where the photo ends, the window goes up to its edge.", lower_bound=0)
flags.DEFINE_integer("steps", None, "Training steps.", required=True, lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-4, "Adam's, after a warm-up; falls as a cosine.", lower_bound=0.0)
flags.DEFINE_float("ms_ssim", 0.0, "Weight of 1 - MS-SSIM, of three scales, beside the squared error.", lower_bound=0.0)
flags.DEFINE_float("weight_average", 0.999, "Decay of the average of the weights that is validated and kept.", lower_bound=0.0,
                   upper_bound=0.9999)
flags.DEFINE_integer("validate_every", 1000, "Steps between validations.", lower_bound=1)
flags.DEFINE_string("data_note", "", "What the photos are and under which terms; written into the operating point.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("photos", "shrunk_photos", "validation_photos", "cache_dir", "operating_point", "validate_every", "data_note")


def main(argv):
  del argv
  if FLAGS.crop_size % STRIDE or FLAGS.crop_size - 2 * FLAGS.margin < losses.SMALLEST_MS_SSIM:
    raise dc.DeepcompError(f"--crop_size must be a multiple of {STRIDE}, and at least {losses.SMALLEST_MS_SSIM} pixels within "
                           f"--margin={FLAGS.margin}. Received: {FLAGS.crop_size}")
  if FLAGS.margin % STRIDE:
    raise dc.DeepcompError(f"--margin must be a multiple of {STRIDE}. Received: {FLAGS.margin}")
  strategy = distribution.make_strategy(FLAGS.strategy)
  tf.keras.utils.set_random_seed(FLAGS.seed)
  start = operating_point.OperatingPoint.load(FLAGS.operating_point)
  held_out = [path for name in FLAGS.validation_photos for path in find_photos(name)]
  paths, shrunk = ([path for name in names for path in find_photos(name) if path not in set(held_out)]
                   for names in (FLAGS.photos, FLAGS.shrunk_photos))
  training = SymbolPairs(paths, dc.Codec(start), FLAGS.crop_size, shrunk, FLAGS.cache_dir)
  validation = list(read_photos(held_out))
  logging.info("%d photos and parts of photos to train on, %d photos to validate on", len(training), len(validation))

  with strategy.scope():
    with distribution.precision(FLAGS.precision):
      decoder = dc.models.Decoder(start.channels)
      decoder.build([None, None, None, start.channels])
    copy_weights(start.model.decoder, decoder)
    adam = optimizers.adam(schedules.WarmupCosine(FLAGS.learning_rate, FLAGS.steps, warmup=min(100, FLAGS.steps // 10)),
                           use_ema=FLAGS.weight_average > 0, ema_momentum=FLAGS.weight_average or 0.99)
    optimizer = optimizers.Optimizers({"optimizer": (adam, decoder.named_variables())},
                                      scale_losses=FLAGS.precision == "mixed_float16")

  settings = training_flags.settings("crop_size", leave_out=OPERATIONAL_FLAGS)
  version = start.decoder_version + 1
  settings.update(fingerprint=start.fingerprint.hex(), version=version, pairs=len(training))
  run = runs.Run(FLAGS.run_dir, settings, "operating_point", {
      **{f"decoder/{name}": variable for name, variable in decoder.named_variables().items()}, **optimizer.named_variables()})
  if run.is_done():
    return
  window_size = FLAGS.crop_size - 2 * FLAGS.margin
  centers = tf.constant(start.centers)

  def in_windows(images, windows):
    rows, columns = (windows[:, axis, None] + tf.range(window_size) for axis in range(2))
    return tf.gather(tf.gather(tf.cast(images, tf.float32), rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)

  def replica_step(symbols, pixels, windows, step):
    del step
    with tf.GradientTape() as tape:
      decoded = in_windows(decoder(tf.gather(centers, tf.cast(symbols, tf.int32)), training=True), windows)
      aim = in_windows(pixels, windows)
      mse = tf.reduce_mean(tf.math.squared_difference(decoded, aim))
      similarity = losses.ms_ssim(decoded, aim) if FLAGS.ms_ssim else 0.0
      loss = mse + FLAGS.ms_ssim * (1.0 - similarity)
      scaled = optimizer.scaled(loss)
    optimizer.step(tape, scaled)
    return {"loss": loss, "mse": mse, "ms_ssim": similarity}

  def as_kept():
    """The operating point with the decoder's averaged weights, rounded as they would be kept."""
    point = operating_point.OperatingPoint.load(FLAGS.operating_point)
    with optimizers.averaged_weights(optimizer):
      copy_weights(decoder, point.model.decoder)
    operating_point.round_weights(point.model)
    return point

  done = run.restore()
  if not done:
    validate(run, strategy, dc.Codec(start), validation)
  for done in run.steps(
      distribute(strategy, lambda part: training.batches(FLAGS.crop_size, FLAGS.margin, FLAGS.batch_size, FLAGS.seed, done, part),
                 FLAGS.batch_size),
      distribution.on_replicas(strategy, replica_step), FLAGS.steps, checkpoint_every=FLAGS.checkpoint_every,
      summary_every=FLAGS.summary_every, curves=optimizer.learning_rates,
      describe=lambda point: {name: f"{value:.4g}" for name, value in point.items()}):
    if done % FLAGS.validate_every == 0 and done < FLAGS.steps:
      validate(run, strategy, dc.Codec(as_kept()), validation)
  point = as_kept()
  reached = validate(run, strategy, dc.Codec(point), validation)
  if run.is_chief:
    info = {**start.info, "decoder": {"version": version, "trained": {
        "program": "experiments.train_decoder", "steps": FLAGS.steps, "settings": settings, "seconds": run.seconds(),
        "data_note": FLAGS.data_note}, "reached_on_validation": reached}}
    operating_point.save(run.result, point.model, start.context_model, info, start.mean, start.deviation,
                         operating_point.earlier_encoders(FLAGS.operating_point))
    logging.info("Written to %s: decoder version %d", run.result, version)
  distribution.wait_for_all(strategy)


if __name__ == "__main__":
  training_flags.main(main)
