"""What the training programs share: strategies, checkpoints that survive a kill, curves and progress."""

import contextlib
import itertools
import json
import math
import os
import sys
import time

from absl import app
from absl import flags
from absl import logging
import tensorflow as tf
import tqdm

from deepcomp_tf.errors import DeepcompError

STRATEGIES = ("default", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def define_flags():
  """The flags that every training program has."""
  flags.DEFINE_string("run_dir", None, "Folder for checkpoints, curves and the trained result; with several workers "
                      "one that all of them share. A run that is already there is continued.", required=True)
  flags.DEFINE_integer("batch_size", None, "Global batch size.", required=True, lower_bound=1)
  flags.DEFINE_integer("seed", 0, "Seed of the initial weights and of the order of the data.")
  flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", lower_bound=1)
  flags.DEFINE_integer("summary_every", 100, "Steps between points of the curves.", lower_bound=1)
  flags.DEFINE_enum("strategy", "default", STRATEGIES, "tf.distribute strategy: one device, all GPUs of this "
                    "machine, or the machines that TF_CONFIG names.")
  flags.DEFINE_enum("precision", "float32", PRECISIONS, "Keras policy of the networks in training; weights stay in float32. "
                    "mixed_float16 pays on recent GPUs, mixed_bfloat16 also on CPUs with AVX512_BF16.")


def main(program):
  """Runs a program's main function; bad input ends it with one line instead of a traceback."""
  def guarded(argv):
    try:
      program(argv)
    except DeepcompError as error:
      sys.exit(f"error: {error}")
  app.run(guarded)


def settings(own_flag, leave_out):
  """What defines a run: dict of the values of these flags and of the program's own.

  Args:
    own_flag: name of any flag of the program, by which its others are found.
    leave_out: names of the program's flags that may change when a run is continued.
  """
  values = flags.FLAGS
  modules = {values.find_module_defining_flag(name) for name in (own_flag, "run_dir")}
  operational = ("run_dir", "checkpoint_every", "summary_every", "strategy", *leave_out)
  return {flag.name: flag.value for module in modules for flag in values.get_flags_for_module(module)
          if flag.name not in operational}


def numbers(name, kind=int, counts=None):
  """The numbers, none below 0, of a flag that is a list.

  Args:
    name: of the flag.
    kind: int or float.
    counts: None, or how many there may be.

  Raises:
    DeepcompError: they are something else.
  """
  texts = flags.FLAGS[name].value
  try:
    values = [kind(text) for text in texts]
  except ValueError:
    values = [-1]
  if any(not 0 <= value < float("inf") for value in values) or counts is not None and len(values) not in counts:
    raise DeepcompError(f"--{name} must be {' or '.join(map(str, counts)) if counts else 'some'} numbers, none below 0. "
                        f"Received: {','.join(texts)}")
  return values


def rising(name):
  """The rising integers, from 1 or more, of a flag that is a list.

  Raises:
    DeepcompError: they are something else.
  """
  values = numbers(name)
  if sorted({0, *values}) != [0, *values]:
    raise DeepcompError(f"--{name} must rise, from 1 or more. Received: {','.join(flags.FLAGS[name].value)}")
  return values


def ids(name, count):
  """The different integers in 0..count-1 of a flag that is a list.

  Raises:
    DeepcompError: they are something else.
  """
  values = numbers(name)
  if any(value >= count for value in values) or len(set(values)) < len(values):
    raise DeepcompError(f"--{name} must be different ids below {count}. Received: {','.join(flags.FLAGS[name].value)}")
  return values


def make_strategy(name):
  """The `tf.distribute` strategy of a `--strategy` flag. Several logical CPU devices count as devices, too."""
  if name == "mirrored":
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])
  if name == "multi_worker":
    return tf.distribute.MultiWorkerMirroredStrategy()
  return tf.distribute.get_strategy()


