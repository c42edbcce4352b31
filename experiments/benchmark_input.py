"""Images per second into the training step: compressed files held in RAM against JPEG files, in one run.

  python -m experiments.benchmark_input --dataset=FOLDER --split=train --operating_point=bpp0.0983

The same images are read, cropped, mirrored and batched (sections 4.3, 4.5): from their JPEG files, decoded and cropped
anew in every epoch; from bitstreams in RAM, decoded to symbols in every epoch; and from symbols in RAM, decoded once.
Beside them, what the codec alone makes of the bitstreams on one thread and on all, a batch on each as in training. With
--shorter_side, the JPEG files are resized copies, of --jpeg_quality, and these are what is compressed. Everything lies
in a folder that is removed afterwards, unless --compressed_dir names one to keep. The rows are measured in turns, each
from its first batch on, since the start of a pass costs the same for sets of any size, and the median of the rounds
counts. On a machine that does other things, too, only the CPU times can be compared: a row with more threads gets more
of its cores.
"""

import contextlib
import os
import tempfile

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec.images import is_plain_jpeg
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import classification
from deepcomp_tf.data import sources
from deepcomp_tf.data import compressed
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.cut import resize_shorter_side
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, "TFDS set of images, or folder of split/class/*.jpg.", required=True)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps --dataset.")
flags.DEFINE_string("split", "train", "Split of --dataset.")
flags.DEFINE_list("operating_point", ["bpp0.0983"], "Names or folders, one table each.")
flags.DEFINE_string("compressed_dir", None, "Folder to keep the compressed set in.")
flags.DEFINE_integer("shorter_side", 0, "Resize the images to this once, before all. 0 keeps them.", lower_bound=0)
flags.DEFINE_integer("jpeg_quality", 90, "Of resized images.", lower_bound=1, upper_bound=100)
flags.DEFINE_integer("crop_size", 112, "Edge of the crops in pixels.")
flags.DEFINE_integer("batch_size", 64, "Images a batch.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Passes over the split for each row.", lower_bound=1)


def main(argv):
  del argv
  entropy_coder.warm_up()
  with contextlib.ExitStack() as stack:
    folder = FLAGS.compressed_dir or stack.enter_context(tempfile.TemporaryDirectory())
    dataset = FLAGS.dataset
    if FLAGS.shorter_side:
      dataset = os.path.join(folder, f"jpeg{FLAGS.shorter_side}")
      if not files.isdir(dataset):
        write_resized(dataset)
    for operating_point in FLAGS.operating_point:
      compare(dataset, operating_point, folder)


def write_resized(folder):
  """Writes the images as JPEG files of --shorter_side to folder/split/class."""
  source = sources.open_source(FLAGS.dataset, FLAGS.split, FLAGS.data_dir)
  for number, (data, label) in enumerate(source.read(0, source.num_examples).as_numpy_iterator()):
    pixels = resize_shorter_side(sources.decode_image(data), FLAGS.shorter_side)
    path = os.path.join(folder, FLAGS.split, source.class_names[label])
    files.makedirs(path)
    tf.io.write_file(os.path.join(path, f"{number:06d}.jpg"), tf.io.encode_jpeg(pixels, quality=FLAGS.jpeg_quality))


def compare(dataset, operating_point, folder):
  """Measures and prints the table of an operating point."""
  codec = dc.Codec.load(operating_point)
  source = sources.open_source(dataset, FLAGS.split, FLAGS.data_dir)
  config = compressed.make_config(dataset, FLAGS.data_dir, [FLAGS.split], lambda: codec)
  builder = compressed.CompressedClassification(config=config, data_dir=folder)
  if not builder.is_prepared():
    builder.compress()
  name = f"{builder.name}/{config.name}"
  original, representation = NetworkInput("original"), NetworkInput("representation", codec)
  photos = [data for data, _ in source.read(0, source.num_examples).as_numpy_iterator()]
  plain = sum(map(is_plain_jpeg, photos))
  encoded, decoded = (classification.open_examples(name, FLAGS.split, representation, folder, cache, folder)
                      for cache in ("encoded", "decoded"))
  pixels, symbols = Crops(original, False, FLAGS.crop_size), Crops(representation, True, FLAGS.crop_size)
  encoded_batches = [data.numpy().tolist() for data, _ in encoded.order().batch(FLAGS.batch_size)]
  stored_bytes = sum(len(data) for batch in encoded_batches for data in batch)

  def batches(crops, examples):
    return lambda epoch: (stored for stored, _ in crops.training_batches(examples, FLAGS.batch_size, seed=0, epoch=epoch))

  def codec_alone(threads):
    crops_of = lambda batch: codec.crops_of(batch, FLAGS.crop_size // STRIDE, threads=1)[0]
    return lambda epoch: ordered_map(crops_of, encoded_batches, threads, ahead=threads)

  rows = {  # what is measured, and its bytes in all
      "JPEG files: decode and crop": (
          batches(pixels, classification.open_examples(dataset, FLAGS.split, original, FLAGS.data_dir)), sum(map(len, photos))),
      "bitstreams in RAM: decode and crop": (batches(symbols, encoded), stored_bytes),
      "  the codec alone, one thread": (codec_alone(1), stored_bytes),
      f"  the codec alone, {cores()} threads": (codec_alone(cores()), stored_bytes),
      "symbols in a file that is mapped into memory: crop": (batches(symbols, decoded), decoded.memory_bytes),
  }
  times = {label: [] for label in rows}  # [seconds, seconds of CPU time] an image
  for epoch in range(FLAGS.rounds + 1):
    for label, (make, _) in rows.items():
      stored = make(epoch)
      next(stored)
      begin, count = measuring.clocks(), 0
      for batch in stored:
        count += int(batch.shape[0])
      if epoch:  # the first warms up
        times[label].append((measuring.clocks() - begin) / count)
  print(f"{source.name}, {FLAGS.split}: {source.num_examples} images at {codec.operating_point}, crops of "
        f"{FLAGS.crop_size}; {measuring.machine()}, median of {FLAGS.rounds} passes; "
        f"{plain} of {len(photos)} files are plain JPEG files, which TensorFlow decodes, the others Pillow")
  first = None
  for label, (seconds, cpu_seconds) in ((label, np.median(values, axis=0)) for label, values in times.items()):
    first = first or seconds
    print(f"  {label}: {1 / seconds:.0f} images/s, {first / seconds:.1f} times; an image: {1000 * cpu_seconds:.2f} ms of CPU "
          f"time, {rows[label][1] / source.num_examples:.0f} bytes")


if __name__ == "__main__":
  training_flags.main(main)
