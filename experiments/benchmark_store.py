"""What a cache of decoded examples costs at the size of a large set: filling, memory, starting, reading.

  python -m experiments.benchmark_store --examples=200000

A set of compressed files, of parts of the sample photos' symbols at --operating_point, is decoded into a `data.store.Store`: by
one core and by all, with the peak memory of that; then opened by two processes at once that read all of it, with the
proportional set size of each; then read as training reads it, in random crops. Every measurement has its process.
"""

import os
import sys
import tempfile

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import classification
from deepcomp_tf.data import sources
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.store import Store
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_integer("examples", 200_000, "How many there are.", lower_bound=1000)
flags.DEFINE_string("operating_point", "bpp0.0983", "A name or a folder.")
flags.DEFINE_integer("image_size", 128, "Edge of the images in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_integer("crop_size", 112, "Edge of the crops in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_integer("batch_size", 64, "Crops a batch.", lower_bound=1)
flags.DEFINE_integer("batches", 3000, "Batches that are timed.", lower_bound=1)
flags.DEFINE_string("cache_dir", None, "Folder on a local disk; empty: a temporary one.")
flags.DEFINE_enum("part", None, ["fill", "read"], "Measure only this, in this process; the program starts itself with it.")

# Different files; they are repeated.
FILES = 500


def main(argv):
  del argv
  if FLAGS.part == "fill":
    fill(FLAGS.cache_dir)
  elif FLAGS.part == "read":
    read(FLAGS.cache_dir)
  else:
    with tempfile.TemporaryDirectory(dir=FLAGS.cache_dir) as folder:
      compare(folder)


def compare(folder):
  """Starts the processes and prints what they measured."""
  cores = sorted(os.sched_getaffinity(0))
  times = {}
  for used in (cores[:1], cores):
    cache = os.path.join(folder, f"cores{len(used)}")
    (seconds, peak, size), = start("fill", cache, used)
    times[len(used)] = seconds
    print(f"filled by {len(used)} cores: {FLAGS.examples / seconds:.0f} examples/s, {size / 1e6:.0f} MB of symbols; peak memory "
          f"of it {peak / 1e6:.0f} MB, {peak / size:.2f} times the symbols")
  print(f"  {len(cores)} cores are {times[1] / times[len(cores)]:.2f} times as fast as one")
  for count in (1, 2):
    for first, speed, pss in start("read", cache, cores, count):
      print(f"read by {count} processes: first batch after {first:.2f} s, {speed:.0f} crops/s, proportional set size of the maps "
            f"{pss / 1e6:.0f} MB")


def start(part, cache, cores, count=1):
  """What some processes print, each of which may use these cores: list of lists of floats."""
  running = [measuring.start("benchmark_store", *sys.argv[1:], f"--part={part}", f"--cache_dir={cache}", cores=cores)
             for _ in range(count)]
  return [list(map(float, output.split())) for output in measuring.outputs_of(*running)]


def examples():
  """The set, of which nothing is on disk."""
  codec = dc.Codec.load(FLAGS.operating_point)
  rng = np.random.default_rng(0)
  side = FLAGS.image_size // 8
  photos = [codec.encode(photo) for photo in samples.photos().values()]
  maps = []
  for number in range(FILES):
    photo = photos[number % len(photos)]
    top, left = (rng.integers(length - side + 1) for length in photo.shape[:2])
    maps.append(photo[top:top + side, left:left + side])
  files = tf.constant([codec.pack(symbols, FLAGS.image_size, FLAGS.image_size) for symbols in maps])
  source = sources.Source(
      "synthetic", ["part"], FLAGS.examples, True, codec.fingerprint.hex(), "synthetic", lambda: "synthetic", str,
      lambda begin, end: tf.data.Dataset.range(begin, end).map(lambda number: (files[number % FILES], tf.constant(0, tf.int64))),
      None)
  return codec, classification.Examples(source, codec)


def fill(cache_dir):
  """Prints the seconds, the memory that it took at most, and the bytes of symbols."""
  _, read_anew = examples()
  entropy_coder.warm_up()
  before, begin = measuring.peak_memory(), measuring.clocks()
  store = Store.open(cache_dir, read_anew)
  print((measuring.clocks() - begin)[0], measuring.peak_memory() - before, store.memory_bytes)


def read(cache_dir):
  """Prints the seconds to the first batch, crops a second, and the proportional set size of the mapped file."""
  codec, read_anew = examples()
  begin = measuring.clocks()
  store = Store.open(cache_dir, read_anew)
  crops = Crops(NetworkInput("representation", codec), True, FLAGS.crop_size)
  batches = iter(crops.training_batches(store, FLAGS.batch_size, seed=0))
  next(batches)
  middle = measuring.clocks()
  for _ in range(FLAGS.batches):
    next(batches)
  speed = FLAGS.batches * FLAGS.batch_size / (measuring.clocks() - middle)[0]
  int(np.add.reduce([store.map(index)[0, 0, 0] for index in range(len(store))], dtype=np.int64))  # all of it is mapped
  print((middle - begin)[0], speed, mapped_bytes(store.folder))


def mapped_bytes(folder):
  """The process's share of what it has mapped of the files in a folder, in bytes."""
  total, inside = 0, False
  with open("/proc/self/smaps") as file:
    for line in file:
      if "-" in line.split()[0] and ":" not in line.split()[0]:
        inside = folder in line
      elif inside and line.startswith("Pss:"):
        total += 1024 * int(line.split()[1])
  return total


if __name__ == "__main__":
  training_flags.main(main)
