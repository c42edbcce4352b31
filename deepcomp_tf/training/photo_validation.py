"""Validation of compression networks on whole photos, as the programs that train them record it."""

import time

from absl import logging
import numpy as np
import tensorflow as tf

from deepcomp_tf.evaluation import metrics
from deepcomp_tf.training import distribution

# Photos that are shown beside their reconstructions.
PICTURES = 3


def validate(run, strategy, codec, photos, bits_per_pixel=None):
  """Distortion of whole photos, into the curves and `history.jsonl`, with a few pictures. Every worker measures some of them.

  Args:
    run: `runs.Run`.
    strategy: of `tf.distribute`.
    codec: `Codec` that encodes and decodes.
    photos: list of uint8 `[h, w, 3]`.
    bits_per_pixel: function of a photo and its symbols, where the rate is recorded, too.

  Returns:
    dict of means.
  """
  begin, pictures = time.time(), []
  names = (("bits_per_pixel",) if bits_per_pixel else ()) + metrics.NAMES

  def measure(own):
    for photo in (photos[index] for index in own):
      symbols = codec.encode(photo)
      decoded = codec.reconstruct(symbols, *photo.shape[:2])
      if len(pictures) < PICTURES:
        pictures.append(np.concatenate([photo, decoded], axis=1))
      yield [*([bits_per_pixel(photo, symbols)] if bits_per_pixel else []), *metrics.distortion(photo, decoded).values()]

  figures = distribution.share_work(strategy, len(photos), len(names), measure)
  means = metrics.means([dict(zip(names, row)) for row in figures])
  run.curves("validation", means)
  with run.summaries("validation"):
    for number, picture in enumerate(pictures):
      tf.summary.image(f"input_beside_reconstruction/{number}", picture[np.newaxis])
  run.record(means)
  logging.info("step %d: validation %s (%.0f s)", run.step.numpy(),
               "  ".join(f"{name} {value:.4f}" for name, value in means.items()), time.time() - begin)
  return means
