"""Rate and distortion on images beside JPEG, JPEG 2000, WebP and AVIF at no more bytes, as text, CSV and picture, or as curves."""

import os
import sys
import time

import tqdm

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf import quiet
from deepcomp_tf.cli import common
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.errors import DeepcompError

_NAMES = ("rate_distortion.txt", "rate_distortion.csv", "rate_distortion.png", "representation.png")


def add_arguments(parser):
  """Adds the flags."""
  parser.add_argument("--images", required=True, help="Folder or glob pattern of images.")
  parser.add_argument("--operating_point", action="append", default=None, help=f"{common.POINT_HELP}; may be repeated; by "
                      "default all shipped ones.")
  common.add_effort(parser)
  parser.add_argument("--curves", action="store_true", help="Measure and draw curves: the other formats at eight qualities, "
                      "and ours around each operating point by three more searches, which weigh the bits less or more.")
  common.add_outputs(parser, "the current one")


def run(args):
  """Measures, and writes the table and the pictures. Returns the exit code."""
  effort = common.DEFAULT_EFFORT if args.effort is None else args.effort
  if args.curves and not effort:
    raise DeepcompError("expected --effort of at least 1 with --curves, since it is the search that moves the rate. "
                        "Received: --effort=0")
  common.check(args)
  paths = list_images(args.images)
  folder = args.output_dir or "."
  outputs.check([os.path.join(folder, name) for name in _NAMES], args.overwrite)
  quiet.import_tensorflow()
  from deepcomp_tf.evaluation import figures
  from deepcomp_tf.evaluation import rate_distortion

  codecs = [dc.Codec.load(point) for point in args.operating_point or dc.operating_points.names()]
  rows, failed, sample = [], 0, None
  for path in tqdm.tqdm(paths, unit="image", mininterval=1 if sys.stderr.isatty() else 60):
    try:
      image = read_image(path)
    except DeepcompError as error:
      failed += 1
      common.say(f"deepcomp: {error}", sys.stderr)
      continue
    sample = image if sample is None else sample
    for group in rate_distortion.measure(codecs, [(files.printable(os.path.basename(path)), image)], effort=effort,
                                         curves=args.curves):
      rows.extend(group)
  if not rows:
    raise DeepcompError(f"expected images that can be read. Received: {args.images}")
  summary = rate_distortion.means(rows)
  name = files.printable(os.path.basename(os.path.normpath(args.images)))
  title = f"{name}: {len(paths) - failed} images, effort {effort}, {time.strftime('%Y-%m-%d')}"
  text = f"{title}\n{rate_distortion.table(summary)}\n"
  contents = (text.encode(), rate_distortion.to_csv(rows).encode(),
              figures.rate_distortion_figure(summary, title), figures.representation_figure(codecs, sample))
  for name, content in zip(_NAMES, contents):
    outputs.write(os.path.join(folder, name), content, args.overwrite)
  print(text, end="")
  print(f"Written to {folder}: {', '.join(_NAMES)}")
  if failed:
    print(f"{failed} of {len(paths)} images failed", file=sys.stderr)
  return 1 if failed else 0
