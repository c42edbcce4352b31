"""Whether two installations, of other TensorFlows or on other devices, write and read the same files, and how fast they are.

  python -m experiments.compare_stacks --write=FOLDER      # in one environment
  python -m experiments.compare_stacks --compare=FOLDER    # in the other
  python -m experiments.compare_stacks --time=PYTHON       # PYTHON: of the other environment, such as ENV/bin/python

The first writes the sample photos at every operating point, with the symbols, pixels and class probabilities that it finds in
them; the second reads these files and compares, and compresses the same photos anew. The third runs networks of full width
in a process of each environment, call by call in turns, so that both meet the same machine, and prints medians and the ratio
of this environment's to the other's.
"""

import collections
import functools
import os
import statistics
import subprocess
import sys
import time

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import samples
from deepcomp_tf.codec.container import EXTENSION
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.tasks.segment import class_ids
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.models.resnet import takes_representation
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training.software import software
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_string("write", "", "Folder to write; made, or replaced.")
flags.DEFINE_string("compare", "", "Folder that the other environment wrote.")
flags.DEFINE_string("time", "", "Python of the other environment.")
flags.DEFINE_string("only", "", "With --time: measure only what begins so, such as \"masks\".")
flags.DEFINE_integer("turns", 5, "With --time: calls of each kind that count, after two that do not.", lower_bound=1)
flags.DEFINE_bool("serve", False, "Run what standard input asks for; --time starts it in each environment.")

# File that says which environment wrote the folder.
STACK = "stack.txt"


def main(argv):
  del argv
  if FLAGS.serve:
    serve()
    return
  if bool(FLAGS.write) + bool(FLAGS.compare) + bool(FLAGS.time) != 1:
    raise dc.DeepcompError(f"expected one of --write, --compare and --time. Received: --write={FLAGS.write} "
                           f"--compare={FLAGS.compare} --time={FLAGS.time}")
  if FLAGS.time:
    measure([row for row in rows() if row.startswith(FLAGS.only)])
  elif FLAGS.write:
    write(FLAGS.write)
  else:
    compare(FLAGS.compare)


def write(path):
  """Writes the files of this environment, and what it finds in them, to a folder."""
  with files.whole_folder(path, last=STACK) as folder:
    for name, codec, classifier, photo in works():
      data = codec.compress(photo)
      files.write_file(os.path.join(folder, name + EXTENSION), data)
      np.savez_compressed(os.path.join(folder, name), **contents(codec, classifier, data))
    files.write_file(os.path.join(folder, STACK), stack().encode())
  print(f"{path}: written by {stack()}")


def compare(path):
  """Prints where this environment differs from that which wrote a folder."""
  if not files.exists(os.path.join(path, STACK)):
    raise dc.DeepcompError(f"expected files that --write wrote. Received: {path}")
  totals, largest = collections.Counter(), 0
  for name, codec, classifier, photo in works():
    data = files.read(os.path.join(path, name + EXTENSION))
    theirs = files.read_arrays(os.path.join(path, name + ".npz"))
    ours = contents(codec, classifier, data)
    difference = np.abs(ours["pixels"].astype(int) - theirs["pixels"])
    largest = max(largest, int(difference.max()))
    totals.update({
        "symbols read otherwise": int((ours["symbols"] != theirs["symbols"]).sum()),
        "symbols written otherwise": int((codec.encode(photo) != theirs["symbols"]).sum()),
        "symbols": ours["symbols"].size, "pixels' values that differ": int((difference > 0).sum()),
        "pixels' values": difference.size, "files": 1,
        "first classes that differ": int(ours["first_class"] != theirs["first_class"])})
  print(f"written by {files.read(os.path.join(path, STACK)).decode()}, read by {stack()}:")
  for key, value in {**totals, "largest difference of a pixel": largest}.items():
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


def rows():
  """{what is timed: function without arguments that makes a function without arguments that runs it}"""
  codec = dc.Codec.load("bpp0.0983")
  photo = np.tile(samples.photos()["coffee"], [2, 2, 1])

  def network(name, count, edge=224, masks=False):
    net = make_network(name, None if masks else 1000, dilated=masks)
    net = dc.models.DeepLab(net, 21) if masks else net
    inputs = NetworkInput("representation" if takes_representation(name) else "decoded", codec)

    @tf.function(jit_compile=False)
    def run(stored):
      logits = net(inputs(stored if inputs.kind == "representation" else codec.model.picture_of(stored)), training=False)
      return class_ids(logits, edge, edge) if masks else logits

    stored = tf.constant(codec.encode(photo[:edge, :edge])[np.newaxis].repeat(count, 0))
    return lambda: run(stored).numpy()

  found = {}
  for count in (1, 32):
    for name in ("cResNet-39", "cResNet-51", "cResNet-72", "ResNet-50"):
      found[f"classes of {count} of 224x224, {name}"] = functools.partial(network, name, count)
  for edge in (320, 512):
    for name in ("cResNet-39", "cResNet-51", "ResNet-50"):
      found[f"masks of {edge}x{edge}, {name}-d"] = functools.partial(network, name, 1, edge, masks=True)
  photo_512 = photo[:512, :768]
  symbols = codec.encode(photo_512)
  found["encoder of 768x512"] = lambda: lambda: codec.encode(photo_512)
  found["decoder of 768x512"] = lambda: lambda: codec.reconstruct(symbols, 512, 768)
  return found


def serve():
  """Prints what it runs on, and answers lines on standard input: the name of a row, which it prepares and runs twice, or an empty
  line for a call, to which it prints the seconds."""
  print(stack(), flush=True)
  made, run = rows(), None
  for line in sys.stdin:
    if line.strip():
      run = made[line.strip()]()
      run()
      run()
    begin = time.perf_counter()
    if not line.strip():
      run()
    print(time.perf_counter() - begin, flush=True)


def measure(names):
  """Prints how long the two environments take, call by call in turns."""
  processes = [measuring.start("compare_stacks", "--serve", python=python, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
               for python in (FLAGS.time, sys.executable)]
  try:
    print("the other: {}\nthis one: {}".format(*(_answer(process) for process in processes)))
    for name in names:
      for process in processes:
        _ask(process, name)
      times = [[_ask(process, "") for process in processes] for _ in range(FLAGS.turns)]
      other, this = (statistics.median(of) for of in zip(*times))
      print(f"  {name:<40} the other {1e3 * other:8.1f} ms, this one {1e3 * this:8.1f} ms, ratio {this / other:.2f}", flush=True)
  finally:
    for process in processes:
      process.stdin.close()
      process.wait()


def _ask(process, line):
  process.stdin.write(f"{line}\n")
  process.stdin.flush()
  return float(_answer(process))


def _answer(process):
  answer = process.stdout.readline().strip()
  if not answer:
    raise dc.DeepcompError("expected an environment with this package and its programs. Received: one whose --serve ended")
  return answer


def stack():
  versions = software()
  return ", ".join(f"{name} {versions[name]}" for name in ("python", "tensorflow", "keras", "numpy"))


if __name__ == "__main__":
  training_flags.main(main)
