""".deepcomp files to PNG, JPEG or WebP files."""

import os

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf.cli import common
from deepcomp_tf.codec.images import DEFAULT_QUALITY
from deepcomp_tf.codec.images import encode_picture
from deepcomp_tf.codec.images import PICTURE_KINDS
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.tasks import quick

# What the name of a picture may end in, and its kind.
_ENDINGS = {**{f".{kind}": kind for kind in PICTURE_KINDS}, ".jpeg": "jpg"}


def add_arguments(parser):
  """Adds the flags."""
  parser.add_argument("files", nargs="+", help=f"{common.FILES_HELP}; their tree is kept under --output_dir.")
  parser.add_argument("--format", choices=PICTURE_KINDS, help="Of the pictures, by default png, or what --output_dir ends in.")
  parser.add_argument("--quality", type=int, default=None, help=f"1 to 100, of jpg and webp; by default {DEFAULT_QUALITY}.")
  common.add_point(parser, "the shipped one that the file names")
  common.add_resume(parser)
  common.add_outputs_or_one(parser, ".png")
  common.add_json(parser)


def run(args):
  """Decompresses the files. Returns the exit code."""
  common.check_one(args, list(_ENDINGS))
  kind = _ENDINGS.get(os.path.splitext(args.output_dir)[1].lower()) if args.one else None
  if kind and args.format not in (None, kind):
    raise DeepcompError(f"expected --format={kind} for {args.output_dir}. Received: --format={args.format}")
  kind = kind or args.format or "png"
  if args.quality is not None and (kind == "png" or not 1 <= args.quality <= 100):
    raise DeepcompError("expected --quality in 1 to 100, with --format=jpg or --format=webp. Received: "
                        f"--quality={args.quality} with --format={kind}")
  common.check(args)
  common.list_folders(args)
  places = {args.files[0]: args.output_dir} if args.one else (
      outputs.places(args.files, args.folders, f".{kind}", args.output_dir))
  loader = quick.Loader(len(args.files) <= quick.MANY_PICTURES)

  def work(file):
    path = places[file]
    data = dc.Bitstream(common.read(file))
    data.header  # read before TensorFlow is imported  # pylint: disable=pointless-statement
    if path != outputs.STANDARD:
      outputs.check_new(path, args.overwrite, args.resume)
      if args.resume and files.exists(path):
        return None, common.existing(path, data)
    image = loader.codec(args.operating_point or data.operating_point).decompress(data)
    outputs.write(path, encode_picture(image, kind, args.quality), args.overwrite)
    height, width = image.shape[:2]
    return f"{file} -> {path}: {width}x{height}", {"output": path, "width": width, "height": height}

  code = common.each(args, work)
  loader.keep()
  return code
