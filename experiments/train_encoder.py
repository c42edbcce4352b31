"""Trains the encoder of an operating point further, alone or together with the decoder, for the files that are really written.

  python -m experiments.train_encoder --flagfile=flags/encoder/bpp0.330.flags --photos=PHOTOS --validation_photos=PHOTOS \
      --run_dir=RUN_DIR

Centers, tables and with them the fingerprint stay what they are: whatever reads files of this operating point reads those of the
new encoder. The loss is MSE + `ms_ssim` (1 - MS-SSIM) + `ssim` (1 - SSIM) + a weight times the bits per pixel, which are those
that the tables charge (`TableEntropy`); the weight follows what the files are to cost, compared with those of the first
encoder. RUN_DIR/operating_point is the same operating point, its encoder (and decoder) one version up. The same command continues
a run that was stopped, or exported by --export_now.
"""

from absl import flags
from absl import logging
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import similarity
from deepcomp_tf.codec import operating_point
from deepcomp_tf.data.photos import Photos
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.layers.naming import copy_weights
from deepcomp_tf.codec.table_entropy import TableEntropy
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import further
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import photo_validation

FLAGS = flags.FLAGS
training_flags.define_flags()
further.define_flags(crop_size=160, learning_rate=1e-4)
flags.DEFINE_enum("parts", "encoder", ["encoder", "both"], "What is trained: the encoder, or the decoder with it.")
flags.DEFINE_integer("compared", 1, "Crops of a device's batch that the first encoder encodes, too. What both make of them is "
                     "compared in cost, and a decoder in training gets the first one's symbols, so that it stays good on "
                     "older files.", lower_bound=1)
flags.DEFINE_integer("ms_ssim_scales", 4, "Scales of MS-SSIM, the finest; all 5 take crops of 176 pixels.", lower_bound=2,
                     upper_bound=5)
flags.DEFINE_float("ssim", 0.0, "Weight of 1 - SSIM beside the squared error.", lower_bound=0.0)
flags.DEFINE_float("rate_weight", None, "Weight of the bits per pixel at the beginning.", required=True, lower_bound=0.0)
flags.DEFINE_float("rate_step", 30.0, "Step by which that weight follows the bits per pixel; 0 leaves it.", lower_bound=0.0)
flags.DEFINE_float("rate", 1.0, "What crops are to cost, over what they cost with the first encoder.", lower_bound=0.1)
flags.DEFINE_float("gradient_clip", 300.0, "Largest norm of the gradient, all weights together; 0 is no limit.", lower_bound=0.0)

# What may differ when a run is continued.
OPERATIONAL_FLAGS = further.OPERATIONAL_FLAGS

# The weight of the rate stays below this.
_LARGEST_WEIGHT = 1e5


