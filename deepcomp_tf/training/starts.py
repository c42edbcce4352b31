"""Starting a compression network from another one."""

import tensorflow as tf

from deepcomp_tf import operating_points
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.training import schedules


def from_operating_point(model, source, scale=1.0):
  """Copies the weights of a trained network with at least as many channels, and scales its representation.

  Args:
    model: a built `CompressionModel`, changed.
    source: a trained one, whose first channels are taken.
    scale: factor on the representation; below 1 quantizes it more coarsely.
  """
  if source.channels < model.channels:
    raise DeepcompError(f"expected a network to start from with at least {model.channels} channels. "
                        f"Received: one with {source.channels}")
  weights = operating_points.named_variables(source)
  for name, variable in operating_points.named_variables(model).items():
    if name != "quantizer/centers":
      # Only the axis of the representation, which is always the last, can differ.
      variable.assign(weights[name][..., :variable.shape[-1]])
  for variable in (model.encoder.conv3.kernel, model.encoder.conv3.bias):
    variable.assign(variable * scale)
  model.decoder.conv1.kernel.assign(model.decoder.conv1.kernel / scale)


def fit_entropy(model, batches, steps=800):
  """Trains the entropy layer alone, so that its first gradients do not flatten a good representation.

  Args:
    model: a `CompressionModel` with context entropy.
    batches: data set of `[batch, h, w, 3]` pixels.
    steps: of Adam.

  Returns:
    the entropy that it ends with, in bits per symbol.
  """
  variables = model.entropy.trainable_variables
  values = tf.concat([model.encoder(images) for images in batches.take(50)], axis=0)
  model.entropy.spread.assign(tf.maximum(0.3, tf.math.reduce_std(values, axis=[0, 1, 2])))
  optimizer = tf.keras.optimizers.Adam(schedules.WarmupCosine(1e-3, steps), jit_compile=False)

  @tf.function
  def step(images):
    values = model.quantizer(model.encoder(images)).values
    with tf.GradientTape() as tape:
      bits = model.entropy(values)
    optimizer.apply_gradients(zip(tape.gradient(bits, variables), variables))
    return bits

  for images in batches.take(steps):
    bits = step(images)
  return float(bits)
