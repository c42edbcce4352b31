"""Time from a file's bytes to its classes or its mask, with and without a decoder, in one run (Fig. 6 and 12).

  python -m experiments.benchmark_inference
  python -m experiments.benchmark_inference --task=segmentation --memory
  python -m experiments.benchmark_inference --task=graft --runtime=litert

With networks of full width and random weights, of grafts trained ones, at --operating_point:
  (a) bitstream -> symbols -> cResNet-39, -51, -72; for segmentation cResNet-39-d, -51-d, -72-d
  (b) the same bitstream -> symbols -> decoder -> ResNet-50, -71; for segmentation ResNet-50-d, -71-d
  (c) JPEG bytes -> pixels -> ResNet-50; classification only
For grafts: (a) with the graft that is --classifier, (b) with the decoder and the whole of its backbone.
Prints milliseconds per image (the median over the rounds, measured in turns), what of them is reading the bytes and what the
decoder, which is also run alone, the ratio to (b) with ResNet-50, and the ratio of the multiply-adds of the networks; `--record`
keeps them as JSON. TensorFlow runs the networks, or with --runtime=litert LiteRT, as commands do; the files are the same. The
paper's batches (appendix A.9) are --batch_sizes=256, and 20 for segmentation. `--memory`
also prints the peak resident memory of (a) and (b) for a photo of 2000x1500 pixels, each in its process.
"""

import sys
import time
from typing import Callable
from typing import NamedTuple
from typing import Optional

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.evaluation import baselines
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.files import write_json
from deepcomp_tf.tasks import litert
from deepcomp_tf.tasks.segment import class_ids
from deepcomp_tf.threads import cores
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.models.resnet import takes_representation
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_enum("task", "classification", ["classification", "segmentation", "graft"], "What the networks say.")
flags.DEFINE_string("classifier", None, "Of --task=graft: a graft, by its name or its folder; by default what is shipped for "
                    "--operating_point.")
flags.DEFINE_string("operating_point", "bpp0.0983", "A name or a folder.")
flags.DEFINE_list("image_sizes", [], "Edges of the photos in pixels, multiples of 8. Empty: 224, for grafts what they "
                  "were trained on, and 320 and 512 for segmentation.")
flags.DEFINE_list("batch_sizes", [], "Files at a time. Empty: 1 and 32, and 1 for segmentation.")
flags.DEFINE_enum("runtime", "tensorflow", ["tensorflow", "litert"], "What runs the networks and the decoder.")
flags.DEFINE_integer("repeats", 10, "Measurements of each; the median counts.", lower_bound=3)
flags.DEFINE_bool("memory", False, "Also measure the peak memory for a photo of 2000x1500 pixels.")
flags.DEFINE_string("record", "", "JSON file to write the measurements to as well; overwritten.")
flags.DEFINE_string("memory_of", None, "Measure nothing but the memory of this network, in this process.")

JPEG_BITS_PER_PIXEL = 1.5
MEMORY_SHAPE = (1500, 2000)


class Way(NamedTuple):
  """A way from bytes to what a network says.

  files: list of bytes.
  read: from a list of bytes to a list of uint8 symbols or pixels.
  network: from a batch of those to logits or masks.
  multiply_adds: of the network for an image.
  decoder: from a batch of symbols to pixels, where that is a part of the network; else None.
  """
  files: list
  read: Callable
  network: Callable
  multiply_adds: int
  decoder: Optional[Callable] = None


