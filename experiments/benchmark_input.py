"""Images per second into the training step: compressed files held in RAM against JPEG files, in one run.

  python -m experiments.benchmark_input --dataset=FOLDER --split=train --operating_point=bpp0.0983

The same images are read, cropped, mirrored and batched (sections 4.3, 4.5): from their JPEG files, decoded and cropped
anew in every epoch; from bitstreams in RAM, decoded to symbols in every epoch; and from symbols in RAM, decoded once.
They are compressed first, to a folder that is removed afterwards, unless --compressed_dir names one to keep. The rows
are measured in turns, and the median of the rounds counts.
"""

import contextlib
import statistics
import tempfile
import time

from absl import flags
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.data import classification
from deepcomp_tf.data import compressed
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, "TFDS set of images, or folder of split/class/*.jpg.", required=True)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps --dataset.")
flags.DEFINE_string("split", "train", "Split of --dataset.")
flags.DEFINE_string("operating_point", "bpp0.0983", "A name or a folder.")
flags.DEFINE_string("compressed_dir", None, "Folder to keep the compressed set in.")
flags.DEFINE_integer("shorter_side", 0, "Resize images to this before; both paths do. 0 keeps them.", lower_bound=0)
flags.DEFINE_integer("crop_size", 112, "Edge of the crops in pixels.")
flags.DEFINE_integer("batch_size", 64, "Images a batch.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Passes over the split for each row.", lower_bound=1)


def main(argv):
  del argv
  codec = dc.Codec.load(FLAGS.operating_point)
  source = classification.open_source(FLAGS.dataset, FLAGS.split, FLAGS.data_dir)
  with contextlib.ExitStack() as stack:
    folder = FLAGS.compressed_dir or stack.enter_context(tempfile.TemporaryDirectory())
    config = compressed.make_config(FLAGS.dataset, FLAGS.data_dir, [FLAGS.split], FLAGS.operating_point,
                                    FLAGS.shorter_side)
    builder = compressed.CompressedClassification(config=config, data_dir=folder)
    if not builder.is_prepared():
      builder.compress()
    name = f"{builder.name}/{config.name}"
    original, representation = NetworkInput("original"), NetworkInput("representation", codec)
    resize = (FLAGS.shorter_side, FLAGS.shorter_side) if FLAGS.shorter_side else None
    rows = {"JPEG files: decode and crop": (
        Crops(original, False, FLAGS.crop_size, resize=resize),
        classification.open_examples(FLAGS.dataset, FLAGS.split, original, FLAGS.data_dir))}
    for cache, label in (("encoded", "bitstreams in RAM: decode and crop"), ("decoded", "symbols in RAM: crop")):
      rows[label] = (Crops(representation, True, FLAGS.crop_size),
                     classification.open_examples(name, FLAGS.split, representation, folder, cache))
    speeds = {label: [] for label in rows}
    for epoch in range(FLAGS.rounds + 1):
      for label, (crops, examples) in rows.items():
        begin, count = time.perf_counter(), 0
        for stored, _ in crops.training_batches(examples, FLAGS.batch_size, seed=0, epoch=epoch):
          count += int(stored.shape[0])
        if epoch:  # the first warms up
          speeds[label].append(count / (time.perf_counter() - begin))
    print(f"{source.name}, {FLAGS.split}: {source.num_examples} images at {codec.operating_point}, crops of "
          f"{FLAGS.crop_size}; {len(tf.config.list_physical_devices('GPU'))} GPUs, median of {FLAGS.rounds} passes")
    first = None
    for label, values in speeds.items():
      speed = statistics.median(values)
      first = first or speed
      memory = rows[label][1].memory_bytes
      print(f"  {label}: {speed:.0f} images/s, {speed / first:.1f} times"
            + (f", {memory / len(rows[label][1]):.0f} bytes of RAM an image" if memory else ""))


if __name__ == "__main__":
  training_flags.main(main)
