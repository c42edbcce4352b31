"""What a search for each photo's symbols gives for its time: bytes and distortion by effort.

  python -m experiments.benchmark_effort --images=PHOTOS --efforts=0,1,3,5

Per operating point and effort, means over the images: seconds for each (without the seconds that making
the graphs for a new size of images takes once), bits per pixel with every byte counted, PSNR, SSIM and MS-SSIM; and the bytes
of all over those of effort 0.
"""

from absl import flags
import tqdm

import deepcomp_tf as dc
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_string("images", None, "Folder or pattern of images to measure on.", required=True)
flags.DEFINE_integer("every", 1, "Takes 1 of so many of them.", lower_bound=1)
flags.DEFINE_list("operating_point", [], "Names or folders; by default all shipped ones.")
flags.DEFINE_list("efforts", ["0", "1", "2", "3", "4", "5"], "Efforts to compare, 0 first.")


def main(argv):
  del argv
  paths = list_images(FLAGS.images)[::FLAGS.every]
  print(f"{len(paths)} images of {FLAGS.images}; {measuring.machine()}")
  print(f"{'operating point':16} {'effort':>6} {'seconds':>8} {'bpp':>8} {'PSNR':>7} {'SSIM':>7} {'MS-SSIM':>8} {'bytes':>8}")
  for name in FLAGS.operating_point or dc.operating_points.names():
    codec, bytes_before, sizes = dc.Codec.load(name), None, set()
    for effort in map(int, FLAGS.efforts):
      rows = []
      for path in tqdm.tqdm(paths, desc=f"{name}, effort {effort}", leave=False):
        image = read_image(path)
        if image.shape not in sizes:
          sizes.add(image.shape)
          codec.encode(image, effort=1)
        begin = measuring.clocks()
        data = codec.compress(image, effort)
        seconds, _ = measuring.clocks() - begin
        rows.append({"seconds": seconds, "bytes": len(data), "bits_per_pixel": 8 * len(data) / image[..., 0].size,
                     **metrics.distortion(image, codec.decompress(data))})
      means, total = metrics.means(rows), sum(row["bytes"] for row in rows)
      bytes_before = bytes_before or total
      print(f"{name:16} {effort:6} {means['seconds']:8.2f} {means['bits_per_pixel']:8.4f} {means['psnr']:7.2f} "
            f"{means.get('ssim', float('nan')):7.4f} {means.get('ms_ssim', float('nan')):8.4f} "
            f"{100 * (total / bytes_before - 1):+6.1f} %", flush=True)


if __name__ == "__main__":
  training_flags.main(main)