def main(argv):
  del argv
  segmentation = FLAGS.task == "segmentation"
  codec = dc.Codec.load(FLAGS.operating_point)
  if FLAGS.memory_of:
    measure_memory(codec, FLAGS.memory_of)
    return
  graft = load_graft() if FLAGS.task == "graft" else None
  sizes = training_flags.numbers("image_sizes") or (
      [320, 512] if segmentation else [graft.info["crop_size"]] if graft else [224])
  batches = training_flags.numbers("batch_sizes") or ([1] if segmentation else [1, 32])
  if any(size % STRIDE or not size for size in sizes):
    raise dc.DeepcompError(f"--image_sizes must be positive multiples of {STRIDE}. Received: {','.join(FLAGS.image_sizes)}")
  if 0 in batches:
    raise dc.DeepcompError(f"--batch_sizes must be positive. Received: {','.join(FLAGS.batch_sizes)}")
  entropy_coder.warm_up()
  names = {"classification": ("cResNet-39", "cResNet-51", "cResNet-72", "ResNet-50", "ResNet-71"),
           "segmentation": ("cResNet-39", "cResNet-51", "cResNet-72", "ResNet-50", "ResNet-71"),
           "graft": graft and (graft.network.architecture, backbone_of(graft))}[FLAGS.task]
  if FLAGS.memory:  # before there is much in this process: a new process begins with its parent's peak
    for name in names:
      print(*measuring.outputs_of(measuring.start("benchmark_inference", *sys.argv[1:], f"--memory_of={name}")), end="")
  decoded = label(backbone_of(graft) if graft else "ResNet-50")
  networks = {name: full_network(name) for name in names}
  machine, rows = measuring.machine(), []
  print(f"{machine}; {codec.operating_point}; {FLAGS.runtime}")
  print(f"{'pixels':<9}{'batch':>5}  {'':<42}{'ms/image':>9}{'reading':>9}{'decoding':>9}{'(b) takes':>11}"
        f"{'its multiply-adds':>19}")
  for size in sizes:
    photos = list(photo_crops(max(batches), size))
    files = list(codec.compress_many(photos))
    ways = {label(name): from_bitstream(codec, files, network, size) for name, network in networks.items()}
    reference = ways[decoded]
    if FLAGS.task == "classification":
      jpegs = [baselines.encode_at_most("jpeg", photo, int(size * size * JPEG_BITS_PER_PIXEL / 8)) for photo in photos]
      pixels, resnet = NetworkInput("original"), networks["ResNet-50"]
      ways["(c) JPEG -> ResNet-50"] = Way(
          jpegs, lambda files: [baselines.decode(data) for data in files],
          lambda image: resnet(pixels(image), training=False),  # pylint: disable=cell-var-from-loop
          dc.evaluation.multiply_adds(resnet, (size, size, 3)))
    for batch in batches:
      times = measure(ways, batch)
      for name, way in ways.items():
        total, reading, decoding = (1000 * times[name] / batch).tolist()
        rows.append({"way": name, "pixels": size, "batch": batch, "milliseconds": total, "milliseconds_reading": reading,
                     "milliseconds_decoding": decoding, "multiply_adds": way.multiply_adds})
        print(f"{f'{size}x{size}':<9}{batch:>5}  {name:<42}{total:>9.2f}{reading:>9.2f}{decoding:>9.2f}"
              f"{1000 * times[decoded][0] / batch / total:>9.2f} x{reference.multiply_adds / way.multiply_adds:>17.2f} x")
    for name, way in ways.items():
      print(f"{f'{size}x{size}':<9}       {name:<42}{np.mean([len(data) for data in way.files]):>7.0f} bytes a file, "
            f"{way.multiply_adds / 1e9:.2f} G multiply-adds")
  if FLAGS.record:
    write_json(FLAGS.record, {"machine": machine, "date": time.strftime("%Y-%m-%d"), "task": FLAGS.task,
                              "runtime": FLAGS.runtime, "operating_point": codec.operating_point, "rows": rows}, sort_keys=True)


def load_graft():
  """The classifier of --task=graft."""
  name = FLAGS.classifier or f"graft_{FLAGS.operating_point}"
  classifier = dc.Classifier.load(name)
  if not isinstance(classifier.network, dc.models.Graft):
    raise dc.DeepcompError(f"--task=graft takes a graft. Received: --classifier={name}, a {classifier.network.architecture}")
  return classifier


def backbone_of(graft):
  """What the network is called that a classifier is a graft of."""
  return graft.network.architecture.removeprefix("graft of ")


def full_network(name):
  """The network of full width that a row stands for, with random weights: of 1000 or VOC's classes. A graft is what it is."""
  if FLAGS.task == "classification":
    return make_network(name, 1000)
  if FLAGS.task == "graft":
    graft = load_graft().network
    return graft if name == graft.architecture else dc.models.Backbone(
        graft.source, graft.cut, graft.num_classes, preprocessing="lite")
  return dc.models.DeepLab(make_network(name, None, dilated=True), len(mask_classes.VOC))


