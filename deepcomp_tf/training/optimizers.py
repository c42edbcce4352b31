"""Steps of optimizers that are the same on one device and on many, in 32 and in 16 bits, under Keras 2 and Keras 3."""

import tensorflow as tf

from deepcomp_tf import keras_version
from deepcomp_tf.errors import DeepcompError

# Of Keras' optimizers: the lists with a variable for each trained one.
_SLOTS = ("momentums", "_momentums", "_velocities", "_model_variables_moving_average")


class Optimizers:
  """One optimizer, or several that each move variables of their own, taking a step together.

  Within a replica's step: `scaled = optimizers.scaled(loss)` inside of the tape, then `optimizers.step(tape, scaled)`. The
  loss is that of a replica's part of the batch, or of the whole batch on every replica; its gradients are averaged over the
  replicas.

  Args:
    parts: dict of (Keras optimizer, dict of variables by the project's own names), by the names that the optimizers have in
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
      inner = getattr(optimizer, "inner_optimizer", optimizer)
      rate = inner._learning_rate  # of Keras 2 the public one is that of the last step  # pylint: disable=protected-access
      rates[name.replace("optimizer", "learning_rate")] = (
          rate(inner.iterations) if callable(rate) else tf.convert_to_tensor(rate))
    return rates

  def scaled(self, loss):
    """The loss to differentiate."""
    return loss * keras_version.loss_scale(self._first) / self._replicas

  def step(self, tape, scaled):
    """Moves the variables by the gradients of what `scaled` gave. To be called on every replica."""
    variables = [variable for _, named in self._parts.values() for variable in named.values()]
    gradients = tape.gradient(scaled, [keras_version.plain_variable(variable) for variable in variables])
    names = [name for _, named in self._parts.values() for name in named]
    for name, gradient in zip(names, gradients):
      if gradient is None:
        raise DeepcompError(f"expected a loss that depends on every trained variable. Received: one that does not on {name}")
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    if self._replicas > 1 and (self._clip or self._scales):
      # The norm, and whether all is finite, is a matter of the whole gradient. The optimizer sums once more.
      summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
      gradients = self._clipped(summed)
      gradients = [gradient / self._replicas for gradient in gradients]
    else:
      gradients = self._clipped(gradients)
    for optimizer, named in self._parts.values():
      own, gradients = gradients[:len(named)], gradients[len(named):]
      keras_version.apply_scaled_gradients(optimizer, own, list(named.values()))

  def _clipped(self, gradients):
    if not self._clip:
      return gradients
    return tf.clip_by_global_norm(gradients, self._clip * keras_version.loss_scale(self._first))[0]

  def named_variables(self):
    """The optimizers' own state by names such as `optimizer/velocities/encoder/conv1/kernel`."""
    state = {}
    for name, (optimizer, named) in self._parts.items():
      inner = getattr(optimizer, "inner_optimizer", optimizer)
      state[f"{name}/iterations"] = inner.iterations
      for slot in _SLOTS:
        for own_name, variable in zip(named, getattr(inner, slot, None) or ()):
          state[f"{name}/{slot.strip('_')}/{own_name}"] = variable
      if self._scales:
        state.update({f"{name}/{key}": variable for key, variable in keras_version.loss_scale_state(optimizer).items()})
    return state

  def averages(self):
    """dict of (variable, its running average) by own names, of the optimizers that average their variables."""
    averages = {}
    for optimizer, named in self._parts.values():
      inner = getattr(optimizer, "inner_optimizer", optimizer)
      if inner.use_ema:
        averages.update({name: (variable, average) for (name, variable), average in
                         zip(named.items(), inner._model_variables_moving_average)})  # pylint: disable=protected-access
    return averages


class averaged_weights:
  """Context in which the trained variables have their running averages, where optimizers keep them."""

  def __init__(self, optimizers):
    self._averages = optimizers.averages()

  def __enter__(self):
    self._kept = {name: variable.numpy() for name, (variable, _) in self._averages.items()}
    for variable, average in self._averages.values():
      variable.assign(average.numpy())

  def __exit__(self, *_):
    for name, (variable, _) in self._averages.items():
      variable.assign(self._kept[name])


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
