"""Compresses a classification set once, to train and evaluate on straight from the bitstreams (sections 4.3, 4.5).

  python -m experiments.compress_dataset --dataset=imagenet2012 --splits=train,validation --shorter_side=256 \
      --operating_point=bpp0.330 --output_dir=SETS
  python -m experiments.compress_dataset --dataset=FOLDER --splits=train,val --operating_point=bpp0.330 --output_dir=SETS

The result is a TFDS set: `tfds.load("compressed_classification/imagenet2012-bpp0.330", data_dir=SETS)`, the name
that the training and evaluation programs take as --dataset, with --data_dir=SETS. What it takes is printed, and kept in
its folder as storage.json. A stopped run goes on where it was: finished chunks of 256 images are kept beside the set until
it is written. With --beam_runner the work runs on Apache Beam, whose workers share --dataset and --output_dir, nothing else.
"""

import functools
import os

from absl import flags
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.data import compressed
from deepcomp_tf.tasks import aim
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, "TFDS set with image and label, or folder of split/class/*.jpg.", required=True)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps --dataset.")
flags.DEFINE_list("splits", ["train", "validation"], "Splits to compress, or slices of them, such as train[:10%].")
flags.DEFINE_string("operating_point", None, "A name or a folder.", required=True)
flags.DEFINE_integer("shorter_side", 0, "Resize images so that this is their shorter side, in pixels; 0 keeps them as "
                     "they are. 256 is that of TF-Slim's evaluation on ImageNet.", lower_bound=0)
training_flags.define_search_flags()
flags.DEFINE_string("output_dir", None, "Folder of TFDS sets to write to.", required=True)
training_flags.define_beam_flags()

# File in the folder of the set: its examples, and the bytes that they take in each form.
STORAGE = "storage.json"

# File beside it: a line for each image that could not be decoded, with the reason. It is missing where all could.
LEFT_OUT = "left_out.txt"


def main(argv):
  del argv
  load_codec = functools.partial(aim.open_codec, FLAGS.operating_point, FLAGS["for"].value)
  codec = load_codec()
  config = compressed.make_config(FLAGS.dataset, FLAGS.data_dir, FLAGS.splits, load_codec, FLAGS.shorter_side, FLAGS.effort)
  builder = compressed.CompressedClassification(config=config, data_dir=FLAGS.output_dir, beam=bool(FLAGS.beam_runner))
  if builder.is_prepared():
    asked = {"fingerprint": codec.fingerprint.hex(), "encoder_version": codec.encoder_version, "shorter_side": FLAGS.shorter_side,
             "splits": FLAGS.splits, "effort": FLAGS.effort, "readers": codec.readers,
             "source_identity": builder.source_identity()}
    # Early sets do not name their splits, later sets do not tell sources of the same name apart; all of these are of the first
    # encoder.
    written = {"encoder_version": 1, "effort": 0, "readers": "people",
               **tfds.builder_from_directory(builder.data_dir).info.metadata}
    if any(written.get(name, value) != value for name, value in asked.items()):
      raise dc.DeepcompError(f"{builder.data_dir} holds a set of another source, other networks, another size, effort or other "
                             f"splits ({written}); remove it or give another --output_dir")
    print(f"{builder.data_dir} is there already.")
    return
  options = {"beam_runner": FLAGS.beam_runner, "beam_options": training_flags.beam_options()} if FLAGS.beam_runner else {}
  totals = builder.compress(**options)
  on_disk = sum(files.size(os.path.join(builder.data_dir, name)) for name in files.listdir(builder.data_dir))
  files.write_json(os.path.join(builder.data_dir, STORAGE), {
      "source": FLAGS.dataset and os.path.basename(os.path.normpath(FLAGS.dataset)), "operating_point": codec.operating_point,
      "examples": totals["examples"], "skipped": len(totals["skipped"]), "source_bytes": totals["source_bytes"],
      "bitstream_bytes": totals["bytes"], "set_bytes": on_disk, "symbol_bytes": totals["symbols"]}, sort_keys=True)
  print(f"{builder.data_dir}: {totals['examples']} examples at {codec.operating_point}")
  for name, size in (("source", totals["source_bytes"]), ("bitstreams (in RAM with --cache=encoded)", totals["bytes"]),
                     ("on disk as a TFDS set", on_disk), ("symbols in RAM (--cache=decoded)", totals["symbols"])):
    print(f"  {name}: {size / 1e6:.2f} MB, {size / totals['examples']:.0f} bytes an example, "
          f"{100 * size / totals['source_bytes']:.1f} % of the source")
  if totals["skipped"]:
    path = os.path.join(builder.data_dir, LEFT_OUT)
    lines = list(map(files.printable, totals["skipped"]))
    files.write_file(path, "".join(f"{line}\n" for line in lines).encode(), overwrite=True)
    for line in lines[:5]:
      print(f"  left out: {line}")
    print(f"  {len(lines)} images cannot be decoded and are left out; all are named in {path}")


if __name__ == "__main__":
  training_flags.main(main)
