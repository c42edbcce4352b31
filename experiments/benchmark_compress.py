"""What compressing costs over the size of a set, how busy it keeps the encoder, and what a second worker brings.

  python -m experiments.benchmark_compress --figure=compress.png

Three measurements on synthetic images, in a folder that is removed afterwards; --parts chooses among them:
  size      seconds for TFDS sets of --sizes small images, compressed in order as a process without Beam does, and for a
            chunk of 256 in the first and in the last tenth; then for what a worker of Beam takes at a time, at the beginning
            and at the end of the set, in turns. Above --real_up_to images a stand-in for the encoder gives every image the
            same symbols, since what grows with a set is reading; the output says which sizes are affected. Medians count.
            Drawn in --figure.
  encoder   images a second of `Codec.compress_many` on JPEG files of --image_size, read and decoded by tf.data, over images a
            second of the encoder network alone at a batch of 32, measured in turns.
  workers   images a second of `experiments.compress_dataset` on one Beam worker process that has one core, and on two that have
            two: with DirectRunner's multi_processing, one TensorFlow thread each. What starting takes, measured on a set of
            few images, is subtracted.
On a machine that does other things, too, only the ratios say something, and less the busier it is; the load is printed.
"""

import contextlib
import functools
import os
import statistics
import subprocess
import tempfile
import time

from absl import flags
from absl import logging
import matplotlib.figure
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.data import chunks
from deepcomp_tf.data import compressed
from deepcomp_tf.data import sources
from deepcomp_tf.evaluation import figures
from deepcomp_tf.files import write_file
from deepcomp_tf.tasks import aim
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_list("parts", ["size", "encoder", "workers"], "What to measure.")
flags.DEFINE_string("operating_point", "bpp0.330", "A name or a folder.")
flags.DEFINE_list("sizes", ["1000", "10000", "100000"], "Images in the sets of `size`.")
flags.DEFINE_integer("small_size", 32, "Edge of their images in pixels.")
flags.DEFINE_integer("real_up_to", 10_000, "Images of the largest set that the real encoder compresses.")
flags.DEFINE_integer("image_size", 224, "Edge of the images of `encoder`; `workers` has images of half of it.")
flags.DEFINE_integer("images", 256, "Images of `encoder`.")
flags.DEFINE_list("worker_images", ["512", "2560"], "Images of the small and the large set of `workers`.")
flags.DEFINE_integer("rounds", 5, "Measurements of each kind.", lower_bound=1)
flags.DEFINE_string("figure", None, "PNG file for cost over size.")


