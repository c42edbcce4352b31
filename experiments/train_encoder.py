"""Trains the encoder of an operating point further, alone or together with the decoder, for the files that are really written.

  python -m experiments.train_encoder --flagfile=flags/encoder/bpp0.330.flags --photos=PHOTOS --validation_photos=PHOTOS \
      --run_dir=RUN_DIR

Centers, tables and with them the fingerprint stay what they are: whatever reads files of this operating point reads those of the
new encoder. The loss is MSE + `ms_ssim` (1 - MS-SSIM) + `ssim` (1 - SSIM) + a weight times the bits per pixel, which are those
that the tables charge (`layers.TableEntropy`); the weight follows what the files are to cost, compared with those of the first
encoder. RUN_DIR/operating_point is the same operating point, its encoder (and decoder) one version up. The same command continues
a run that was stopped.
"""

from absl import flags
from absl import logging
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data.part import distribute
from deepcomp_tf.data.photo_files import find_photos
from deepcomp_tf.data.photos import Photos
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.layers.naming import copy_weights
from deepcomp_tf.layers.table_entropy import TableEntropy
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
flags.DEFINE_enum("parts", "encoder", ["encoder", "both"], "What is trained: the encoder, or the decoder with it.")
flags.DEFINE_list("photos", None, "Folders of photos to train on, and lists of paths (.txt).", required=True)
flags.DEFINE_list("shrunk_photos", [], "Others that were JPEG files of low quality: their halves are taken only.")
flags.DEFINE_list("validation_photos", None, "Folders of photos to validate on; those among --photos are held back.", required=True)
flags.DEFINE_integer("crop_size", 160, "Edge of the training crops in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_integer("compared", 1, "Crops of a batch that the first encoder encodes, too: what they cost is compared, and a decoder "
                     "that is trained is given these symbols, so that it remains good on files that are there.", lower_bound=1)
flags.DEFINE_integer("steps", None, "Training steps.", required=True, lower_bound=1)
flags.DEFINE_float("learning_rate", 3e-5, "Adam's, after a warm-up; falls as a cosine.", lower_bound=0.0)
flags.DEFINE_float("ms_ssim", 0.0, "Weight of 1 - MS-SSIM, of three scales, beside the squared error.", lower_bound=0.0)
flags.DEFINE_float("ssim", 0.0, "Weight of 1 - SSIM beside the squared error.", lower_bound=0.0)
flags.DEFINE_float("rate_weight", None, "Weight of the bits per pixel at the beginning.", required=True, lower_bound=0.0)
flags.DEFINE_float("rate_step", 100.0, "Step by which that weight follows the bits per pixel; 0 leaves it.", lower_bound=0.0)
flags.DEFINE_float("rate", 1.0, "What crops are to cost, over what they cost with the first encoder.", lower_bound=0.1)
flags.DEFINE_float("gradient_clip", 100.0, "Largest norm of the gradient, all weights together; 0 is no limit.", lower_bound=0.0)
flags.DEFINE_float("weight_average", 0.999, "Decay of the average of the weights that is validated and kept.", lower_bound=0.0,
                   upper_bound=0.9999)
