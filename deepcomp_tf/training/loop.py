"""The loop that every training program trains by: `train`, through `Stage`s.

A program is a recipe: it makes its data, its networks with the weights that they start from, its losses, and what is measured
and written at the end. In what order all that is done is decided here, once:

  the networks' weights, then a run's folder and its settings, the start of a new run, optimizers (whose averages begin with the
  weights there are), the last checkpoint, steps with validations, what is kept, its measure, its export.
"""

import contextlib
import os
import time
from typing import Callable
from typing import NamedTuple

from absl import flags
from absl import logging
import tensorflow as tf

from deepcomp_tf.data.part import distribute
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.training import distribution
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import runs

FLAGS = flags.FLAGS


class Stage(NamedTuple):
  """Steps in which the same variables learn from the same loss. A run has one stage, or several one after the other.

  end: the step of the run that it goes to.
  loss: function of a batch's tensors and the step's number, called on each replica, that returns the scalar loss of the replica's
    part of the batch (or of the whole batch), and a dict of figures, scalars, for the curves.
  parts: function without arguments that makes the `parts` of `optimizers.Optimizers`.
  batches: function of the first step and a `data.part.Part` that returns the data set of that part of each batch from there on;
    where there are epochs, of (epoch, first step in it, part), that of an epoch.
  steps_per_epoch: steps of an epoch, or 0 where there are none.
  gradient_clip: largest norm of the gradient, all variables together; 0 is no limit.
  """
  end: int
  loss: Callable
  parts: Callable
  batches: Callable
  steps_per_epoch: int = 0
  gradient_clip: float = 0.0


def begin():
  """Seeds TensorFlow, and returns the strategy of `--strategy`. Comes before anything else of TensorFlow."""
  strategy = distribution.make_strategy(FLAGS.strategy)
  tf.keras.utils.set_random_seed(FLAGS.seed)
  return strategy


@contextlib.contextmanager
def networks(strategy):
  """Context in which networks that are to be trained are made, with a strategy and in `--precision`.

  It seeds TensorFlow again: what a program has prepared before, which draws random numbers, may lie in a cache the next time.
  """
  tf.keras.utils.set_random_seed(FLAGS.seed)
  with strategy.scope(), distribution.precision(FLAGS.precision):
    yield


def save_task(folder, **info):
  """An `export` of `train` that writes a `tasks.base.Task` to a folder of the run, with how it was trained and its figures."""
  def export(task, trained, reached):
    task.info = {**info, "trained": trained, "reached_on_validation": reached}
    task.save(os.path.join(FLAGS.run_dir, folder))

  return export


def steps_per_epoch(examples):
  """How many whole batches so many training examples make; one at least."""
  if examples < FLAGS.batch_size:
    raise DeepcompError(f"--batch_size must be at most the {examples} training examples. Received: {FLAGS.batch_size}")
  return examples // FLAGS.batch_size