def label(name):
  reads = takes_representation(name) or name.startswith("graft of ")
  return f"{'(a) bitstream' if reads else '(b) bitstream -> decoder'} -> {name}{'-d' if FLAGS.task == 'segmentation' else ''}"


def from_bitstream(codec, files, network, size):
  """The `Way` from bitstreams of photos of one size to logits, or to masks of that size."""
  height, width = (size, size) if isinstance(size, int) else size
  side = -(-height // STRIDE), -(-width // STRIDE)
  finish = lambda logits: class_ids(logits, height, width) if FLAGS.task == "segmentation" else logits
  if isinstance(getattr(network, "backbone", network), (dc.models.CResNet, dc.models.Graft)):
    inputs, decoder = NetworkInput("representation", codec), None
    run = lambda symbols: finish(network(inputs(symbols), training=False))
    count = dc.evaluation.multiply_adds(network, (*side, codec.channels))
  else:
    inputs, decoder = NetworkInput("decoded", codec), codec.model.picture_of
    run = lambda symbols: finish(network(inputs(decoder(symbols)), training=False))
    count = (dc.evaluation.multiply_adds(network, (STRIDE * side[0], STRIDE * side[1], 3))
             + dc.evaluation.multiply_adds(codec.model.decoder, (*side, codec.channels)))
  return Way(files, lambda files: codec.symbols_of(files)[0], run, count, decoder)


def photo_crops(count, size):
  """`count` different crops of the sample photos, enlarged or reduced to size x size."""
  rng = np.random.default_rng(0)
  photos = list(samples.photos().values())
  for i in range(count):
    photo = photos[i % len(photos)]
    edge = min(*photo.shape[:2], max(size, 224))
    top, left = (int(rng.integers(0, side - edge + 1)) for side in photo.shape[:2])
    crop = tf.image.resize(photo[top:top + edge, left:left + edge], [size, size], "area")
    yield tf.saturate_cast(tf.round(crop), tf.uint8).numpy()


def measure(ways, batch):
  """{name: seconds from bytes to the end, of those for reading, and for the decoder, run alone} for a batch, medians."""
  compiled = lambda way, function: _compiled(function, np.stack(way.read(way.files[:batch])))
  functions = {name: compiled(way, way.network) for name, way in ways.items()}
  decoders = {name: compiled(way, way.decoder) for name, way in ways.items() if way.decoder}
  times = {name: [] for name in ways}
  for repeat in range(FLAGS.repeats + 2):
    for name, way in ways.items():
      begin = time.perf_counter()
      stored = np.stack(way.read(way.files[:batch]))
      middle = time.perf_counter()
      functions[name](stored)
      end = time.perf_counter()
      if way.decoder:
        decoders[name](stored)
      if repeat >= 2:  # the first two trace and warm up
        times[name].append((end - begin, middle - begin, time.perf_counter() - end))
  return {name: np.median(values, axis=0) for name, values in times.items()}


def _compiled(function, stored):
  """A function of arrays of this size, as --runtime runs it, that returns arrays."""
  if FLAGS.runtime == "tensorflow":
    graph = tf.function(function, jit_compile=False)
    return lambda stored: graph(stored).numpy()
  from ai_edge_litert import interpreter
  data = litert.convert(lambda symbols: {"answer": function(symbols)}, tf.TensorSpec(stored.shape, stored.dtype, "symbols"))
  run = interpreter.Interpreter(model_content=data, num_threads=cores()).get_signature_runner("symbols")
  return lambda stored: run(symbols=stored)["answer"]


def measure_memory(codec, name):
  """Peak resident memory from the bytes of one large photo to what the network says."""
  data = codec.compress(measuring.large_photo(*MEMORY_SHAPE))
  way = from_bitstream(codec, [], full_network(name), MEMORY_SHAPE)
  before, begin = measuring.peak_memory(), measuring.clocks()
  tf.function(way.network, jit_compile=False)(way.read([data])[0][np.newaxis]).numpy()
  print(f"{label(name)}, {MEMORY_SHAPE[1]}x{MEMORY_SHAPE[0]}: peak resident memory "
        f"{measuring.peak_memory() / 1024 ** 3:.2f} GiB, {before / 1024 ** 3:.2f} before the file was read; "
        f"{(measuring.clocks() - begin)[0]:.1f} s")


if __name__ == "__main__":
  training_flags.main(main)
