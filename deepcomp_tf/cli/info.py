"""Size, operating point and rate of .deepcomp files."""

import deepcomp_tf as dc
from deepcomp_tf import shipped
from deepcomp_tf.cli import common


def add_arguments(parser):
  """Adds the flags."""
  parser.add_argument("files", nargs="+", help=f"{common.FILES_HELP}.")
  common.add_point(parser, "the shipped one that the file names")
  common.add_lines(parser)
  common.add_json(parser)


def run(args):
  """Says what the files are; imports no TensorFlow. Returns the exit code."""
  common.check(args)
  common.list_folders(args)
  codec_for = shipped.by_file(dc.Codec, args.operating_point)

  def work(name):
    file = dc.Bitstream(common.read(name))
    codec = codec_for(file)
    pooled = codec.estimated_bits(codec.symbols(file)) / (file.height * file.width)
    return (f"{name}: {file.width}x{file.height} pixels, operating point {codec.operating_point}, "
            f"encoder version {codec.encoder_version}, decoder version {codec.decoder_version}, {len(file)} bytes, "
            f"{file.bits_per_pixel:.4f} bits per pixel; "
            f"entropy of one histogram (the paper's estimate): {pooled:.4f} bits per pixel",
            {"width": file.width, "height": file.height, "operating_point": codec.operating_point,
             "encoder_version": codec.encoder_version, "decoder_version": codec.decoder_version, "bytes": len(file),
             "bits_per_pixel": round(file.bits_per_pixel, 4), "bits_per_pixel_of_one_histogram": round(pooled, 4)})

  return common.each(args, work)