def train(strategy, stages, variables, *, program, settings, result, measure, every, export, keep=None, start=None,
          measure_start=False, count_epochs=False, shown=None, part=None):
  """Trains to the end of the last stage, or goes on where a run stopped. A run that is done is left alone.

  Under --export_now, what the last checkpoint holds is exported in place of further steps.

  Args:
    strategy: of `begin`.
    stages: list of `Stage`; one without steps is left out, so that a run of none has what `start` gives.
    variables: dict of what checkpoints hold by stable names, besides the optimizers' state.
    program: name of the program, for the result's JSON.
    settings, result: as of `runs.Run`.
    measure: function of what `keep` gave, or of None during the training, that returns a dict of figures: scalars, and lists,
      which have no curves. Where it writes with `tf.summary`, that goes to the same curves. All workers call it.
    every: steps between validations.
    export: function of what `keep` gave, of a dict of how that was trained, and of its figures. The chief calls it to write
      the result, and it may return more figures to be recorded.
    keep: function without arguments that makes what is kept: a copy, rounded and in float32, of the networks, which then have
      their averages. All workers call it, since reading what the replicas keep apart takes all. None: there is none, and what
      `export` returns is the last measure.
    start: function without arguments that gives the networks of a new run more than they were made with.
    measure_start: whether a new run is measured before its first step.
    count_epochs: whether `every` is an epoch, which is recorded.
    shown: names of the figures that the progress bar shows; None for all.
    part: name of the part of the result's JSON that tells how this run trained it; None where all of it does.

  Raises:
    DeepcompError: the folder has a run of other settings, the data end, a figure is not finite, or --export_now finds no
      checkpoint.
  """
  stages = [stage for stage, begins in zip(stages, [0, *(stage.end for stage in stages)]) if stage.end > begins] or stages[-1:]
  total = stages[-1].end
  run = runs.Run(FLAGS.run_dir, settings, result)
  if not FLAGS.export_now and run.is_done(total, part):
    return
  if run.is_new and FLAGS.export_now:
    raise DeepcompError(f"--export_now takes a run with a checkpoint. Received: --run_dir={FLAGS.run_dir}, without one")
  if run.is_new and start:
    start()
  with strategy.scope():
    optimizers_of = [optimizers.Optimizers(stage.parts(), stage.gradient_clip, scale_losses=FLAGS.precision == "mixed_float16")
                     for stage in stages]
  run.keep({**variables, **{name: state for used in optimizers_of for name, state in used.named_variables().items()}})
  run.restore()
  if run.is_new and start:  # which may have taken minutes
    run.save()

  def record(figures):
    run.record({"epoch": int(run.step.numpy()) // every, **figures} if count_epochs else figures)

  def validate(kept=None):
    begins = time.time()
    with run.summaries("validation"):
      figures = measure(kept)
    scalars = {name: value for name, value in figures.items() if not isinstance(value, list)}
    run.curves("validation", scalars)
    record(figures)
    place = f"epoch {run.step.numpy() // every}" if count_epochs else f"step {run.step.numpy()}"
    logging.info("%s: validation %s (%.0f s)", place, _text(scalars), time.time() - begins)
    return figures

  if measure_start and not run.step.numpy():
    validate()
  for stage, optimizer in zip(stages, optimizers_of):
    first = int(run.step.numpy())
    if FLAGS.export_now or first >= stage.end:
      continue
    for done in run.steps(
        _batches(strategy, stage, first), distribution.on_replicas(strategy, optimizer.replica_step(stage.loss)), stage.end,
        checkpoint_every=FLAGS.checkpoint_every, summary_every=FLAGS.summary_every, curves=optimizer.learning_rates,
        describe=lambda point: {name: f"{point[name]:.4g}" for name in shown or point if name in point}):
      if done % every == 0 and done < total:  # the end is measured as it is kept
        with optimizers.averaged_weights(optimizer):
          validate()

  done = int(run.step.numpy())
  with optimizers.averaged_weights(next(used for stage, used in zip(stages, optimizers_of) if done <= stage.end)):
    kept, reached = None, None
    if keep:
      kept = keep()
      reached = validate(kept)
    if run.is_chief:
      more = export(kept, {"program": f"experiments.{program}", "steps": done, "settings": settings, "seconds": run.seconds(),
                           "data_note": FLAGS.data_note}, reached)
      if more:
        record(more)
      logging.info("Written to %s%s", run.result, f": validation {_text(more)}" if more else "")
  distribution.wait_for_all(strategy)


def _batches(strategy, stage, first):
  """The batches of a stage from a step on, tuples."""
  if stage.steps_per_epoch:
    batches = runs.epoch_batches(strategy, stage.batches, FLAGS.batch_size, -(-stage.end // stage.steps_per_epoch),
                                 stage.steps_per_epoch, first)
  else:
    batches = distribute(strategy, lambda part: stage.batches(first, part), FLAGS.batch_size)
  for batch in batches:
    yield batch if isinstance(batch, tuple) else (batch,)


def _text(figures):
  return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