class SyntheticPhotos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A TFDS set of smooth random photos with two classes; its config says how many, and their edge."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=2)}))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    count, edge = map(int, self.builder_config.name.split("x"))
    rng, made = np.random.default_rng(0), []
    for _ in range(64):  # encoded once; what is measured does not depend on what they show
      coarse = rng.integers(0, 256, [-(-edge // 8), -(-edge // 8), 3]).astype(np.float32)
      image = tf.image.resize(coarse, [edge, edge], "bicubic") + rng.normal(0, 6, [edge, edge, 3])
      made.append(tf.io.encode_jpeg(tf.saturate_cast(image, tf.uint8)).numpy())
    for number in range(count):
      yield number, {"image": made[number % 64], "label": number % 2}


def main(argv):
  del argv
  parts = {"size": measure_size, "encoder": measure_encoder, "workers": measure_workers}
  wrong = set(FLAGS.parts) - set(parts)
  if wrong:
    raise dc.DeepcompError(f"--parts must be of {', '.join(parts)}. Received: {', '.join(sorted(wrong))}")
  entropy_coder.warm_up()
  tfds.disable_progress_bar()
  logging.set_verbosity(logging.ERROR)
  print(f"{measuring.machine()}; {FLAGS.operating_point}")
  with tempfile.TemporaryDirectory() as folder:
    for part in FLAGS.parts:
      parts[part](folder)


def synthetic(folder, count, edge):
  """The name of a set, made if it is not there, for `sources.open_source` in the folder."""
  name = f"{count}x{edge}"
  builder = SyntheticPhotos(config=tfds.core.BuilderConfig(name=name), data_dir=folder)
  builder.download_and_prepare()
  return f"{builder.name}/{name}"


def measure_size(folder):
  """Prints and draws the cost of chunks and of sets over their size."""
  rows = []
  for count in map(int, FLAGS.sizes):
    stand_in = count > FLAGS.real_up_to
    read = functools.partial(compressed.read_photos, synthetic(folder, count, FLAGS.small_size), folder, 0)
    every = chunks.cut("train", count // compressed.CHUNK * compressed.CHUNK, compressed.CHUNK)
    with _constant_encoder() if stand_in else contextlib.nullcontext():
      list(_seconds(read, every[:2]))  # warms up
      passes = [list(_seconds(read, every)) for _ in range(1 if stand_in else FLAGS.rounds)]
      parts = every[:chunks.BEAM_CHUNKS], every[-chunks.BEAM_CHUNKS:]
      by_place = [[sum(_seconds(read, part)) for part in parts] for _ in range(FLAGS.rounds)]
    whole = statistics.median(map(sum, passes))
    each = [statistics.median(times) for times in zip(*passes)]
    rows.append((count, whole, each, stand_in))
    print(f"  {count} images{' (stand-in for the encoder)' if stand_in else ''}: {whole:.1f} s, "
          f"{1e3 * whole / count:.2f} ms an image", end="")
    tenth = len(each) // 10
    if tenth:  # without the first chunk, before which all is opened, and the last, beside which none is read
      first, last = statistics.median(each[1:tenth + 2]), statistics.median(each[-tenth - 2:-1])
      print(f"; a chunk in the first tenth {first:.3f} s, in the last {last:.3f} s, ratio {last / first:.3f}", end="")
    begin, end = (statistics.median(times) for times in zip(*by_place))
    print(f"; {len(parts[0])} chunks by their place: at the beginning {begin:.3f} s, at the end {end:.3f} s, ratio "
          f"{end / begin:.3f}", flush=True)
  if FLAGS.figure:
    draw(rows)


def _codec():
  return aim.open_codec(FLAGS.operating_point)


def _seconds(read, part):
  """Seconds for each of several chunks that are compressed in order."""
  begin = time.perf_counter()
  for _ in chunks.compress(read, _codec, part):
    end = time.perf_counter()
    yield end - begin
    begin = end


@contextlib.contextmanager
def _constant_encoder():
  """Context in which the codec encodes every image to the symbols that it gave the first of that size."""
  codec, known = _codec(), {}
  encode = codec.encode

  def constant(image):
    if image.shape not in known:
      known[image.shape] = encode(image)
    return known[image.shape]

  codec.encode = constant
  try:
    yield
  finally:
    del codec.encode


def draw(rows):
  """Draws seconds for a set over its size, and for a chunk over its place in the largest set."""
  figure = matplotlib.figure.Figure(figsize=(9, 3.5), layout="constrained")
  axes = figure.subplots(1, 2)
  for stand_in, label in ((False, "encoder"), (True, "stand-in for the encoder")):
    points = [row[:2] for row in rows if row[3] == stand_in]
    if points:
      axes[0].loglog(*zip(*points), "o-", label=label)
  count, _, each, _ = max(rows)
  axes[1].plot(compressed.CHUNK * np.arange(len(each)), each, linewidth=1)
  axes[0].set(xlabel="images in the set", ylabel="seconds for the set")
  axes[1].set(xlabel=f"place in the set of {count}", ylabel=f"seconds for {compressed.CHUNK} images", ylim=(0, None))
  axes[0].legend()
  write_file(FLAGS.figure, figures.png(figure), overwrite=True)


def measure_encoder(folder):
  """Prints the share of the encoder's own throughput that compressing JPEG files reaches."""
  codec, edge = _codec(), FLAGS.image_size
  name = synthetic(folder, FLAGS.images, edge)
  source, read = sources.open_source(name, "train", folder), functools.partial(compressed.read_photos, name, folder, 0)
  batch = np.stack([sources.decode_image(data).numpy() for data, _ in source.read(0, 32)])
  network = tf.function(codec.model.symbols_of, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
  part, turns = chunks.Chunk("train", 0, FLAGS.images), FLAGS.images // 32
  times = measuring.in_turns({
      "encoder": lambda: [network(batch).numpy() for _ in range(turns)],
      "compressing": lambda: list(chunks.compress(read, _codec, [part]))}, FLAGS.rounds, warm_ups=1)
  encoder, compressing = times["encoder"] / (32 * turns), times["compressing"] / FLAGS.images  # an image
  shares = encoder[:, 0] / compressing[:, 0]
  medians = np.median([encoder, compressing], axis=1)
  print(f"  images of {edge}x{edge}: encoder alone at a batch of 32 {1 / medians[0, 0]:.1f} images/s, "
        f"compressing JPEG files {1 / medians[1, 0]:.1f}: {100 * np.median(shares):.0f} % "
        f"({', '.join(f'{100 * share:.0f}' for share in shares)}); CPU time an image: "
        f"{1e3 * medians[0, 1]:.1f} and {1e3 * medians[1, 1]:.1f} ms", flush=True)


def measure_workers(folder):
  """Prints images a second on one worker with one core, and on two with two."""
  cores = sorted(os.sched_getaffinity(0))[:2]
  if len(cores) < 2:
    raise dc.DeepcompError("expected two cores for two workers. Received: one")
  few, many = (int(count) for count in FLAGS.worker_images)
  names = [synthetic(folder, count, FLAGS.image_size // 2) for count in (few, many)]
  speeds = {1: [], 2: []}
  for turn in range(FLAGS.rounds):
    for workers in speeds if turn % 2 else reversed(speeds):
      seconds = [_run_workers(folder, name, workers, cores[:workers]) for name in names]
      if seconds[1] <= seconds[0]:
        raise dc.DeepcompError(f"expected --worker_images whose work takes longer than a start varies. Received: {few},{many}, "
                               f"which took {seconds[0]:.1f} and {seconds[1]:.1f} s")
      speeds[workers].append((many - few) / (seconds[1] - seconds[0]))
      print(f"  {workers} worker{'s' * (workers > 1)}: {speeds[workers][-1]:.1f} images/s", flush=True)
  ratios = [two / one for one, two in zip(*speeds.values())]
  print(f"  two workers over one: {statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


def _run_workers(folder, name, workers, cores):
  """Seconds of a run of `experiments.compress_dataset`."""
  with tempfile.TemporaryDirectory(dir=folder) as output:
    begin = time.perf_counter()
    process = measuring.start(
        "compress_dataset", f"--dataset={name}", f"--data_dir={folder}", "--splits=train", f"--output_dir={output}",
        f"--operating_point={FLAGS.operating_point}", "--beam_runner=DirectRunner",
        f"--beam_options=direct_running_mode=multi_processing,direct_num_workers={workers}", cores=cores, stderr=subprocess.PIPE,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"})
    _, said = process.communicate()
    if process.returncode:
      raise dc.DeepcompError(f"expected compress_dataset to succeed. Received: {said[-1000:]}")
    return time.perf_counter() - begin


if __name__ == "__main__":
  training_flags.main(main)
