"""A page on this machine to try it all on, in a browser; needs the extra 'demo'."""

from deepcomp_tf import quiet
from deepcomp_tf.errors import DeepcompError


def add_arguments(parser):
  """Adds the flags."""
  parser.add_argument("--port", type=int, default=8347, help="Port of 127.0.0.1, by default %(default)s.")
  parser.add_argument("--max_megapixels", type=float, default=4.0, help="Larger photos are refused; by default %(default)s.")


def run(args):
  """Serves the page until it is interrupted. Returns the exit code."""
  if not 0 <= args.port < 65536 or args.max_megapixels <= 0:
    raise DeepcompError(f"expected --port in 0 to 65535 and --max_megapixels above 0. Received: --port={args.port}, "
                        f"--max_megapixels={args.max_megapixels:g}")
  quiet.import_tensorflow()
  from deepcomp_tf import demo

  demo.serve(args.port, args.max_megapixels)
  return 0
