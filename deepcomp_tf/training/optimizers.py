"""Steps of optimizers that are the same on one device and on many, in 32 and in 16 bits, under Keras 2 and Keras 3."""

import contextlib
import itertools

import tensorflow as tf

from deepcomp_tf import keras_version
from deepcomp_tf.errors import DeepcompError

# Lists of Keras' optimizers that hold a variable for each that is trained.
_SLOTS = ("momentums", "_momentums", "_velocities", "_model_variables_moving_average")


def _inner(optimizer):
  """The optimizer itself, where another scales losses for it."""
  return getattr(optimizer, "inner_optimizer", optimizer)


class Optimizers:
  """An optimizer, or several that move different variables, taking a step together.

  Args:
    parts: dict of (Keras optimizer, dict of variables by names that stay), by the names that the optimizers have in
      a checkpoint. Clipping is ours: the optimizers themselves must not clip.
    gradient_clip: largest norm of the gradient, all variables together; 0 is no limit.
    scale_losses: whether gradients are in float16, and losses scaled for it. For a single optimizer only.

  Raises:
    DeepcompError: losses to scale, and several optimizers.
  """

  def __init__(self, parts, gradient_clip=0.0, scale_losses=False):
    if scale_losses and len(parts) > 1:
      raise DeepcompError(f"expected one optimizer where losses are scaled for float16, since {len(parts)} do not share a "
                          "scale; bfloat16 needs none")
    self._clip, self._scales = gradient_clip, scale_losses
    self._parts = {}
    for name, (optimizer, named) in parts.items():
      if scale_losses:
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
      optimizer.build(list(named.values()))
      self._parts[name] = optimizer, named
    self._replicas = tf.distribute.get_strategy().num_replicas_in_sync

  @property
  def _first(self):
    return next(iter(self._parts.values()))[0]

  def learning_rates(self):
    """dict of the next step's learning rates: "learning_rate", or where there are several "body_learning_rate" and the like."""
    rates = {}
    for name, (optimizer, _) in self._parts.items():
      inner = _inner(optimizer)
      rate = inner._learning_rate  # of Keras 2 the public one is that of the last step  # pylint: disable=protected-access
      rates[name.replace("optimizer", "learning_rate")] = (
          rate(inner.iterations) if callable(rate) else tf.convert_to_tensor(rate))
    return rates

  def replica_step(self, loss):
    """A replica's step: function of a batch that moves the variables by the gradients of what `loss` makes of it.

    The loss, which is returned with a dict of figures, is that of a replica's part of the batch, or of the whole batch on every
    replica; its gradients are averaged over the replicas. The figures are returned.
    """
    def step(*batch):
      with tf.GradientTape() as tape:
        value, figures = loss(*batch)
        scaled = value * keras_version.loss_scale(self._first) / self._replicas
      self._move(tape, scaled)
      return figures

    return step

  def _move(self, tape, scaled):
    trained = [item for _, named in self._parts.values() for item in named.items()]
    gradients = tape.gradient(scaled, [keras_version.plain_variable(variable) for _, variable in trained])
    for (name, _), gradient in zip(trained, gradients):
      if gradient is None:
        raise DeepcompError(f"expected a loss that depends on every trained variable. Received: one that does not on {name}")
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    if self._replicas > 1 and (self._clip or self._scales):
      # The norm, and whether all is finite, is a matter of the whole gradient. The optimizer sums once more.
      summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
      gradients = [gradient / self._replicas for gradient in self._clipped(summed)]
    else:
      gradients = self._clipped(gradients)
    gradients = iter(gradients)
    for optimizer, named in self._parts.values():
      keras_version.apply_scaled_gradients(optimizer, list(itertools.islice(gradients, len(named))), list(named.values()))

  def _clipped(self, gradients):
    if not self._clip:
      return gradients
    return tf.clip_by_global_norm(gradients, self._clip * keras_version.loss_scale(self._first))[0]

  def named_variables(self):
    """The optimizers' state by names such as `optimizer/velocities/encoder/conv1/kernel`."""
    state = {}
    for name, (optimizer, named) in self._parts.items():
      inner = _inner(optimizer)
      state[f"{name}/iterations"] = inner.iterations
      for slot in _SLOTS:
        for trained, variable in zip(named, getattr(inner, slot, None) or ()):
          state[f"{name}/{slot.strip('_')}/{trained}"] = variable
      if self._scales:
        state.update({f"{name}/{key}": variable for key, variable in keras_version.loss_scale_state(optimizer).items()})
    return state

  def averages(self):
    """dict of (variable, its running average) by the variables' names, of the optimizers that average."""
    averages = {}
    for optimizer, named in self._parts.values():
      inner = _inner(optimizer)
      if inner.use_ema:
        averages.update({name: (variable, average) for (name, variable), average in
                         zip(named.items(), inner._model_variables_moving_average)})  # pylint: disable=protected-access
    return averages


@contextlib.contextmanager
def averaged_weights(optimizers):
  """Context in which the trained variables have their running averages, where optimizers keep them."""
  averages = optimizers.averages().values()
  kept = [variable.numpy() for variable, _ in averages]
  for variable, average in averages:
    variable.assign(average.numpy())
  try:
    yield
  finally:
    for (variable, _), value in zip(averages, kept):
      variable.assign(value)


def trainable(named):
  """Those of a dict of variables that learn."""
  return {name: variable for name, variable in named.items() if variable.trainable}


def falling(learning_rate, steps, power=0.9):
  """A schedule from a learning rate to 0 as (1 - step/steps)^power (appendix A.5)."""
  return tf.keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, 0.0, power)


MOMENTA = {"steps": tf.keras.optimizers.SGD, "gradients": keras_version.MomentumOfGradients}


def sgd(learning_rate, momentum, of="steps"):
  """SGD with momentum of `MOMENTA`: as Keras has it, of steps, or as TensorFlow had it, of gradients."""
  return MOMENTA[of if momentum else "steps"](learning_rate, momentum=momentum, **keras_version.OPTIMIZER_OPTIONS)


def adam(learning_rate, **options):
  """Adam, as Keras has it. Averages of the weights (`use_ema`) begin with those after the first step."""
  return keras_version.Adam(learning_rate, **options, **keras_version.OPTIMIZER_OPTIONS)


def averaging_adam(learning_rate, momentum):
  """Adam that keeps a running average of the weights, with that momentum; none where it is 0."""
  return adam(learning_rate, use_ema=momentum > 0, ema_momentum=momentum or 0.99)
