"""From a trained network to an operating point: tables, files, and what it reaches on validation photos."""

import numpy as np
import tqdm

from deepcomp_tf.codec import fitting
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.evaluation import metrics


def export_operating_point(folder, model, training, validation, info, statistics=None):
  """Writes the operating point of a trained `CompressionModel` to a folder.

  The weights are rounded to those that are shipped before anything is measured, and the centers put in
  ascending order.

  Args:
    folder, model: the network is changed by the rounding.
    training: iterable of uint8 `[h, w, 3]` photos that the coder's tables are fitted to.
    validation: list of photos to measure on.
    info: what else to write down, with a `name`.
    statistics: None, or (mean, deviation) `[C]` of the representation, in place of those over `training`: for a network
      whose classifier was trained on these.

  Returns:
    dict of means over the validation photos: bits_per_pixel (of the files), bits_per_pixel_pooled (the paper's
    measure), psnr, ssim, ms_ssim.
  """
  operating_point.round_weights(model)
  centers = np.sort(model.quantizer.centers.numpy())
  model.quantizer.centers.assign(centers)
  origin = int(np.argmin(np.abs(centers)))

  # A codec with any context model encodes; its coder is not used until the real tables are there.
  flat = fitting.flat_model(model.channels, len(centers), origin)
  encoder = Codec(operating_point.OperatingPoint(info["name"], centers, flat, model=model))
  maps = [encoder.encode(photo) for photo in tqdm.tqdm(training, desc="encoding", unit="photo", mininterval=10)]
  context_model = fitting.fit(
      maps, len(centers), origin,
      progress=lambda channels: tqdm.tqdm(channels, desc="fitting the tables", unit="channel", mininterval=10))
  if statistics is None:
    counts = sum(np.stack([np.bincount(channel, minlength=len(centers)) for channel in symbols.reshape(-1, model.channels).T])
                 for symbols in maps)
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ centers.astype(np.float64)
    # A channel that never changes is left unscaled.
    deviation = np.sqrt(np.sum(shares * (centers - mean[:, np.newaxis]) ** 2, axis=1))
    statistics = mean, np.where(deviation > 0, deviation, 1.0)

  fingerprint = operating_point.fingerprint_of(centers, context_model.to_arrays())
  codec = Codec(operating_point.OperatingPoint(info["name"], centers, context_model, fingerprint, info, *statistics, model=model))
  figures = []
  for photo in tqdm.tqdm(validation, desc="validating", unit="photo", mininterval=10):
    data = codec.compress(photo)
    pixels = photo.shape[0] * photo.shape[1]
    figures.append({"bits_per_pixel": 8 * len(data) / pixels,
                    "bits_per_pixel_pooled": codec.estimated_bits(codec.symbols(data)) / pixels,
                    **metrics.distortion(photo, codec.decompress(data))})
  reached = metrics.means(figures)
  operating_point.save(folder, model, context_model, {**info, "reached_on_validation": reached}, *statistics)
  return reached
