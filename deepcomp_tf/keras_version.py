"""What differs between Keras 2 (`tf.keras` of TensorFlow 2.15) and Keras 3 (of 2.16 and later), in one place.

Importing it raises a `DeepcompError` where the user's settings of Keras are not for TensorFlow's networks. `layers` does so
first.
"""

import importlib.util
import os

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line


def _check_settings():
  """Refuses settings of Keras, in the environment or keras.json, that networks of TensorFlow with channels last cannot have."""
  legacy, backend = os.environ.get("TF_USE_LEGACY_KERAS", ""), os.environ.get("KERAS_BACKEND")
  if legacy in ("1", "true", "True") and importlib.util.find_spec("tf_keras") is None:
    raise DeepcompError(f"expected the package tf_keras where TF_USE_LEGACY_KERAS is set. Received: TF_USE_LEGACY_KERAS={legacy} "
                        "without it")
  file = os.path.join(os.environ.get("KERAS_HOME", os.path.join("~", ".keras")), "keras.json")
  by = f"KERAS_BACKEND={backend}" if backend else f"no KERAS_BACKEND; the backend may stand in {file}"
  try:
    found, image_format = tf.keras.backend.backend(), tf.keras.backend.image_data_format()
  except ImportError as error:
    raise DeepcompError(f"expected Keras with the backend tensorflow. Received: {by} ({one_line(error)})") from None
  if found != "tensorflow":
    raise DeepcompError(f"expected Keras with the backend tensorflow. Received: {found}, by {by}")
  if image_format != "channels_last":
    raise DeepcompError(f"expected Keras with image_data_format channels_last. Received: {image_format}, which {file} or the "
                        "program has set")


_check_settings()

KERAS_3 = hasattr(tf.keras, "version") and tf.keras.version().startswith("3.")

# Keras 2 compiles optimizers with XLA where it can, which is slower on CPUs; Keras 3 has no such argument.
OPTIMIZER_OPTIONS = {} if KERAS_3 else {"jit_compile": False}


class _AdamOfKeras2(tf.keras.optimizers.Adam):
  """Adam whose averages of the weights begin with those after the first step, as in Keras 3.

  Keras 2 begins them with the weights there are when the optimizer is built, which may be random ones that a start then replaces.
  """

  @property
  def ema_momentum(self):
    return self._ema_momentum * tf.cast(self.iterations > 0, tf.float32)

  @ema_momentum.setter
  def ema_momentum(self, momentum):
    self._ema_momentum = momentum


Adam = tf.keras.optimizers.Adam if KERAS_3 else _AdamOfKeras2


class MomentumOfGradients(tf.keras.optimizers.SGD):
  """SGD whose momentum sums gradients, as TensorFlow's `MomentumOptimizer` does. Keras' sums steps, learning rates and all.

  They differ where the learning rate drops: here what was summed counts less at once.
  """

  @tf.autograph.experimental.do_not_convert
  def update_step(self, gradient, variable, learning_rate=None):
    rate = tf.cast(self.learning_rate if learning_rate is None else learning_rate, variable.dtype)
    if KERAS_3:
      summed = self.momentums[self._get_variable_index(variable)]
      self.assign(summed, self.momentum * summed + gradient)
      self.assign_sub(variable, rate * summed)
    else:
      summed = self.momentums[self._index_dict[self._var_key(variable)]]
      summed.assign(self.momentum * summed + gradient)
      variable.assign_sub(rate * summed)


def plain_variable(variable):
  """The `tf.Variable` of a Keras variable, for what only takes those, such as checkpoints."""
  return variable if isinstance(variable, tf.Variable) else variable.value


def loss_scale(optimizer):
  """The factor that an optimizer wants its losses to have for the sake of float16 gradients: 1 where it wants none."""
  if not isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
    return tf.constant(1.0)
  return tf.convert_to_tensor(optimizer.dynamic_scale if KERAS_3 else optimizer.loss_scale)


def apply_scaled_gradients(optimizer, gradients, variables):
  """A step of an optimizer by gradients of a loss that was multiplied by its `loss_scale`."""
  if not KERAS_3 and isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
    gradients = optimizer.get_unscaled_gradients(gradients)  # Keras 3 divides by the scale itself
  optimizer.apply_gradients(zip(gradients, variables))


def loss_scale_state(optimizer):
  """The variables of a `LossScaleOptimizer` by names that do not depend on Keras."""
  if KERAS_3:
    return {"loss_scale": optimizer.dynamic_scale, "finite_steps": optimizer.step_counter}
  scale = optimizer._loss_scale.current_loss_scale  # pylint: disable=protected-access
  return {"loss_scale": scale, "finite_steps": optimizer.dynamic_counter}
