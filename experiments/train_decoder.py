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
from deepcomp_tf import similarity
from deepcomp_tf.codec import operating_point
from deepcomp_tf.data import cut
from deepcomp_tf.data.symbol_pairs import SymbolPairs
from deepcomp_tf.layers.naming import copy_weights
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import further
from deepcomp_tf.training import loop
from deepcomp_tf.training import photo_validation

FLAGS = flags.FLAGS
training_flags.define_flags()
further.define_flags(crop_size=144, learning_rate=2e-4)
flags.DEFINE_string("cache_dir", None, "Folder on a local disk for symbols and pixels; empty: deepcomp_tf in the user's cache "
                    "folder.")
flags.DEFINE_integer("margin", 16, "Pixels of a crop on each side of the window that counts, a multiple of 8, since in a whole "
                     "photo the decoder sees beyond the window. Where the photo ends, the window goes up to its edge.",
                     lower_bound=0)

# What may differ when a run is continued.
OPERATIONAL_FLAGS = (*further.OPERATIONAL_FLAGS, "cache_dir")


def main(argv):
  del argv
  window_size, smallest = FLAGS.crop_size - 2 * FLAGS.margin, similarity.smallest_ms_ssim()
  if FLAGS.crop_size % STRIDE or window_size < smallest:
    raise dc.DeepcompError(f"--crop_size must be a multiple of {STRIDE}, and at least {smallest + 2 * FLAGS.margin}: {smallest} "
                           f"pixels and --margin={FLAGS.margin} on each side. Received: {FLAGS.crop_size}")
  if FLAGS.margin % STRIDE:
    raise dc.DeepcompError(f"--margin must be a multiple of {STRIDE}. Received: {FLAGS.margin}")
  strategy = loop.begin()
  start = operating_point.OperatingPoint.load(FLAGS.operating_point)
  paths, shrunk, validation = further.read_photos()
  training = SymbolPairs(paths, dc.Codec(start), FLAGS.crop_size, shrunk, FLAGS.cache_dir)
  logging.info("%d photos and parts of photos to train on, %d photos to validate on", len(training), len(validation))

  with loop.networks(strategy):
    decoder = dc.models.Decoder(start.channels, name="decoder")
    decoder.build([None, None, None, start.channels])
  copy_weights(start.model.decoder, decoder)
  named = {f"decoder/{name}": variable for name, variable in decoder.named_variables().items()}
  centers = tf.constant(start.centers)

  settings = training_flags.settings("margin", "operating_point", leave_out=OPERATIONAL_FLAGS)
  settings.update(fingerprint=start.fingerprint.hex(), version=start.decoder_version + 1, pairs=len(training))

  in_windows = lambda images, windows: cut.cut_each(tf.cast(images, tf.float32), windows, window_size)

  def loss(symbols, pixels, windows, step):
    del step
    decoded = in_windows(decoder(tf.gather(centers, tf.cast(symbols, tf.int32)), training=True), windows)
    aim = in_windows(pixels, windows)
    mse = tf.reduce_mean(tf.math.squared_difference(decoded, aim))
    ms_ssim = similarity.ms_ssim(decoded, aim) if FLAGS.ms_ssim else 0.0
    value = mse + FLAGS.ms_ssim * (1.0 - ms_ssim)
    return value, {"loss": value, "mse": mse, "ms_ssim": ms_ssim}

  keep = lambda: further.as_kept([decoder])
  batches = lambda first, part: training.batches(FLAGS.crop_size, FLAGS.margin, FLAGS.batch_size, FLAGS.seed, first, part)
  loop.train(
      strategy, [loop.Stage(FLAGS.steps, loss, lambda: further.optimizer_parts(named), batches)], named, program="train_decoder",
      settings=settings, result="operating_point", measure_start=True, every=FLAGS.validate_every, keep=keep,
      measure=lambda point: photo_validation.measure(strategy, dc.Codec(point or keep()), validation),
      export=lambda point, trained, reached: further.export(start, point, ["decoder"], {
          "trained": trained, "reached_on_validation": reached}), part="decoder")


if __name__ == "__main__":
  training_flags.main(main)