flags.DEFINE_integer("validate_every", 500, "Steps between validations.", lower_bound=1)
flags.DEFINE_string("data_note", "", "What the photos are and under which terms; written into the operating point.")
flags.DEFINE_bool("export_now", False, "Write the operating point of the last checkpoint and stop. Without the flag the "
                  "same command goes on from there.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("photos", "shrunk_photos", "validation_photos", "operating_point", "validate_every", "data_note", "export_now")

# The weight of the rate stays below this.
_LARGEST_WEIGHT = 1e5


def main(argv):
  del argv
  if FLAGS.crop_size % STRIDE or FLAGS.crop_size < losses.SMALLEST_MS_SSIM:
    raise dc.DeepcompError(f"--crop_size must be a multiple of {STRIDE}, and at least {losses.SMALLEST_MS_SSIM}. "
                           f"Received: {FLAGS.crop_size}")
  if FLAGS.compared >= FLAGS.batch_size:
    raise dc.DeepcompError(f"--compared must be below --batch_size={FLAGS.batch_size}. Received: {FLAGS.compared}")
  strategy = distribution.make_strategy(FLAGS.strategy)
  tf.keras.utils.set_random_seed(FLAGS.seed)
  start = operating_point.OperatingPoint.load(FLAGS.operating_point)
  first = operating_point.OperatingPoint.load(FLAGS.operating_point, encoder_version=1)
  held_out = [path for name in FLAGS.validation_photos for path in find_photos(name)]
  paths, shrunk = ([path for name in names for path in find_photos(name) if path not in set(held_out)]
                   for names in (FLAGS.photos, FLAGS.shrunk_photos))
  photos = Photos(paths, shrunk)
  validation = [read_image(path) for path in held_out]
  logging.info("%d photos to train on, and halves of %d; %d photos to validate on", len(paths), len(shrunk), len(validation))

  with strategy.scope():
    with distribution.precision(FLAGS.precision):
      model = dc.models.CompressionModel(start.channels, len(start.centers), centers=start.centers.tolist())
      model.build([None, None, None, 3])
    copy_weights(start.model.encoder, model.encoder)
    copy_weights(start.model.decoder, model.decoder)
    parts = [model.encoder] if FLAGS.parts == "encoder" else [model.encoder, model.decoder]
    trained = {f"{part.name}/{name}": variable for part in parts for name, variable in part.named_variables().items()}
    adam = optimizers.adam(schedules.WarmupCosine(FLAGS.learning_rate, FLAGS.steps, warmup=min(100, FLAGS.steps // 10)),
                           use_ema=FLAGS.weight_average > 0, ema_momentum=FLAGS.weight_average or 0.99)
    optimizer = optimizers.Optimizers({"optimizer": (adam, trained)}, FLAGS.gradient_clip,
                                      scale_losses=FLAGS.precision == "mixed_float16")
    rate_weight = tf.Variable(FLAGS.rate_weight, trainable=False, name="rate_weight")
  entropy = TableEntropy(start.context_model, start.centers)

  settings = training_flags.settings("crop_size", leave_out=OPERATIONAL_FLAGS)
  settings.update(fingerprint=start.fingerprint.hex(), photo_count=len(paths), shrunk_count=len(shrunk))
  run = runs.Run(FLAGS.run_dir, settings, "operating_point", {
      **trained, **optimizer.named_variables(), "rate_weight": rate_weight})
  if not FLAGS.export_now and not exported_early(run) and run.is_done():
    return

  without = FLAGS.compared if FLAGS.parts == "both" else 0

  def replica_step(images, step):
    del step
    images = tf.cast(images, tf.float32)
    first_z = first.model.encoder(images[:FLAGS.compared])
    with tf.GradientTape() as tape:
      z = model.encoder(images, training=True)
      bits, values = entropy(z), model.quantizer(z).values
      if without:
        values = tf.concat([tf.stop_gradient(model.quantizer(first_z).values), values[without:]], axis=0)
      decoded = model.decoder(values, training=True)
      mse = tf.reduce_mean(tf.math.squared_difference(decoded, images))
      ssim, ms_ssim = losses.ssim_and_ms_ssim(decoded, images)
      # What shows in no picture here costs nothing here.
      bits_per_pixel = tf.reduce_sum(bits[without:]) / (FLAGS.batch_size * FLAGS.crop_size ** 2)
      before, now = (tf.reduce_mean(own) / FLAGS.crop_size ** 2 for own in (entropy(first_z), bits[:FLAGS.compared]))
      weight = losses.follow_rate(rate_weight, now, _LARGEST_WEIGHT, FLAGS.rate * before, FLAGS.rate_step)
      loss = mse + FLAGS.ms_ssim * (1.0 - ms_ssim) + FLAGS.ssim * (1.0 - ssim) + weight * bits_per_pixel
      scaled = optimizer.scaled(loss)
    optimizer.step(tape, scaled)
    return {"loss": loss, "mse": mse, "ms_ssim": ms_ssim, "ssim": ssim, "bits_per_pixel": bits_per_pixel,
            "bits_change": now - before, "rate_weight": weight}

  def as_kept():
    """The operating point with the averaged weights, rounded as they would be kept."""
    point = operating_point.OperatingPoint.load(FLAGS.operating_point)
    with optimizers.averaged_weights(optimizer):
      for part, kept in ((model.encoder, point.model.encoder), (model.decoder, point.model.decoder)):
        copy_weights(part, kept)
    operating_point.round_weights(point.model)
    return point

  def measure(point):
    codec = dc.Codec(point)
    return validate(run, strategy, codec, validation, lambda photo, symbols: (
        8 * len(codec.encode_symbols(symbols)) / (photo.shape[0] * photo.shape[1])))

  def of_first_encoder(point):
    """What the decoder makes of the validation photos' files that were there before."""
    copy_weights(point.model.decoder, first.model.decoder)
    codec = dc.Codec(first)
    pictures = [codec.reconstruct(codec.encode(photo), *photo.shape[:2]) for photo in validation]
    return metrics.means([metrics.distortion(*both) for both in zip(validation, pictures)])

  done = run.restore()
  if not done:
    measure(start)
  for done in run.steps(
      zip(distribute(strategy, lambda part: photos.batches(FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, done, part),
                     FLAGS.batch_size)),
      distribution.on_replicas(strategy, replica_step), 0 if FLAGS.export_now else FLAGS.steps,
      checkpoint_every=FLAGS.checkpoint_every, summary_every=FLAGS.summary_every, curves=optimizer.learning_rates,
      describe=lambda point: {name: f"{value:.4g}" for name, value in point.items()}):
    if done % FLAGS.validate_every == 0 and done < FLAGS.steps:
      measure(as_kept())
  point = as_kept()
  reached = measure(point)
  if run.is_chief:
    trained_info = {"program": "experiments.train_encoder", "steps": int(run.step.numpy()), "settings": settings,
                    "seconds": run.seconds(), "data_note": FLAGS.data_note}
    versions = {"encoder": start.encoder_version + 1, "decoder": start.decoder_version + 1}
    made = {"trained": trained_info, "reached_on_validation": reached}
    info = {**start.info, **{part.name: {"version": versions[part.name], **made} for part in parts}}
    if model.decoder in parts:
      info["decoder"]["reached_on_files_of_the_first_encoder"] = of_first_encoder(point)
    earlier = {**operating_point.earlier_encoders(FLAGS.operating_point),
               start.encoder_version: operating_point.encoder_weights(start.model)}
    operating_point.save(run.result, point.model, start.context_model, info, start.mean, start.deviation, earlier)
    logging.info("Written to %s: %s", run.result, ", ".join(f"{part.name} version {versions[part.name]}" for part in parts))
  distribution.wait_for_all(strategy)


def exported_early(run):
  """Whether the operating point that is there was written by --export_now before the last step."""
  try:
    return operating_point.read_info(run.result)["encoder"]["trained"]["steps"] < FLAGS.steps
  except (dc.DeepcompError, KeyError):
    return False


if __name__ == "__main__":
  training_flags.main(main)
