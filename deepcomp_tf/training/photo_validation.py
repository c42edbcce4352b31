"""What compression networks reach on whole photos."""

import numpy as np
import tensorflow as tf

from deepcomp_tf.evaluation import metrics
from deepcomp_tf.training import distribution

# Photos that are shown beside their reconstructions.
PICTURES = 3


def measure(strategy, codec, photos, bits_per_pixel=None):
  """Distortion of whole photos, of which every worker measures some: dict of means. Writes a few pictures for TensorBoard.

  Args:
    strategy: of `tf.distribute`.
    codec: `Codec` that encodes and decodes.
    photos: list of uint8 `[h, w, 3]`.
    bits_per_pixel: function of a photo and its symbols, where the rate is measured, too.
  """
  names = (("bits_per_pixel",) if bits_per_pixel else ()) + metrics.NAMES
  pictures = []

  def figures_of(numbers):
    for photo in (photos[number] for number in numbers):
      symbols = codec.encode(photo)
      decoded = codec.reconstruct(symbols, *photo.shape[:2])
      if len(pictures) < PICTURES:
        pictures.append(np.concatenate([photo, decoded], axis=1))
      yield [*([bits_per_pixel(photo, symbols)] if bits_per_pixel else []), *metrics.distortion(photo, decoded).values()]

  figures = distribution.share_work(strategy, len(photos), len(names), figures_of)
  for number, picture in enumerate(pictures):
    tf.summary.image(f"input_beside_reconstruction/{number}", picture[np.newaxis])
  return metrics.means([dict(zip(names, row)) for row in figures])
