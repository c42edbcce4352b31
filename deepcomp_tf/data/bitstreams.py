"""Batches of crops straight from batches of compressed files: one call into the codec for each, on several threads."""

import tensorflow as tf

from deepcomp_tf.errors import BitstreamError


def crop_batches(batches, codec, size, damage, seed=None):
  """Decodes a data set of batches of files to crops of their symbols.

  `tf.numpy_function` holds Python's lock around what it calls, so it is called for a whole batch, which the
  codec decodes without the lock. Damaged files are left out, so that a batch may become smaller: `rebatch` the
  result.

  Args:
    batches: data set of (strings `[batch]`, labels `[batch]`).
    codec: the `Codec` that the files were written with.
    size: edge of the crops in positions of 8x8 pixels.
    damage: `damage.Damage` that takes note of damaged files.
    seed: of the crops, random and mirrored at random; None for centers.

  Returns:
    data set of (uint8 `[<= batch, size, size, C]`, labels `[<= batch]`). It raises where a file is smaller than the crops.
  """

  def read(step, files, labels, places, mirrored):
    symbols, errors = codec.crops_of(files.tolist(), size, None if seed is None else places)
    for number, error in errors.items():
      if not isinstance(error, BitstreamError):
        raise error
      damage.add((int(step), number), str(error))
    if seed is not None:
      symbols[mirrored] = symbols[mirrored, :, ::-1]
    if not errors:
      return symbols, labels
    good = [number for number in range(len(files)) if number not in errors]
    return symbols[good], labels[good]

  def crop(step, batch):
    files, labels = batch
    key = tf.stack([tf.constant(seed or 0, tf.int64), step])
    place, mirror = tf.unstack(tf.random.experimental.stateless_split(key, 2))
    places = tf.random.stateless_uniform([tf.size(files), 2], place)
    mirrored = tf.random.stateless_uniform([tf.size(files)], mirror) < 0.5
    # Mirroring in numpy, in the same call: TensorFlow's reversing and selecting of bytes took half as long as decoding.
    symbols, kept = tf.numpy_function(read, [step, files, labels, places, mirrored], [tf.uint8, labels.dtype])
    return tf.ensure_shape(symbols, [None, size, size, codec.channels]), tf.ensure_shape(kept, [None])

  return batches.enumerate().map(crop, num_parallel_calls=tf.data.AUTOTUNE)