@contextlib.contextmanager
def precision():
  """Context in which networks are made that compute by --precision. All others, the coder's too, compute in float32."""
  tf.keras.mixed_precision.set_global_policy(flags.FLAGS.precision)
  try:
    yield
  finally:
    tf.keras.mixed_precision.set_global_policy("float32")


def scaled_loss(optimizer, loss):
  """The loss to differentiate, scaled where the optimizer does so for the sake of float16 gradients."""
  mixed = isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
  return optimizer.get_scaled_loss(loss) if mixed else loss


def gradients(optimizer, tape, loss, variables):
  """Gradients of what `scaled_loss` returned, without that scale."""
  result = tape.gradient(loss, variables)
  mixed = isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
  return optimizer.get_unscaled_gradients(result) if mixed else result


def distribute(strategy, make_dataset, batch_size):
  """The global batches of `make_dataset()` dealt out to the replicas of a strategy.

  Raises:
    DeepcompError: the batch does not divide among the replicas.
  """
  replicas = strategy.num_replicas_in_sync
  if batch_size % replicas:
    raise DeepcompError(f"--batch_size must be a multiple of the {replicas} replicas. Received: {batch_size}")
  if replicas == 1:
    return make_dataset()
  # Every worker makes the same batches and takes its own part of each.
  options = tf.data.Options()
  options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
  return strategy.experimental_distribute_dataset(make_dataset().with_options(options))


def on_replicas(strategy, replica_step):
  """A training step of a strategy: runs `replica_step` on every replica, and gives the means of its dict of figures."""
  @tf.function(jit_compile=False)
  def step(*arguments):
    figures = strategy.run(replica_step, args=arguments)
    return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in figures.items()}

  return step


