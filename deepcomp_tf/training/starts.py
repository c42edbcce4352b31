"""What networks start from: the weights of trained ones; and fitting a compression network's entropy before anything else."""

import numpy as np
import tensorflow as tf

from deepcomp_tf.data.part import distribute
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.training import distribution
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import runs
from deepcomp_tf.training import schedules


def from_trained(network, trained, start, leave_out=(), other_channels=False, share=1.0):
  """Copies the weights of a trained network of the same architecture, or mixes them with those that are there.

  Args:
    network, trained: built; the first is changed.
    start: what the trained network was loaded from, for the message.
    leave_out: beginnings of the names of variables that stay as they are.
    other_channels: whether variables of another shape stay as they are, too: they read a representation of other channels.
    share: of the trained weights; the rest is of the weights that the network has.
  """
  expected, found = network.blueprint(), trained.blueprint()
  if found != expected:
    raise DeepcompError(f"expected a network to start from of {expected}. Received: --start={start}, of {found}")
  weights = trained.named_variables()
  for name, variable in network.named_variables().items():
    if not name.startswith(tuple(leave_out)) and not (other_channels and weights[name].shape != variable.shape):
      # In float64, so that what is the same in both stays as it is.
      theirs, own = (value.numpy().astype(np.float64) for value in (weights[name], variable))
      mixed = share * theirs + (1.0 - share) * own
      variable.assign(mixed.astype(np.float32))


def kept(task, trained, start, share):
  """A rounded copy of a task to keep, with a share of the weights of the network that its training started from.

  A network behind another operating point has no such weights in the layer that reads the representation, which stays whole.
  """
  if share:
    task = task.copy()
    from_trained(task.network, trained, start, other_channels=True, share=share)
  return task.copy(rounded=True)


def from_operating_point(model, source, scale=1.0):
  """Copies into a built `CompressionModel` the weights of a trained one, whose first channels are taken.

  `scale` is a factor on the representation; below 1 it is quantized more coarsely.
  """
  if source.channels < model.channels:
    raise DeepcompError(f"expected a network to start from with at least {model.channels} channels. "
                        f"Received: one with {source.channels}")
  weights = source.named_variables()
  for name, variable in model.named_variables().items():
    if name.startswith(("encoder/", "decoder/")):
      # Only the axis of the representation, which is always the last, can differ.
      variable.assign(weights[name][..., :variable.shape[-1]])
  for variable in (model.encoder.conv3.kernel, model.encoder.conv3.bias):
    variable.assign(variable * scale)
  model.decoder.conv1.kernel.assign(model.decoder.conv1.kernel / scale)


def fit_entropy(strategy, model, batches, batch_size, steps=800):
  """Trains the entropy layer alone, so that its first gradients do not flatten a good representation.

  `model`, made in the strategy's scope, is a built `CompressionModel` with context entropy; `batches` a data set of
  `[batch_size, h, w, 3]` pixels for all replicas together. Returns the entropy, in bits per symbol, after these steps of Adam.
  """
  values = tf.concat([model.encoder(images) for images in batches.take(50)], axis=0)
  model.entropy.spread.assign(tf.maximum(0.3, tf.math.reduce_std(values, axis=[0, 1, 2])))
  with strategy.scope():
    optimizer = optimizers.Optimizers({"optimizer": (optimizers.adam(schedules.WarmupCosine(1e-3, steps)),
                                                      optimizers.trainable(model.entropy.named_variables()))})

  def loss(images):
    bits = model.entropy(model.quantizer(model.encoder(images)).values)
    return bits, {"bits": bits}

  step = distribution.on_replicas(strategy, optimizer.replica_step(loss))
  part_of = lambda part: batches.take(steps).map(lambda images: images[slice(*part.of(batch_size))])
  with runs.progress_bar(steps, desc="fitting the entropy") as bar:
    for number, images in enumerate(distribute(strategy, part_of, batch_size)):
      figures = step(images)
      bar.update()
      if number % 50 == 0:
        bar.set_postfix(bits_per_symbol=f"{float(figures['bits']):.3f}")
  return float(figures["bits"])
