"""A training run in a folder: its steps, checkpoints that survive a kill, curves, and its record of what it reached."""

import contextlib
import functools
import itertools
import json
import math
import os
import sys
import time

from absl import logging
import tensorflow as tf
import tqdm

from deepcomp_tf import files
from deepcomp_tf import keras_version
from deepcomp_tf.data.part import distribute
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.training import distribution
from deepcomp_tf.training.software import differences
from deepcomp_tf.training.software import software

_SETTINGS, _HISTORY, _SOFTWARE = "settings.json", "history.jsonl", "software.json"

# Settings that came later, and their value in runs from before.
_ADDED_LATER = {"synchronized_batch_norm": False, "start_share": 0.0, "momentum_of": "steps", "pixel_mean": "imagenet",
                "last_layer_steps": 0, "examples_per_class": 0}


class Run:
  """A training run. Its folder has:

    settings.json   what defines the run
    checkpoints/    the last two, by names of the variables that stay
    train/, validation/   curves for TensorBoard
    history.jsonl   a line for each validation
    software.json   the code, libraries and device that it was begun with, and those that it went on with
    and the trained result, which is written last: a run is done when its result is there, told by RESULT/RESULT.json.

  Of several workers the chief writes there, the others into `worker1/` and so on; all continue from the chief's checkpoint.

  Args:
    folder: made where it is missing; may be remote, see `files`.
    settings: dict of what defines the run. A folder that holds a run of other settings is refused.
    result: name of the folder of the trained result.

  Attributes:
    step: variable, the steps that were taken.
    is_new: whether there was no checkpoint when this part of the run began.
    is_chief: whether this worker writes results.
  """

  def __init__(self, folder, settings, result):
    worker = distribution.worker_name()
    self.is_chief = not worker
    self.folder = os.path.join(folder, worker) if worker else folder
    self.settings, self.result = settings, os.path.join(folder, result)
    files.makedirs(self.folder)
    self._check_settings(os.path.join(folder, _SETTINGS))
    self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
    self._latest = latest_checkpoint(folder)
    self.is_new = self._latest is None
    self._writers = {}
    self._begin = time.time()

  def keep(self, state):
    """Sets what checkpoints hold: a dict of variables by stable names such as `network/conv1/kernel`."""
    self._state = {name: keras_version.plain_variable(variable) for name, variable in state.items()}
    self._manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(step=self.step, variables=_tree(self._state)), os.path.join(self.folder, "checkpoints"),
        max_to_keep=2)

  def _check_settings(self, path):
    if not files.exists(path):
      if self.is_chief:
        files.write_json(path, self.settings, sort_keys=True)
      return
    before, after = ({**_ADDED_LATER, **settings} for settings in (files.read_json(path), json.loads(json.dumps(self.settings))))
    what = ", ".join(f"{key} was {before.get(key)} and is now {after.get(key)}" for key in sorted({*before, *after})
                     if before.get(key) != after.get(key))
    if what:
      raise DeepcompError(f"expected a new folder, or one with a run of these settings. Received: {os.path.dirname(path)}, "
                          f"with a run of other settings ({what})")

  def is_done(self, steps=0, part=None):
    """Whether the trained result is there, of `steps` at least: it may have been exported early. Says so.

    `part` is the name of the part of the result's JSON that tells how it was trained; None where all of it does.
    """
    path = os.path.join(self.result, f"{os.path.basename(self.result)}.json")
    if not files.exists(path):
      return False
    info = files.read_json(path)
    if (info.get(part, {}) if part else info).get("trained", {}).get("steps", steps) < steps:
      return False
    logging.info("The run is done: %s", (self.history() or ["its history is gone"])[-1])
    return True

  def restore(self):
    """Continues from the last checkpoint, if there is one; it must be of the same networks. Returns the number of steps done."""
    if self._latest:
      # Not load_checkpoint, which takes ram://run/ckpt-2 for a folder, since ckpt-2.index begins so.
      reader = tf.compat.v1.train.NewCheckpointReader(self._latest)
      kept = {key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for key in reader.get_variable_to_shape_map()}
      missing = [name for name in self._state if f"variables/{name}" not in kept]
      if missing:
        raise DeepcompError(f"expected a checkpoint of this version of the program with the same networks and optimizers. "
                            f"Received: {self._latest}, without {missing[0]} and {len(missing) - 1} others")
      for name, variable in [("step", self.step), *((f"variables/{name}", variable) for name, variable in self._state.items())]:
        variable.assign(tf.cast(reader.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE"), variable.dtype))
      before = [line.get("seconds", 0) for line in self.history() if line["step"] <= self.step.numpy()]
      self._begin -= max(before, default=0)
      logging.info("Continuing from step %d of %s.", self.step.numpy(), self.folder)
    self._tell_software(os.path.join(os.path.dirname(self.result), _SOFTWARE))
    return int(self.step.numpy())

  def _tell_software(self, path):
    now, parts = software(), files.read_json(path) if files.exists(path) else []
    changed = differences(parts[-1], now) if parts else ""
    if changed:
      logging.warning("%s goes on with other software: %s.", self.folder, changed)
    if self.is_chief and (changed or not parts):
      files.write_json(path, [*parts, now])

  def steps(self, batches, train_step, total, *, checkpoint_every, summary_every, curves=dict, describe=lambda point: {}):
    """Takes training steps until there are `total`, with curves, a progress bar and checkpoints.

    `train_step` is a function of a batch, tensors, of which `batches` has those from the next step on, and of the step's number
    that returns a dict of figures, scalars, which must be finite. `curves`, a function without arguments, gives more figures, and
    `describe`, of the mean figures, what the progress bar shows, a dict of texts.

    Yields the number of steps done, after each step; the checkpoint is written when the caller comes back for the next, so that a
    validation is not lost by a kill.
    """
    done, means = int(self.step.numpy()), _Means()
    with progress_bar(total, done) as bar:
      for batch in batches:
        if done >= total:  # not islice: the data's iterator must end before its strategy does
          break
        means.add(train_step(*batch, self.step))
        self.step.assign_add(1)
        done += 1
        bar.update()
        if done % summary_every == 0 or done == total:
          point = means.take()
          self.curves("train", {**point, **curves()})
          bar.set_postfix(describe(point))
        yield done
        if done % checkpoint_every == 0 or done == total:
          self.save()
    if done < total:
      raise DeepcompError(f"expected data for {total} steps. Received: data that ended after step {done}")

  def seconds(self):
    """Seconds that the run has taken, up to its last record where it was resumed from and since."""
    return round(time.time() - self._begin)

  def save(self):
    """Writes a checkpoint of the current step."""
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
    line = {"step": int(self.step.numpy()), "seconds": self.seconds(), **figures}
    files.append_line(os.path.join(self.folder, _HISTORY), json.dumps(line))

  def history(self):
    """See `read_history`."""
    return read_history(self.folder)


def read_history(folder):
  """The recorded lines of the run in a folder, list of dicts, without those that a resumed run has repeated."""
  path = os.path.join(folder, _HISTORY)
  if not files.exists(path):
    return []
  lines = {}
  for line in files.read(path).decode().splitlines():
    with contextlib.suppress(json.JSONDecodeError):  # the line that a kill cut off
      entry = json.loads(line)
      lines[entry["step"]] = entry
  return [lines[step] for step in sorted(lines)]


def epoch_batches(strategy, make_batches, batch_size, epochs, steps_per_epoch, done):
  """Yields the batches of a run of several epochs, from step `done` on, as of `data.part.distribute`.

  `make_batches` is a function of (epoch, first step in it, part) that returns the data set of a `data.part.Part` of its batches.
  """
  for epoch in range(done // steps_per_epoch, epochs):
    first = max(0, done - epoch * steps_per_epoch)
    make = lambda part: make_batches(epoch, first, part)  # pylint: disable=cell-var-from-loop
    yield from itertools.islice(distribute(strategy, make, batch_size), steps_per_epoch - first)


def latest_checkpoint(folder):
  """Path of the last checkpoint of the run in a folder, or None."""
  return tf.train.latest_checkpoint(os.path.join(folder, "checkpoints"))


class _Means:
  """Running means of the figures of training steps, between two points of the curves."""

  def __init__(self):
    self._sums, self._count = {}, 0

  def add(self, figures):
    """Takes a step's dict of scalar tensors."""
    self._sums = {name: self._sums.get(name, 0.0) + value for name, value in figures.items()}
    self._count += 1

  def take(self):
    """dict of floats: the means since the last call. Where one is not finite there is nothing left to train."""
    means = {name: float(value) / self._count for name, value in self._sums.items()}
    if not all(map(math.isfinite, means.values())):
      figures = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
      raise DeepcompError(f"expected finite figures of the training steps; a lower learning rate may help. Received: {figures}")
    self.__init__()
    return means


def _tree(flat):
  """Nested dicts of a dict whose keys are paths, so that a checkpoint keeps the paths as they are."""
  tree = {}
  for name, value in flat.items():
    *folders, last = name.split("/")
    functools.reduce(lambda place, folder: place.setdefault(folder, {}), folders, tree)[last] = value
  return tree


def progress_bar(steps, done=0, desc=None):
  """A tqdm bar over training steps: live at a terminal, a line a minute in a log file."""
  return tqdm.tqdm(total=steps, initial=done, desc=desc, unit="step", dynamic_ncols=True, smoothing=0.05,
                   mininterval=1 if sys.stderr.isatty() else 60)
