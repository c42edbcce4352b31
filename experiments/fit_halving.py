"""Fits how a representation is halved: from that of a photo to that of the same photo at half the size, without pixels.

  python -m experiments.fit_halving --operating_points=bpp0.330 --photos=FOLDER --validation_photos=FOLDER

`dc.Classifier` brings the representations of photos that are much larger than those of its training down by it. It is linear, a
convolution of 4x4 positions with stride 2, and is found by least squares from photos of both sizes. Written to halving.npz in the
operating point's folder; the share of the variance that it explains is printed.
"""

import io

from absl import flags
import numpy as np
from PIL import Image

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf.codec import images
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data.photo_files import list_photos
from deepcomp_tf.tasks import halving
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_list("operating_points", dc.operating_points.names(), "Names or folders.")
flags.DEFINE_string("photos", None, "Folder of photos, of 256 pixels at least.", required=True)
flags.DEFINE_string("validation_photos", None, "Folder of photos to measure on.", required=True)
flags.DEFINE_integer("most", 100, "Photos of each folder that are taken, the first.", lower_bound=1)
flags.DEFINE_integer("size", 384, "Their edge in pixels, at most: center squares.", lower_bound=64)

RIDGE = 0.1


def main(argv):
  del argv
  for name in FLAGS.operating_points:
    inputs = NetworkInput("representation", dc.Codec.load(name))
    kernel, bias = fit(*zip(*pairs(inputs, FLAGS.photos)))
    whole, aims = zip(*pairs(inputs, FLAGS.validation_photos))
    found = np.concatenate([halving.halve(x[np.newaxis], kernel, bias)[0].numpy().reshape(-1, x.shape[-1]) for x in whole])
    aim = np.concatenate([y.reshape(-1, y.shape[-1]) for y in aims])
    explained = 1 - np.mean((found - aim) ** 2, axis=0) / np.var(aim, axis=0)
    print(f"{name}: {100 * explained.mean():.1f} % of the variance of {len(whole)} photos of {FLAGS.validation_photos}, of "
          f"channels {100 * explained.min():.1f} to {100 * explained.max():.1f} %")
    folder = shipped.find("operating point", name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, kernel=kernel.astype(np.float16), bias=bias.astype(np.float32))
    files.write_file(halving.path_of(folder), buffer.getvalue(), overwrite=True)


def pairs(inputs, folder):
  """Normalised representations `[h, w, C]` of photos, and of the same at half the size."""
  for path in list_photos(folder)[:FLAGS.most]:
    photo = Image.fromarray(images.read_image(path))
    side = min(*photo.size, FLAGS.size) // 16 * 16
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    photo = photo.crop((left, top, left + side, top + side))
    half = photo.resize((side // 2, side // 2), Image.Resampling.LANCZOS)
    yield tuple(inputs(inputs.encode(np.asarray(pixels)[np.newaxis]))[0].numpy() for pixels in (photo, half))


def fit(whole, halves):
  """(kernel `[4, 4, C, C]`, bias `[C]`) of least squares; lists of `[2h, 2w, C]` and of `[h, w, C]`."""
  channels = whole[0].shape[-1]
  seen = np.concatenate([halving.windows(x).reshape(-1, 16 * channels) for x in whole]).astype(np.float64)
  aim = np.concatenate([y.reshape(-1, channels) for y in halves]).astype(np.float64)
  seen_mean, aim_mean = seen.mean(axis=0), aim.mean(axis=0)
  seen, aim = seen - seen_mean, aim - aim_mean
  weights = np.linalg.solve(seen.T @ seen + RIDGE * np.eye(seen.shape[1]), seen.T @ aim)
  return weights.reshape(4, 4, channels, channels), aim_mean - seen_mean @ weights


if __name__ == "__main__":
  training_flags.main(main)
