"""Batches of crops straight from batches of compressed files: one call into the codec for each, on several threads."""

from absl import logging
import numpy as np
import tensorflow as tf

from deepcomp_tf.errors import BitstreamError


def crop_batches(batches, codec, size, seed=None):
  """Decodes a data set of batches of files to crops of their symbols.

  `tf.numpy_function` holds Python's lock around what it calls, so it is called for a whole batch, which the
  codec decodes without the lock. Damaged files are left out with a warning, so that a batch may become smaller:
  `rebatch` the result.

  Args:
    batches: data set of (strings `[batch]`, labels `[batch]`).
    codec: the `Codec` that the files were written with.
    size: edge of the crops in positions of 8x8 pixels.
    seed: of the crops, random and mirrored at random; None for centers.

  Returns:
    data set of (uint8 `[<= batch, size, size, C]`, labels `[<= batch]`). It raises where a file is smaller than the crops.
  """

  def read(files, places):
    symbols, errors = codec.crops_of(files.tolist(), size, None if seed is None else places)
    for error in errors.values():
      if not isinstance(error, BitstreamError):
        raise error
      logging.warning("A file is left out: %s", error)
    good = np.ones(len(files), bool)
    good[list(errors)] = False
    return symbols if good.all() else symbols[good], good

  def crop(step, batch):
    files, labels = batch
    count = tf.shape(files)[0]
    place, mirror = tf.unstack(tf.random.experimental.stateless_split(tf.stack([tf.constant(seed or 0, tf.int64), step]), 2))
    places = tf.random.stateless_uniform([count, 2], place)
    symbols, good = tf.numpy_function(read, [files, places], [tf.uint8, tf.bool])
    symbols = tf.ensure_shape(symbols, [None, size, size, codec.channels])
    good = tf.ensure_shape(good, [None])
    if seed is not None:
      mirrored = tf.boolean_mask(tf.random.stateless_uniform([count], mirror) < 0.5, good)
      symbols = tf.where(mirrored[:, tf.newaxis, tf.newaxis, tf.newaxis], symbols[:, :, ::-1], symbols)
    return symbols, tf.boolean_mask(labels, good)

  return batches.enumerate().map(crop, num_parallel_calls=tf.data.AUTOTUNE)
