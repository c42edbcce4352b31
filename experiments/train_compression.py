"""Trains a compression network for Eq. 1 (section 3.1, appendix A.1).

The paper's operating points, on ImageNet:
  python -m experiments.train_compression --flagfile=flags/compression/bpp0.330.flags --run_dir=...
Their twins for a folder of photos and two cores (the shipped operating points):
  python -m experiments.train_compression --flagfile=flags/compression/bpp0.330_small.flags \
      --images=PHOTOS --run_dir=...
The same command continues a run that was stopped. Curves: `tensorboard --logdir=RUN_DIR`.
"""

import os
import time

from absl import flags
from absl import logging
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec import tiling
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import photos
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.models.compression import ENTROPIES
from deepcomp_tf.training import klt
from deepcomp_tf.training.export import export_operating_point
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import schedules
from deepcomp_tf.training import starts

FLAGS = flags.FLAGS
loop.define_flags()
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
flags.DEFINE_enum("schedule", "constant", ["constant", "cosine"], "Course of the learning rate.")
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
flags.DEFINE_bool("export_now", False, "Write the operating point of the last checkpoint and stop.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("validate_every", "images", "data_dir", "name", "tables_from", "data_note", "export_now")


def main(argv):
  del argv
  if FLAGS.crop_size % 8:
    raise dc.DeepcompError(f"--crop_size must be a multiple of 8. Received: {FLAGS.crop_size}")
  tf.keras.utils.set_random_seed(FLAGS.seed)
  strategy = loop.make_strategy(FLAGS.strategy)
  replicas = strategy.num_replicas_in_sync

  if FLAGS.images:
    paths, held_out = photos.split_images(photos.list_images(FLAGS.images), FLAGS.held_out)
    logging.info("%d photos to train on, %d to validate on.", len(paths), len(held_out))
    batches = lambda first: photos.folder_crops(paths, FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first)
    validation = [read_image(path) for path in held_out]
  else:
    batches = lambda first: photos.tfds_crops(
        FLAGS.dataset, FLAGS.train_split, FLAGS.data_dir, FLAGS.crop_size, FLAGS.batch_size, FLAGS.seed, first)
    validation = photos.tfds_images(FLAGS.dataset, FLAGS.validation_split, FLAGS.data_dir)
  example = next(iter(batches(0)))

  with strategy.scope():
    with loop.precision():
      model = dc.models.CompressionModel(
          FLAGS.channels, FLAGS.num_centers, FLAGS.temperature, entropy=FLAGS.entropy, centers_l2=FLAGS.centers_l2,
          centers=None if FLAGS.start == "random" else klt.centers(FLAGS.num_centers))
      model(example[:1])
    if not loop.latest_checkpoint(FLAGS.run_dir) and FLAGS.start != "random":
      start_from(model, FLAGS.start, batches(0))
    rate = (schedules.WarmupCosine(FLAGS.learning_rate, FLAGS.steps, warmup=min(500, FLAGS.steps // 10))
            if FLAGS.schedule == "cosine" else FLAGS.learning_rate)
    optimizer = tf.keras.optimizers.Adam(
        rate, global_clipnorm=FLAGS.gradient_clip or None, use_ema=FLAGS.weight_average > 0,
        ema_momentum=FLAGS.weight_average or 0.99, jit_compile=False)
    optimizer.build(model.trainable_variables)
    if FLAGS.precision == "mixed_float16":
      optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    rate_weight = tf.Variable(0.0, trainable=False, name="rate_weight")

  settings = loop.settings("channels", leave_out=OPERATIONAL_FLAGS)
  if FLAGS.images:
    settings["photos"] = len(paths)
    for name in ("dataset", "train_split", "validation_split"):
      del settings[name]
  if FLAGS.start not in ("random", "klt"):
    settings["start"] = dc.operating_points.read_info(FLAGS.start)["name"]
  run = loop.Run(FLAGS.run_dir, settings, model=model, optimizer=optimizer, rate_weight=rate_weight)
  done = run.restore()

  if FLAGS.export_now:
    export(run, model, optimizer, paths if FLAGS.images else None, validation)
    return

  def replica_step(images):
    with tf.GradientTape() as tape:
      output = model(images, training=True)
      error = tf.cast(images, tf.float32) - output.reconstruction
      mse = dc.layers.replica_mean(tf.reduce_mean(tf.square(error)))
      bits = output.bits_per_symbol
      loss = losses.settled_rate_distortion(mse, bits, FLAGS.beta, FLAGS.target_entropy, rate_weight, FLAGS.rate_step)
      total = loss + tf.add_n(model.losses) if model.losses else loss
      # Every replica computes the loss of the global batch; their gradients are summed.
      scaled = loop.scaled_loss(optimizer, total / replicas)
    gradients = loop.gradients(optimizer, tape, scaled, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return {"loss": loss, "mse": mse, "bits_per_symbol": bits, "rate_weight": rate_weight.read_value()}

  @tf.function
  def train_step(images):
    figures = strategy.run(replica_step, args=(images,))
    return {name: strategy.experimental_local_results(value)[0] for name, value in figures.items()}

  means = loop.Means()
  with loop.progress_bar(FLAGS.steps, done) as bar:
    dataset = loop.distribute(strategy, lambda: batches(done), FLAGS.batch_size)
    for images in dataset:
      if done >= FLAGS.steps:
        break
      figures = train_step(images)
      run.step.assign_add(1)
      done += 1
      bar.update()
      means.add(figures)
      if done % FLAGS.summary_every == 0 or done == FLAGS.steps:
        point = means.take()
        write_curves(run, model, optimizer, point)
        bar.set_postfix(mse=f"{point['mse']:.1f}", H=f"{point['bits_per_symbol']:.3f}",
                        bpp=f"{point['bits_per_symbol'] * FLAGS.channels / 64:.4f}")
      if done % FLAGS.validate_every == 0 and done < FLAGS.steps:  # the export measures the end
        with averaged_weights(model, optimizer):
          validate(run, model, validation)
      if done % FLAGS.checkpoint_every == 0 or done == FLAGS.steps:
        run.save()
  export(run, model, optimizer, paths if FLAGS.images else None, validation)


def start_from(model, start, batches):
  """Sets the weights of a new run to the KLT of its first training crops, or to those of another run."""
  if start == "klt":
    logging.info("Starting from the KLT of the first training crops.")
    basis = klt.block_basis(batches.take(max(1, 1600 // FLAGS.batch_size)), FLAGS.channels)
    klt.set_weights(model, basis, FLAGS.klt_step)
  else:
    starts.from_operating_point(model, dc.operating_points.load(start), FLAGS.start_scale)
  if FLAGS.entropy == "context":
    bits = starts.fit_entropy(model, batches)
    logging.info("The fitted entropy of the start is %.3f bits per symbol, %.4f bits per pixel.",
                 bits, bits * FLAGS.channels / 64)


def export(run, model, optimizer, paths, validation):
  """Fits the coder's tables and writes the operating point into the run's folder."""
  if paths is None:
    training = photos.tfds_images(FLAGS.dataset, f"{FLAGS.train_split}[:{FLAGS.tables_from}]", FLAGS.data_dir)
  else:
    training = (read_image(path) for path in paths[:FLAGS.tables_from])
  with averaged_weights(model, optimizer):
    info = {"name": FLAGS.name, "trained": {
        "program": "experiments.train_compression", "steps": int(run.step.numpy()), "settings": run.settings,
        "data": f"{len(paths)} photos of a folder" if paths else f"{FLAGS.dataset}, {FLAGS.train_split}",
        "data_note": FLAGS.data_note}}
    reached = export_operating_point(os.path.join(run.folder, "operating_point"), model, training, validation, info)
  run.record(reached)
  logging.info("Exported to %s/operating_point: validation %s", run.folder,
               "  ".join(f"{name} {value:.4f}" for name, value in reached.items()))


class averaged_weights:
  """Context in which the model has the optimizer's averaged weights, if it averages them."""

  def __init__(self, model, optimizer):
    self.model = model
    self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)

  def __enter__(self):
    if self.optimizer.use_ema:
      self.kept = [tf.identity(variable) for variable in self.model.trainable_variables]
      self.optimizer.finalize_variable_values(self.model.trainable_variables)

  def __exit__(self, *_):
    if self.optimizer.use_ema:
      for variable, value in zip(self.model.trainable_variables, self.kept):
        variable.assign(value)


def write_curves(run, model, optimizer, point):
  run.curves("train", {**point, "bits_per_pixel": point["bits_per_symbol"] * FLAGS.channels / 64,
                       "learning_rate": optimizer.learning_rate})
  with run.summaries("train"):
    tf.summary.histogram("centers", model.quantizer.centers)


def validate(run, model, images):
  """Rate and distortion on whole photos, into the curves and `history.jsonl`."""
  begin = time.time()
  figures = []
  pictures = []
  for image in images:
    output = model(tiling.pad(image)[np.newaxis])
    decoded = tf.saturate_cast(tf.round(output.reconstruction[0]), tf.uint8)[:image.shape[0], :image.shape[1]]
    figures.append({"bits_per_pixel": float(output.bits_per_symbol) * FLAGS.channels / 64,
                    **metrics.distortion(image, decoded)})
    if len(pictures) < 3:
      pictures.append(np.concatenate([image, decoded], axis=1))
  means = metrics.means(figures)
  run.curves("validation", means)
  with run.summaries("validation"):
    for i, picture in enumerate(pictures):
      tf.summary.image(f"input_beside_reconstruction/{i}", picture[np.newaxis])
  run.record(means)
  logging.info("step %d: validation %s (%.0f s)", run.step.numpy(),
               "  ".join(f"{name} {value:.4f}" for name, value in means.items()), time.time() - begin)


if __name__ == "__main__":
  loop.main(main)
