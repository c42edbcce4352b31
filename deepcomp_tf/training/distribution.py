"""Devices, workers and precision: what a training program does on one device, it does on many with the same result."""

import contextlib
import pathlib

from absl import logging
import numpy as np
import tensorflow as tf

from deepcomp_tf.training.software import device

STRATEGIES = ("default", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")

_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def make_strategy(name):
  """The `tf.distribute` strategy of a `--strategy` flag, to be made before anything else of TensorFlow.

  Several logical CPU devices count as devices, too.
  """
  tf.get_logger().setLevel("WARNING")  # or every sum over the replicas is a line
  if name == "multi_worker":
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
  elif name == "mirrored":
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
  else:
    strategy = tf.distribute.get_strategy()
  # TensorFlow says that it finds no GPU at a level that programs do not show.
  without = "" if tf.config.list_physical_devices("GPU") else ", since TensorFlow finds no GPU"
  logging.info("Training on %s%s; replicas in all: %d.", device(), without, strategy.num_replicas_in_sync)
  return strategy


def worker_name():
  """"" for the process that writes results, the chief; "worker1" and the like for the others of a cluster.

  As TF_CONFIG has it, the chief is the task of that type, or worker 0 where there is none.
  """
  resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
  kind, number = resolver.task_type, resolver.task_id or 0
  if not kind or kind == "chief" or number == 0 and "chief" not in resolver.cluster_spec().jobs:
    return ""
  return f"{kind}{number}"


@contextlib.contextmanager
def precision(policy):
  """Context in which networks are made that compute by a Keras policy. All others, the coder's too, compute in float32.

  Logs a warning where the CPU has to emulate bfloat16.
  """
  # Which instructions a CPU has (avx512_bf16, amx_bf16, ARM's bf16), only Linux tells.
  if (policy == "mixed_bfloat16" and {device.device_type for device in tf.config.list_logical_devices()} == {"CPU"}
      and _CPU_INFO.exists() and "bf16" not in _CPU_INFO.read_text()):
    logging.warning("This CPU has no instructions for bfloat16: with --precision=mixed_bfloat16 a step may take 30 times as long "
                    "as with --precision=float32.")
  tf.keras.mixed_precision.set_global_policy(policy)
  try:
    yield
  finally:
    tf.keras.mixed_precision.set_global_policy("float32")


def on_replicas(strategy, replica_step):
  """A training step of a strategy: runs `replica_step` on every replica, and gives the means of its dict of figures."""
  @tf.function(jit_compile=False)
  def step(*arguments):
    figures = strategy.run(replica_step, args=arguments)
    return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in figures.items()}

  return step


def shared_alike(count, strategy):
  """The largest batch of at most `count` examples of which every replica has equally many, one each at least."""
  replicas = strategy.num_replicas_in_sync
  return max(1, count // replicas) * replicas


def share_work(strategy, count, width, evaluate):
  """Evaluates `count` things, each on one of the workers, and gives every worker all results, float64 `[count, width]`.

  `evaluate` is a function of the ascending indices that are this worker's, that yields `width` numbers for each.
  """
  position, workers = _place_among_workers(strategy)
  results, indices = np.zeros([count, width]), range(position, count, workers)
  for index, figures in zip(indices, evaluate(indices)):
    results[index] = figures
  if workers == 1:
    return results

  def from_first_replica():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.where(replica % (strategy.num_replicas_in_sync // workers) == 0, results, tf.zeros_like(results))

  summed = tf.function(lambda: strategy.run(from_first_replica))()
  return strategy.reduce(tf.distribute.ReduceOp.SUM, summed, axis=None).numpy()


def wait_for_all(strategy):
  """Returns once every worker has come here, so that none leaves while another still needs it."""
  share_work(strategy, 1, 1, lambda indices: ([0.0] for _ in indices))


def chief_first(strategy, make):
  """Calls a function in the chief, and then in the others: for what is written once, to a folder that they may share."""
  if worker_name():
    wait_for_all(strategy)
  made = make()
  if not worker_name():
    wait_for_all(strategy)
  return made


def _place_among_workers(strategy):
  """(position of this process among those that train together, their number)."""
  if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
    return 0, 1
  resolver = strategy.cluster_resolver
  jobs = resolver.cluster_spec().as_dict()
  chiefs, workers = (len(jobs.get(kind, ())) for kind in ("chief", "worker"))
  if chiefs + workers < 2:
    return 0, 1
  return (0 if resolver.task_type == "chief" else chiefs + resolver.task_id), chiefs + workers
