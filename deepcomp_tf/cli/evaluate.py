"""Rate and distortion on images beside JPEG, JPEG 2000, WebP and AVIF at no more bytes,
as text, CSV and picture, or as curves."""

import math
import os
import re
import sys
import time

import tqdm

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf.cli import common
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.evaluation import baselines
from deepcomp_tf.tasks import quick

_NAMES = ("rate_distortion.txt", "rate_distortion.csv", "rate_distortion.png", "representation.png")


def add_arguments(parser):
  """Adds the flags."""
  images = parser.add_mutually_exclusive_group(required=True)
  images.add_argument("--images", help="Folder or glob pattern of images.")
  images.add_argument("--dataset", help="TFDS set of images and labels, imagenet2012 for example, "
                      "or folder of split/class/*.jpg.")
  parser.add_argument("--split", default="validation", help="Split of --dataset, or a slice of one (default validation), such as "
                      "validation[:1000].")
  parser.add_argument("--data_dir", help="Where TFDS keeps its sets.")
  parser.add_argument("--operating_point", action="append", default=None, help=f"{common.POINT_HELP}; may be repeated; by "
                      "default all shipped ones.")
  common.add_effort(parser)
  parser.add_argument("--curves", action="store_true", help="Measure and draw curves: the other formats at eight qualities, "
                      "and, with --effort above 0, ours around each operating point by three more searches, which weigh the bits "
                      "less or more.")
  parser.add_argument("--peers", default=",".join(baselines.FORMATS), help="Formats to compare with, with commas between them; "
                      "by default %(default)s; empty for none.")
  parser.add_argument("--resume", action="store_true", help="Go on where a run with the same flags was stopped: the rows of "
                      "images that are in the CSV file stay.")
  common.add_outputs(parser, "the current one")
  common.add_json(parser)


def run(args):
  """Measures, and writes the table and the pictures. Returns the exit code."""
  effort = common.DEFAULT_EFFORT if args.effort is None else args.effort
  peers = _check(args)
  paths = args.images and list_images(args.images)
  folder = args.output_dir or "."
  text_path, csv_path, *pictures = [os.path.join(folder, name) for name in _NAMES]
  outputs.check([text_path, csv_path, *pictures], args.overwrite, args.resume)
  from deepcomp_tf.evaluation import figures
  from deepcomp_tf.evaluation import rate_distortion

  loader = quick.Loader(bool(not effort and paths and len(paths) <= quick.MANY_PICTURES))
  codecs = list(map(loader.codec, args.operating_point or dc.operating_points.names()))
  name, count, photos = ((os.path.basename(os.path.normpath(args.images)), len(paths), ((path, None) for path in paths))
                         if args.images else _photos_of_set(args))
  before = _before(text_path, csv_path, effort, rate_distortion.keys(codecs, peers, effort, args.curves)) if args.resume else []
  # Whatever stops the run, what was measured is there, and the table says that it is not all.
  outputs.write(text_path, f"{files.printable(name)}: effort {effort}, not finished\n".encode(), overwrite=True)
  outputs.write(csv_path, rate_distortion.to_csv([row for group in before for row in group]).encode(), overwrite=True)
  rows, failed, sample = [], 0, None
  for path, data in tqdm.tqdm(photos, total=count, unit="image", mininterval=1 if sys.stderr.isatty() else 60):
    image_name = files.printable(os.path.basename(path))
    group = next((group for group in before if group[0]["image"] == image_name), None)
    if group:
      before.remove(group)
    try:
      image = read_image(path, data) if group is None or sample is None else None
    except DeepcompError as error:
      failed += 1
      common.say_failed(path, error, args.json)
      continue
    sample = image if sample is None else sample
    if group is None:
      group, = rate_distortion.measure(codecs, [(image_name, image)], peers, effort, args.curves)
      files.append_line(csv_path, rate_distortion.to_csv(group, header=False).rstrip("\n"))
    rows += group
    if args.json:
      common.say_json(path, {"rows": [{key: None if isinstance(value, float) and not math.isfinite(value) else value
                                       for key, value in row.items() if key != "image"} for row in group]})
  if not rows:
    raise DeepcompError(f"expected images that can be read. Received: {args.images or args.dataset}")
  summary = rate_distortion.means(rows)
  title = f"{files.printable(name)}: {count - failed} images, effort {effort}, {time.strftime('%Y-%m-%d')}"
  text = f"{title}\n{rate_distortion.table(summary)}\n"
  made = (figures.rate_distortion_figure(summary, title, rate_distortion.by_the_papers_measure(codecs)),
          figures.representation_figure(codecs, sample))
  for path, content in ((text_path, text.encode()), *zip(pictures, made)):
    outputs.write(path, content, overwrite=True)
  if not args.json:
    print(text, end="")
    print(f"Written to {folder}: {', '.join(_NAMES)}")
    if failed:
      print(f"{failed} of {count} images failed", file=sys.stderr)
  loader.keep()
  return 1 if failed else 0


def _check(args):
  """The names in --peers, after all flags were looked at."""
  if args.resume and args.overwrite:
    raise DeepcompError("expected --resume or --overwrite. Received: both")
  common.check(args)
  peers = [name for name in args.peers.split(",") if name]
  for name in peers:
    baselines.check(name)
  if args.dataset and (os.path.isabs(args.dataset) or args.dataset.startswith(".")) and not files.isdir(args.dataset):
    raise DeepcompError(f"expected a TFDS set or a folder. Received: --dataset={args.dataset}")
  return peers


def _before(text_path, csv_path, effort, keys):
  """The rows that a run with the same flags has left, a list for each image."""
  from deepcomp_tf.evaluation import rate_distortion
  if not files.exists(csv_path):
    return []
  said = re.search(r"effort (\d+)", files.read(text_path).decode() if files.exists(text_path) else "")
  try:
    if not said or int(said[1]) != effort:
      raise DeepcompError(f"expected --effort={said[1] if said else '?'}. Received: --effort={effort}")
    whole_lines = files.read(csv_path).decode().rpartition("\n")[0]
    return rate_distortion.groups_of(rate_distortion.from_csv(whole_lines), keys)
  except (DeepcompError, ValueError, TypeError) as error:
    raise DeepcompError(f"{csv_path} is of a run with other flags, with which --resume cannot go on ({error}); give --overwrite "
                        "to replace it") from None


def _photos_of_set(args):
  """What a split is called, how many photos it has, and an iterable of (name, bytes) of them."""
  from deepcomp_tf.data import sources  # with TensorFlow
  source = sources.open_source(args.dataset, args.split, args.data_dir)
  if source.bitstreams:
    raise DeepcompError(f"expected a set of images. Received: --dataset={args.dataset}, which holds compressed files")
  stored = source.read(0, source.num_examples).as_numpy_iterator()
  photos = ((source.name_of(number), data) for number, (data, _) in enumerate(stored))
  return f"{source.name}, {args.split}", source.num_examples, photos
