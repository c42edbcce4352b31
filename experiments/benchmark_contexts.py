"""What context coding saves: the bits that the same symbols take under four sorts of tables.

  python -m experiments.benchmark_contexts --images=KODAK --training_images=PHOTOS

Per operating point, mean over the images, in bits per pixel: the pooled histogram of each image (the paper's
measure), a static table for each channel counted on the training photos, a table of each image for each channel
(without the cost of sending it), and the real files with their headers.
"""

from absl import flags
import numpy as np
import tqdm

import deepcomp_tf as dc
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.evaluation.figures import channel_entropy
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("images", None, "Folder or pattern of images to measure on.", required=True)
flags.DEFINE_string("training_images", None, "Folder or pattern of the photos that the coder's tables were fitted "
                    "to.", required=True)
flags.DEFINE_integer("training_photos", 100, "How many of them to count the static tables on.", lower_bound=1)


def main(argv):
  del argv
  images = [read_image(path) for path in list_images(FLAGS.images)]
  paths = list_images(FLAGS.training_images)
  training = [read_image(path) for path in paths[::max(1, len(paths) // FLAGS.training_photos)]]
  print(f"{'operating point':16} {'pooled':>8} {'static':>8} {'own':>8} {'files':>8} {'files/pooled':>13}")
  for name in dc.operating_points.names():
    codec = dc.Codec.load(name)
    size = codec.model.quantizer.num_centers
    counts = np.ones([codec.channels, size])
    for photo in tqdm.tqdm(training, desc=name, leave=False):
      symbols = codec.encode(photo).reshape(-1, codec.channels)
      counts += [np.bincount(channel, minlength=size) for channel in symbols.T]
    costs = -np.log2(counts / counts.sum(axis=1, keepdims=True))
    figures = []
    for image in tqdm.tqdm(images, desc=name, leave=False):
      data = codec.compress(image)
      symbols = codec.symbols(data)
      channels = symbols.reshape(-1, codec.channels).T
      static = sum(cost[channel].sum() for cost, channel in zip(costs, channels))
      own = sum(channel_entropy(channel) * channel.size for channel in channels)
      figures.append(np.array([codec.estimated_bits(symbols), static, own, 8 * len(data)]) / image[..., 0].size)
    pooled, static, own, files = np.mean(figures, axis=0)
    print(f"{name:16} {pooled:8.4f} {static:8.4f} {own:8.4f} {files:8.4f} {100 * (files / pooled - 1):+12.1f} %")


if __name__ == "__main__":
  training_flags.main(main)
