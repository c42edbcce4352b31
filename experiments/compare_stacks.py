"""Whether two installations, of other TensorFlows or on other devices, write and read the same files.

  python -m experiments.compare_stacks --write=FOLDER      # in one environment
  python -m experiments.compare_stacks --compare=FOLDER    # in the other

The first writes the sample photos at every operating point, with the symbols, pixels and class probabilities that it finds in
them; the second reads these files and compares, and compresses the same photos anew.
"""

import importlib.metadata
import os
import sys

from absl import flags
import numpy as np

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import samples
from deepcomp_tf.codec.container import EXTENSION
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("write", "", "Folder to write; made, or replaced.")
flags.DEFINE_string("compare", "", "Folder that the other environment wrote.")

# File that says which environment wrote the folder.
STACK = "stack.txt"


def main(argv):
  del argv
  if bool(FLAGS.write) == bool(FLAGS.compare):
    raise dc.DeepcompError(f"expected --write or --compare. Received: --write={FLAGS.write} --compare={FLAGS.compare}")
  if FLAGS.write:
    with files.whole_folder(FLAGS.write, last=STACK) as folder:
      for name, codec, classifier, photo in works():
        data = codec.compress(photo)
        files.write_file(os.path.join(folder, name + EXTENSION), data)
        np.savez_compressed(os.path.join(folder, name), **contents(codec, classifier, data))
      files.write_file(os.path.join(folder, STACK), stack().encode())
    print(f"{FLAGS.write}: written by {stack()}")
    return
  if not files.exists(os.path.join(FLAGS.compare, STACK)):
    raise dc.DeepcompError(f"expected files that --write wrote. Received: {FLAGS.compare}")
  totals = {"symbols read otherwise": 0, "symbols written otherwise": 0, "symbols": 0, "largest difference of a pixel": 0,
            "pixels' values that differ": 0, "pixels' values": 0, "first classes that differ": 0, "files": 0}
  for name, codec, classifier, photo in works():
    data = files.read(os.path.join(FLAGS.compare, name + EXTENSION))
    theirs = files.read_arrays(os.path.join(FLAGS.compare, name + ".npz"))
    ours = contents(codec, classifier, data)
    difference = np.abs(ours["pixels"].astype(int) - theirs["pixels"])
    for key, value in (("symbols read otherwise", (ours["symbols"] != theirs["symbols"]).sum()),
                       ("symbols written otherwise", (codec.encode(photo) != theirs["symbols"]).sum()),
                       ("symbols", ours["symbols"].size), ("pixels' values that differ", (difference > 0).sum()),
                       ("pixels' values", difference.size),
                       ("first classes that differ", ours["first_class"] != theirs["first_class"]), ("files", 1)):
      totals[key] += int(value)
    totals["largest difference of a pixel"] = max(totals["largest difference of a pixel"], int(difference.max()))
  print(f"written by {files.read(os.path.join(FLAGS.compare, STACK)).decode()}, read by {stack()}:")
  for key, value in totals.items():
    print(f"  {key}: {value}")


def works():
  """Yields (name, codec, classifier, photo) of every sample photo at every operating point."""
  for point in dc.operating_points.names():
    codec = dc.Codec.load(point)
    photos = samples.photos()
    classifier = dc.Classifier.load_for(codec.compress(photos["rocket"]))
    for name, photo in photos.items():
      yield f"{name}_{point}", codec, classifier, photo


def contents(codec, classifier, data):
  """What a file holds: symbols, pixels, and the class that the shipped classifier finds first."""
  return {"symbols": codec.symbols(data), "pixels": codec.decompress(data),
          "first_class": classifier.classify(data)[0][0]}


def stack():
  python = ".".join(map(str, sys.version_info[:3]))
  versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "numpy"))
  return f"Python {python}, {versions}"


if __name__ == "__main__":
  training_flags.main(main)
