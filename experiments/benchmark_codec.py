"""Speed and memory of the codec, everything in one run on one machine.

  python -m experiments.benchmark_codec

Prints, as ratios of what was measured in the same run: the network's throughput in multiply-adds against a
float32 matrix product, entropy coding's share of compressing and decompressing and nanoseconds of CPU time a symbol of
224x224 photos, compiled and in numpy, and the start-up of a fresh process. `--megapixels=48` also compresses and decompresses a
photo of that size in a fresh process and reports its peak memory.
"""

import functools
import subprocess
import sys

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec.operating_point import OperatingPoint
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_integer("repeats", 20, "Measurements of each; the median counts.", lower_bound=3)
flags.DEFINE_float("megapixels", 0.0, "Also measure the memory for a photo of this many million pixels.", lower_bound=0.0)
flags.DEFINE_bool("memory_only", False, "Measure nothing but the memory, in this process.")
flags.DEFINE_string("memory_operating_point", "bpp0.635", "Operating point of the memory measurement.")
flags.DEFINE_integer("memory_effort", 0, "Its --effort.", lower_bound=0)

MATRIX = 2048
SMALL = 224
FORMS = ("compiled", "numpy")
STARTUP = "import deepcomp_tf as dc; dc.Codec.load('bpp0.330').compress(__import__('numpy').zeros([64, 64, 3], 'uint8'))"


def main(argv):
  del argv
  if FLAGS.memory_only:
    measure_memory()
    return
  print(measuring.machine())
  # The photo is 768x512 as Kodak's are: the sample enlarged.
  photo = tf.image.resize(samples.photos()["coffee"], [512, 768], "bicubic")
  photo = tf.cast(tf.clip_by_value(tf.round(photo), 0, 255), tf.uint8).numpy()
  a = tf.random.normal([MATRIX, MATRIX])
  product = tf.function(lambda: tf.matmul(a, a))
  small = [photo[top:top + SMALL, left:left + SMALL] for top in (0, 144, 288) for left in (0, 181, 362, 543)]
  begin = measuring.clocks()
  entropy_coder.warm_up()
  print(f"compiling the entropy coder: {(measuring.clocks() - begin)[1]:.1f} s of CPU time")

  for name in dc.operating_points.names():
    point = OperatingPoint.load(name)
    codec = dc.Codec(point)
    data, symbols = codec.compress(photo), codec.encode(photo)
    works = {
        "matrix product": product,
        "encoder": lambda: codec.encode(photo),
        "decoder": lambda: codec.decode(symbols, *photo.shape[:2]),
    }
    maps, alone = np.stack([codec.encode(part) for part in small]), {}
    for form in FORMS:
      coder = entropy_coder.EntropyCoder(point.context_model, compiled=form == "compiled")
      works["encoding", form] = functools.partial(coder.encode, symbols)
      works["decoding", form] = functools.partial(coder.decode, coder.encode(symbols), *symbols.shape[:2])
      alone["encoding", form] = functools.partial(coder.encode_batch, maps, 1)
      size = maps.shape[1:3]
      jobs = [entropy_coder.Job(data, *size, 0, 0, *size, number * maps[0].size)
              for number, data in enumerate(coder.encode_batch(maps))]
      alone["decoding", form] = functools.partial(coder.decode_batch, jobs, np.empty_like(maps), 1)
    figures = {name: np.median(times[:, 0]) for name, times in measuring.in_turns(works, FLAGS.repeats).items()}
    coder_figures = {name: np.median(times[:, 1]) / maps.size for name, times in measuring.in_turns(alone, FLAGS.repeats).items()}
    peak = MATRIX ** 3 / figures["matrix product"]
    print(f"\n{name}, {len(data)} bytes for 768x512; matrix product {peak / 1e9:.1f} G multiply-adds/s")
    for part, network, shape in (("encoder", codec.model.encoder, photo.shape),
                                 ("decoder", codec.model.decoder, symbols.shape)):
      count = dc.evaluation.multiply_adds(network, shape)
      rate = count / figures[part]
      print(f"  {part}: {1000 * figures[part]:.1f} ms, {count / 1e9:.2f} G multiply-adds, "
            f"{rate / 1e9:.1f} G/s, {100 * rate / peak:.0f} % of the matrix product")
    for direction, network in (("encoding", "encoder"), ("decoding", "decoder")):
      print(f"  entropy {direction}: " + "; ".join(
          f"{form} {1000 * entropy:.1f} ms, {100 * entropy / (entropy + figures[network]):.1f} % of all, "
          f"{1e9 * coder_figures[direction, form]:.0f} ns a symbol of {SMALL}x{SMALL}"
          for form, entropy in ((form, figures[direction, form]) for form in FORMS)))

  begin = measuring.clocks()
  subprocess.run([sys.executable, "-c", STARTUP], check=True, stderr=subprocess.DEVNULL)
  print(f"\nstart-up, from a new process to its first compressed byte: {(measuring.clocks() - begin)[0]:.1f} s")
  if FLAGS.megapixels:
    print(*measuring.outputs_of(measuring.start("benchmark_codec", *sys.argv[1:], "--memory_only")), end="")


def measure_memory():
  """Peak resident memory of compressing and decompressing one large photo."""
  side = int(round((FLAGS.megapixels * 1e6 / 12) ** 0.5))
  photo = measuring.large_photo(3 * side, 4 * side)
  codec = dc.Codec.load(FLAGS.memory_operating_point)
  begin = measuring.clocks()
  data = codec.compress(photo, FLAGS.memory_effort)
  middle = measuring.clocks()
  assert codec.decompress(data).shape == photo.shape
  compressing, decompressing = (middle - begin)[0], (measuring.clocks() - middle)[0]
  print(f"{codec.operating_point}, effort {FLAGS.memory_effort}, {photo.shape[1]}x{photo.shape[0]}: peak resident memory "
        f"{measuring.peak_memory() / 1024 ** 3:.2f} GiB; compressed in {compressing:.0f} s to {len(data)} bytes, "
        f"decompressed in {decompressing:.0f} s")


if __name__ == "__main__":
  training_flags.main(main)
