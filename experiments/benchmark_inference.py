"""Time from a file's bytes to its classes, with and without a decoder, in one run (Fig. 6 and 12).

  python -m experiments.benchmark_inference

For photos of --image_size pixels at --operating_point, with networks of full width and random weights:
  (a) bitstream -> symbols -> cResNet-39, cResNet-51
  (b) the same bitstream -> symbols -> decoder -> ResNet-50
  (c) JPEG bytes -> pixels -> ResNet-50
Prints milliseconds per image (the median over the rounds, measured in turns), what of them is reading the bytes, the
ratio to (b), and the ratio of the multiply-adds of the networks.
"""

import os
import platform
import statistics
import time

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.evaluation import baselines
from deepcomp_tf.inference.inputs import NetworkInput
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.training import loop

FLAGS = flags.FLAGS
flags.DEFINE_string("operating_point", "bpp0.0983", "A name or a folder.")
flags.DEFINE_integer("image_size", 224, "Edge of the photos in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_list("batch_sizes", ["1", "32"], "Files at a time.")
flags.DEFINE_integer("repeats", 10, "Measurements of each; the median counts.", lower_bound=3)

JPEG_BITS_PER_PIXEL = 1.5


def main(argv):
  del argv
  if FLAGS.image_size % 8:
    raise dc.DeepcompError(f"--image_size must be a multiple of 8. Received: {FLAGS.image_size}")
  if any(not size.isdigit() or not int(size) for size in FLAGS.batch_sizes):
    raise dc.DeepcompError(f"--batch_sizes must be positive numbers. Received: {','.join(FLAGS.batch_sizes)}")
  codec = dc.Codec.load(FLAGS.operating_point)
  size, side = FLAGS.image_size, FLAGS.image_size // 8
  photos = list(photo_crops(max(int(batch) for batch in FLAGS.batch_sizes), size))
  files = [codec.compress(photo) for photo in photos]
  jpegs = [baselines.encode_at_most("jpeg", photo, int(size * size * JPEG_BITS_PER_PIXEL / 8)) for photo in photos]

  representation, decoded = NetworkInput("representation", codec), NetworkInput("decoded", codec)
  decoder = dc.evaluation.multiply_adds(codec.model.decoder, (side, side, codec.channels))
  ways = {}  # name: (bytes, how they are read, network from what was read to logits, multiply-adds)
  for name in ("cResNet-39", "cResNet-51"):
    network = make_network(name, 1000)
    ways[f"(a) bitstream -> {name}"] = (
        files, codec.symbols, lambda symbols, network=network: network(representation(symbols), training=False),
        dc.evaluation.multiply_adds(network, (side, side, codec.channels)))
  resnet = make_network("ResNet-50", 1000)
  count = dc.evaluation.multiply_adds(resnet, (size, size, 3))
  reference = "(b) bitstream -> decoder -> ResNet-50"
  ways[reference] = (files, codec.symbols, lambda symbols: resnet(decoded(decoded.decode(symbols)), training=False),
                     count + decoder)
  ways["(c) JPEG -> ResNet-50"] = (jpegs, baselines.decode, lambda image: resnet(decoded(image), training=False), count)

  print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{len(tf.config.list_physical_devices('GPU'))} GPUs, TensorFlow {tf.__version__}; {size}x{size} pixels, "
        f"{codec.operating_point}, {np.mean([len(data) for data in files]):.0f} bytes a file, "
        f"{np.mean([len(data) for data in jpegs]):.0f} a JPEG")
  print(f"{'batch':>5}  {'':<40}{'ms/image':>9}{'reading':>9}{'(b) takes':>11}{'its multiply-adds':>19}")
  for batch in map(int, FLAGS.batch_sizes):
    times = measure(ways, batch)
    for name, (_, _, _, operations) in ways.items():
      total, reading = times[name]
      print(f"{batch:>5}  {name:<40}{1000 * total / batch:>9.2f}{1000 * reading / batch:>9.2f}"
            f"{times[reference][0] / total:>9.2f} x{ways[reference][3] / operations:>17.2f} x")


def photo_crops(count, size):
  """`count` different crops of the sample photos, enlarged to size x size."""
  rng = np.random.default_rng(0)
  photos = list(samples.photos().values())
  for i in range(count):
    photo = photos[i % len(photos)]
    edge = min(*photo.shape[:2], max(size, 224))
    top, left = (int(rng.integers(0, side - edge + 1)) for side in photo.shape[:2])
    crop = tf.image.resize(photo[top:top + edge, left:left + edge], [size, size], "area")
    yield tf.saturate_cast(tf.round(crop), tf.uint8).numpy()


def measure(ways, batch):
  """{name: (seconds from bytes to logits, seconds of those for reading)} for a batch, medians."""
  functions = {name: tf.function(network, jit_compile=False) for name, (_, _, network, _) in ways.items()}
  times = {name: [] for name in ways}
  for repeat in range(FLAGS.repeats + 2):
    for name, (data, read, _, _) in ways.items():
      begin = time.perf_counter()
      stored = np.stack([read(one) for one in data[:batch]])
      middle = time.perf_counter()
      functions[name](stored).numpy()
      if repeat >= 2:  # the first two trace and warm up
        times[name].append((time.perf_counter() - begin, middle - begin))
  return {name: tuple(statistics.median(part) for part in zip(*values)) for name, values in times.items()}


if __name__ == "__main__":
  loop.main(main)
