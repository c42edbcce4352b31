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
  images = parser.add_mutually_exclusive_group(required=True)
  images.add_argument("--images", help="Folder or glob pattern of images.")
  images.add_argument("--dataset", help="TFDS set of images and labels, imagenet2012 for example, or folder of split/class/*.jpg.")
  parser.add_argument("--split", default="validation", help="Split of --dataset, or a slice of one (default validation), such as "
                      "validation[:1000].")
  parser.add_argument("--data_dir", help="Where TFDS keeps its sets.")
  parser.add_argument("--operating_point", action="append", default=None, help=f"{common.POINT_HELP}; may be repeated; by "
                      "default all shipped ones.")
  common.add_effort(parser)
  parser.add_argument("--curves", action="store_true", help="Measure and draw curves: the other formats at eight qualities, "
                      "and, with --effort above 0, ours around each operating point by three more searches, which weigh the bits "
                      "less or more.")
  common.add_outputs(parser, "the current one")


def run(args):
  """Measures, and writes the table and the pictures. Returns the exit code."""
  effort = common.DEFAULT_EFFORT if args.effort is None else args.effort
  common.check(args)
  paths = args.images and list_images(args.images)
  folder = args.output_dir or "."
  outputs.check([os.path.join(folder, name) for name in _NAMES], args.overwrite)
  quiet.import_tensorflow()
  from deepcomp_tf.evaluation import figures
  from deepcomp_tf.evaluation import rate_distortion

  codecs = [dc.Codec.load(point) for point in args.operating_point or dc.operating_points.names()]
  rows, failed, sample = [], 0, None
  name, count, photos = ((os.path.basename(os.path.normpath(args.images)), len(paths), ((path, None) for path in paths))
                         if args.images else _photos_of_set(args))
  for path, data in tqdm.tqdm(photos, total=count, unit="image", mininterval=1 if sys.stderr.isatty() else 60):
    try:
      image = read_image(path, data)
    except DeepcompError as error:
      failed += 1
      common.say(f"deepcomp: {error}", sys.stderr)
      continue
    sample = image if sample is None else sample
    for group in rate_distortion.measure(codecs, [(files.printable(os.path.basename(path)), image)], effort=effort,
                                         curves=args.curves):
      rows.extend(group)
  if not rows:
    raise DeepcompError(f"expected images that can be read. Received: {args.images or args.dataset}")
  summary = rate_distortion.means(rows)
  title = f"{files.printable(name)}: {count - failed} images, effort {effort}, {time.strftime('%Y-%m-%d')}"
  text = f"{title}\n{rate_distortion.table(summary)}\n"
  contents = (text.encode(), rate_distortion.to_csv(rows).encode(),
              figures.rate_distortion_figure(summary, title, rate_distortion.by_the_papers_measure(codecs)),
              figures.representation_figure(codecs, sample))
  for name, content in zip(_NAMES, contents):
    outputs.write(os.path.join(folder, name), content, args.overwrite)
  print(text, end="")
  print(f"Written to {folder}: {', '.join(_NAMES)}")
  if failed:
    print(f"{failed} of {count} images failed", file=sys.stderr)
  return 1 if failed else 0


def _photos_of_set(args):
  """What a split is called, how many photos it has, and an iterable of (name, bytes) of them."""
  from deepcomp_tf.data import sources  # with TensorFlow
  source = sources.open_source(args.dataset, args.split, args.data_dir)
  if source.bitstreams:
    raise DeepcompError(f"expected a set of images. Received: --dataset={args.dataset}, which holds compressed files")
  stored = source.read(0, source.num_examples).as_numpy_iterator()
  photos = ((source.name_of(number), data) for number, (data, _) in enumerate(stored))
  return f"{source.name}, {args.split}", source.num_examples, photos
