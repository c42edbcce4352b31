"""What differs between Keras 2 (`tf.keras` of TensorFlow 2.15) and Keras 3 (of 2.16 and later), in one place."""

import tensorflow as tf

KERAS_3 = hasattr(tf.keras, "version") and tf.keras.version().startswith("3.")

# Keras 2 compiles optimizers with XLA where it can, which is slower on CPUs; Keras 3 has no such argument.
OPTIMIZER_OPTIONS = {} if KERAS_3 else {"jit_compile": False}


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
