"""What several replicas cost and gain: images a second of a training step on one device and on all, in turns.

  python -m experiments.benchmark_training --network=cResNet-51

On a machine with GPUs: one of them against all of them, each with --batch_size images; the efficiency is the speed of all over
their number times the speed of one. On a machine without: one device with all cores against as many worker processes as there are
cores, each on one of them, with the same global batch, so that the ratio is what the strategy itself costs. Each measurement
starts new processes; the median of the rounds counts.
"""

import functools
import json
import os
import socket
import statistics
import sys

from absl import flags
import tensorflow as tf

from deepcomp_tf.data.part import distribute
from deepcomp_tf.models.resnet import ARCHITECTURES
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.models.resnet import takes_representation
from deepcomp_tf.threads import cores
from deepcomp_tf.training import distribution
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "cResNet-51", list(ARCHITECTURES), "Network of Table 1, for 1000 classes.")
flags.DEFINE_float("width", 1.0, "Factor on the network's numbers of channels.", lower_bound=0.01)
flags.DEFINE_integer("crop_size", 224, "Edge of the crops in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_integer("channels", 32, "C, of a network that takes the representation.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images a step, for each GPU, or for all workers together.", lower_bound=1)
flags.DEFINE_integer("steps", 10, "Steps that are timed.", lower_bound=1)
flags.DEFINE_integer("rounds", 3, "Turns.", lower_bound=1)
flags.DEFINE_bool("synchronized_batch_norm", False, "As of the training programs.")
flags.DEFINE_enum("precision", "float32", distribution.PRECISIONS, "As of the training programs.")
flags.DEFINE_integer("devices", 0, "Measure on this many GPUs or workers, and print the seconds a step only; the program "
                     "starts itself with it.", lower_bound=0)


def main(argv):
  del argv
  if FLAGS.devices:
    print(seconds_a_step(FLAGS.devices))
    return
  gpus = len(tf.config.list_physical_devices("GPU"))
  count = gpus or cores()
  if count < 2:
    raise SystemExit(f"error: expected a machine with several GPUs or cores. Received: {count}")
  batches = {1: FLAGS.batch_size, count: FLAGS.batch_size * (gpus or 1)}
  times = {devices: [] for devices in batches}
  for _ in range(FLAGS.rounds):
    for devices, batch in batches.items():
      times[devices].append(measure(devices, batch, gpus))
  speeds = {devices: batches[devices] / statistics.median(values) for devices, values in times.items()}
  print(f"{FLAGS.network}, crops of {FLAGS.crop_size}, {FLAGS.batch_size} images{' a GPU' if gpus else ''}; "
        f"{measuring.machine()}")
  for devices, speed in speeds.items():
    kind = "GPUs" if gpus else "device with all cores" if devices == 1 else "workers of one core each"
    print(f"  {devices} {kind}: {speed:.1f} images/s ({', '.join(f'{batches[devices] / t:.1f}' for t in times[devices])})")
  ratio = speeds[count] / speeds[1]
  print(f"  scaling efficiency: {100 * ratio / count:.0f} %" if gpus else f"  with the strategy / without: {ratio:.2f}")


def measure(devices, batch, gpus):
  """Median seconds of a step, measured by processes that are started for it."""
  start = functools.partial(measuring.start, "benchmark_training", *sys.argv[1:], f"--devices={devices}", f"--batch_size={batch}")
  if devices == 1 or gpus:
    processes = [start()]
  else:
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(devices)]}
    config = lambda number: json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
    processes = [start(cores=[core], env={**os.environ, "TF_CONFIG": config(number)})
                 for number, core in enumerate(sorted(os.sched_getaffinity(0)))]
  return max(float(output.split()[-1]) for output in measuring.outputs_of(*processes))


def free_ports(count):
  """Numbers of ports that nothing listens on."""
  sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
  ports = [listening.getsockname()[1] for listening in sockets]
  for listening in sockets:
    listening.close()
  return ports


def seconds_a_step(devices):
  """Median seconds of a training step on random images."""
  gpus = tf.config.list_physical_devices("GPU")
  if gpus:
    tf.config.set_visible_devices(gpus[:devices], "GPU")
  strategy = distribution.make_strategy("default" if devices == 1 else "mirrored" if gpus else "multi_worker")
  stride, channels = (8, FLAGS.channels) if takes_representation(FLAGS.network) else (1, 3)
  side = FLAGS.crop_size // stride
  with strategy.scope():
    with distribution.precision(FLAGS.precision):
      network = make_network(FLAGS.network, 1000, FLAGS.width, synchronized=FLAGS.synchronized_batch_norm)
      network.build([None, None, None, channels])
    trained = {name: variable for name, variable in network.named_variables().items() if variable.trainable}
    optimizer = optimizers.Optimizers({"optimizer": (optimizers.sgd(0.001, 0.9), trained)},
                                      scale_losses=FLAGS.precision == "mixed_float16")

  def loss(x, labels):
    logits = network(x, training=True)
    value = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)) + losses.weight_decay(network, 1e-4)
    return value, {"loss": value}

  step = distribution.on_replicas(strategy, optimizer.replica_step(loss))
  images = tf.random.stateless_normal([FLAGS.batch_size, side, side, channels], [0, 1])
  labels = tf.random.stateless_uniform([FLAGS.batch_size], [0, 2], 0, 1000, tf.int64)
  data = tf.data.Dataset.from_tensors((images, labels)).repeat()
  times = []
  for number, batch in enumerate(distribute(
      strategy, lambda part: data.rebatch(FLAGS.batch_size // part.parts), FLAGS.batch_size)):
    begin = measuring.clocks()
    float(step(*batch)["loss"])
    times.append((measuring.clocks() - begin)[0])
    if number == FLAGS.steps + 1:  # the first two trace and warm up
      break
  return statistics.median(times[2:])


if __name__ == "__main__":
  training_flags.main(main)