def epoch_batches(strategy, make_batches, batch_size, epochs, steps_per_epoch, done):
  """The batches of a run of several epochs, from step `done` on.

  Where examples were left out, an epoch's data may be shorter or longer than the epoch: it begins again, or is cut.

  Args:
    strategy, batch_size: as of `distribute`.
    make_batches: function of (epoch, first step in it) that returns the data set of its batches.
    epochs, steps_per_epoch: of the run.
    done: steps that were taken before.

  Yields:
    epoch, batch.
  """
  for epoch in range(done // steps_per_epoch, epochs):
    first = max(0, done - epoch * steps_per_epoch)
    batches = distribute(strategy, lambda: make_batches(epoch, first).repeat(), batch_size)  # pylint: disable=cell-var-from-loop
    for batch in itertools.islice(batches, steps_per_epoch - first):
      yield epoch, batch


class Means:
  """Running means of the figures of training steps, between two points of the curves."""

  def __init__(self):
    self._sums, self._count = {}, 0

  def add(self, figures):
    """Takes a step's dict of scalar tensors."""
    self._sums = {name: self._sums.get(name, 0.0) + value for name, value in figures.items()}
    self._count += 1

  def take(self):
    """dict of floats: the means since the last call.

    Raises:
      DeepcompError: one of them is not finite, so that there is nothing left to train.
    """
    means = {name: float(value) / self._count for name, value in self._sums.items()}
    if not all(map(math.isfinite, means.values())):
      figures = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
      raise DeepcompError(f"expected finite figures of the training steps; a lower --learning_rate may help. Received: {figures}")
    self.__init__()
    return means


class Run:
  """A training run in a folder: its checkpoints, its curves, its record of settings and results.

  Files: `checkpoints/` (the last two), `train/` and `validation/` (TensorBoard), `settings.json`,
  `history.jsonl` (one line per validation). Of several workers the first writes there, the others into
  `worker1/` and so on; all continue from the first one's checkpoint.

  Args:
    folder: made where it is missing.
    settings: dict of what defines the run. A folder that holds a run of other settings is refused.
    **state: trackable objects to save: model, optimizer, variables.
  """

  def __init__(self, folder, settings, **state):
    worker = tf.distribute.cluster_resolver.TFConfigClusterResolver().task_id or 0
    self.folder = os.path.join(folder, f"worker{worker}") if worker else folder
    os.makedirs(self.folder, exist_ok=True)
    self.settings = settings
    path = os.path.join(folder, "settings.json")
    if os.path.exists(path):
      with open(path) as file:
        before = json.load(file)
      changed = {key: (before.get(key), settings.get(key)) for key in sorted({*before, *settings})
                 if before.get(key) != settings.get(key)}
      if changed:
        what = ", ".join(f"{key} was {old} and is now {new}" for key, (old, new) in changed.items())
        raise DeepcompError(f"{folder} holds a run of other settings ({what}); give another --run_dir")
    elif not worker:
      write_json(path, settings)
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
    self._checkpoint = tf.train.Checkpoint(step=self.step, **state)
    self._latest = latest_checkpoint(folder)
    self._manager = tf.train.CheckpointManager(
        self._checkpoint, os.path.join(self.folder, "checkpoints"), max_to_keep=2)
    self._writers = {}
    self._begin = time.time()

  def restore(self):
    """Continues from the last checkpoint, if there is one. Returns the number of steps done."""
    if self._latest:
      self._checkpoint.restore(self._latest).assert_existing_objects_matched()
      before = [line.get("seconds", 0) for line in self.history() if line["step"] <= self.step.numpy()]
      self._begin -= max(before, default=0)
      logging.info("Continuing from step %d of %s.", self.step.numpy(), self.folder)
    return int(self.step.numpy())

  def seconds(self):
    """Seconds that the run has taken, up to its last record where it was resumed from and since."""
    return round(time.time() - self._begin)

  def save(self):
    self._manager.save(checkpoint_number=self.step)

  @contextlib.contextmanager
  def summaries(self, part):
    """Context in which `tf.summary` writes the curves of `part` ("train", "validation") at the current step."""
    if part not in self._writers:
      self._writers[part] = tf.summary.create_file_writer(os.path.join(self.folder, part))
    with self._writers[part].as_default(step=self.step):
      yield
    self._writers[part].flush()

  def curves(self, part, figures):
    """Writes figures as points of the curves of `part` at the current step."""
    with self.summaries(part):
      for name, value in figures.items():
        tf.summary.scalar(name, tf.convert_to_tensor(value))

  def record(self, figures):
    """Appends a line to `history.jsonl`."""
    with open(os.path.join(self.folder, "history.jsonl"), "ab+") as file:
      if file.tell():
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":  # a kill cut the last line off
          file.write(b"\n")
      line = {"step": int(self.step.numpy()), "seconds": self.seconds(), **figures}
      file.write((json.dumps(line) + "\n").encode())

  def history(self):
    """The recorded lines, without those that a resumed run has repeated."""
    path = os.path.join(self.folder, "history.jsonl")
    if not os.path.exists(path):
      return []
    lines = {}
    with open(path) as file:
      for line in file:
        try:
          entry = json.loads(line)
        except json.JSONDecodeError:  # the line that a kill cut off
          continue
        lines[entry["step"]] = entry
    return [lines[step] for step in sorted(lines)]


def latest_checkpoint(folder):
  """Path of the last checkpoint of the run in a folder, or None."""
  return tf.train.latest_checkpoint(os.path.join(folder, "checkpoints"))


def write_json(path, value):
  """Writes JSON so that the file is there whole or not at all."""
  temporary = f"{path}.{os.getpid()}.tmp"
  with open(temporary, "w") as file:
    json.dump(value, file, indent=1, sort_keys=True)
    file.write("\n")
  os.replace(temporary, path)


def progress_bar(steps, done):
  """A tqdm bar over training steps: live at a terminal, a line a minute in a log file."""
  return tqdm.tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True, smoothing=0.05,
                   mininterval=1 if sys.stderr.isatty() else 60)