def main(argv):
  del argv
  smallest, unit = similarity.smallest_ms_ssim(FLAGS.ms_ssim_scales), max(STRIDE, 1 << (FLAGS.ms_ssim_scales - 1))
  if FLAGS.crop_size % unit or FLAGS.crop_size < smallest:
    raise dc.DeepcompError(f"--crop_size must be a multiple of {unit}, and at least {smallest} for --ms_ssim_scales="
                           f"{FLAGS.ms_ssim_scales}. Received: {FLAGS.crop_size}")
  strategy = loop.begin()
  batch = FLAGS.batch_size // strategy.num_replicas_in_sync
  if FLAGS.compared >= batch:
    raise dc.DeepcompError(f"--compared must be below the {batch} crops of a device. Received: {FLAGS.compared}")
  start = operating_point.OperatingPoint.load(FLAGS.operating_point)
  first = operating_point.OperatingPoint.load(FLAGS.operating_point, encoder_version=1)
  paths, shrunk, validation = further.read_photos()
  photos = Photos(paths, shrunk)
  logging.info("%d photos to train on, and halves of %d; %d photos to validate on", len(paths), len(shrunk), len(validation))

  with loop.networks(strategy):
    model = dc.models.CompressionModel(start.channels, len(start.centers), centers=start.centers.tolist())
    model.build([None, None, None, 3])
    rate_weight = tf.Variable(FLAGS.rate_weight, trainable=False, name="rate_weight")
  copy_weights(start.model.encoder, model.encoder)
  copy_weights(start.model.decoder, model.decoder)
  parts = [model.encoder] if FLAGS.parts == "encoder" else [model.encoder, model.decoder]
  named = {f"{part.name}/{name}": variable for part in parts for name, variable in part.named_variables().items()}
  entropy = TableEntropy(start.context_model, start.centers)

  settings = training_flags.settings("parts", "operating_point", leave_out=OPERATIONAL_FLAGS)
  settings.update(fingerprint=start.fingerprint.hex(), photo_count=len(paths), shrunk_count=len(shrunk))

  without = FLAGS.compared if FLAGS.parts == "both" else 0

  def loss(images, step):
    del step
    images = tf.cast(images, tf.float32)
    first_z = tf.stop_gradient(first.model.encoder(images[:FLAGS.compared]))
    z = model.encoder(images, training=True)
    bits, values = entropy(z), model.quantizer(z).values
    if without:
      values = tf.concat([tf.stop_gradient(model.quantizer(first_z).values), values[without:]], axis=0)
    decoded = model.decoder(values, training=True)
    mse = tf.reduce_mean(tf.math.squared_difference(decoded, images))
    ssim, ms_ssim = similarity.ssim_and_ms_ssim(decoded, images, FLAGS.ms_ssim_scales)
    # What shows in no picture here costs nothing here.
    bits_per_pixel = tf.reduce_sum(bits[without:]) / (batch * FLAGS.crop_size ** 2)
    before, now = (dc.layers.replica_mean(tf.reduce_mean(compared) / FLAGS.crop_size ** 2)
                   for compared in (entropy(first_z), bits[:FLAGS.compared]))
    weight = losses.follow_rate(rate_weight, now, _LARGEST_WEIGHT, FLAGS.rate * before, FLAGS.rate_step)
    value = mse + FLAGS.ms_ssim * (1.0 - ms_ssim) + FLAGS.ssim * (1.0 - ssim) + weight * bits_per_pixel
    return value, {"loss": value, "mse": mse, "ms_ssim": ms_ssim, "ssim": ssim, "bits_per_pixel": bits_per_pixel,
                   "bits_change": now - before, "rate_weight": weight}

  keep = lambda: further.as_kept(parts)

  def measure(point):
    codec = dc.Codec(point or keep())
    return photo_validation.measure(strategy, codec, validation, lambda photo, symbols: (
        8 * len(codec.encode_symbols(symbols)) / (photo.shape[0] * photo.shape[1])))

  def of_first_encoder(point):
    """What the decoder makes of the validation photos' files that were there before."""
    copy_weights(point.model.decoder, first.model.decoder)
    codec = dc.Codec(first)
    pictures = [codec.reconstruct(codec.encode(photo), *photo.shape[:2]) for photo in validation]
    return metrics.means([metrics.distortion(*both) for both in zip(validation, pictures)])

  def export(point, trained, reached):
    made = {"trained": trained, "reached_on_validation": reached}
    if model.decoder in parts:
      made["reached_on_files_of_the_first_encoder"] = of_first_encoder(point)
    further.export(start, point, [part.name for part in parts], made)

  batches = lambda first, part: photos.batches(FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first, part)
  loop.train(
      strategy,
      [loop.Stage(FLAGS.steps, loss, lambda: further.optimizer_parts(named), batches, gradient_clip=FLAGS.gradient_clip)],
      {**named, "rate_weight": rate_weight}, program="train_encoder", settings=settings, result="operating_point",
      measure_start=True, measure=measure, every=FLAGS.validate_every, keep=keep, export=export, part="encoder")


if __name__ == "__main__":
  training_flags.main(main)
