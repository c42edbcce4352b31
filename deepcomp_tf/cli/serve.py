"""A library as a service over HTTP, with a page in a browser; needs the extra 'serve'."""

import importlib.util
import os

import deepcomp_tf as dc
from deepcomp_tf import quiet
from deepcomp_tf.cli import common
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import to_install

TOKEN = "DEEPCOMP_TOKEN"


def add_arguments(parser):
  """Adds the flags."""
  parser.add_argument("library", help="Folder of the library, on this machine or at gs:// or s3://; made if it is missing.")
  parser.add_argument("--operating_point", default="bpp0.330", help=f"For photos. {common.POINT_HELP}; by default %(default)s.")
  parser.add_argument("--effort", type=int, default=0, help="For photos; by default %(default)s, the symbols that the encoder "
                      f"chooses at a look. 1 to {MAX_EFFORT} search for better ones, the longer the higher.")
  parser.add_argument("--network", default="", help="Names or folders of classifiers, with commas between them; by default the "
                      "shipped one of each operating point.")
  parser.add_argument("--host", default="127.0.0.1", help="Address to listen at, by default %(default)s, which this machine "
                      f"alone can reach. For any other, {TOKEN} in the environment must be a token, which requests have to have.")
  add_port_and_limit(parser, 50)
  parser.add_argument("--max_megabytes", type=float, default=64.0, help="Longer uploads are refused; by default %(default)s.")


def add_port_and_limit(parser, megapixels):
  """The flags --port and --max_megapixels."""
  parser.add_argument("--port", type=int, default=8347, help="By default %(default)s; 0 for one that is free.")
  parser.add_argument("--max_megapixels", type=float, default=float(megapixels),
                      help="Larger photos are refused; by default %(default)s.")


def run(args):
  """Serves until SIGTERM or Ctrl-C. Returns the exit code."""
  common.check(args)
  check(args)
  if args.max_megabytes <= 0:
    raise DeepcompError(f"expected --max_megabytes above 0. Received: {args.max_megabytes:g}")
  bound, token = listen(args.host, args.port)
  service = make_service(args.library, args)
  from deepcomp_tf.serve import app
  from deepcomp_tf.serve import running

  running.run(app.make_app(service, token, round(args.max_megabytes * 2 ** 20)), bound)
  return 0


def check(args):
  """Refuses a port and a limit that cannot be, and an installation without the service's packages."""
  if not 0 <= args.port < 65536 or args.max_megapixels <= 0:
    raise DeepcompError(f"expected --port in 0 to 65535 and --max_megapixels above 0. Received: --port={args.port}, "
                        f"--max_megapixels={args.max_megapixels:g}")
  needed = ("fastapi", "lancedb", "prometheus_client", "uvicorn")
  missing = [package for package in needed if importlib.util.find_spec(package) is None]
  if missing:
    raise DeepcompError(f"the service needs {', '.join(missing)}: {to_install('serve')}")


def listen(host, port):
  """A bound socket and the token, for an address; without a token only this machine's own is allowed."""
  from deepcomp_tf.serve import app
  from deepcomp_tf.serve import running

  token = os.environ.get(TOKEN, "")
  if not token and not app.is_loopback(host):
    raise DeepcompError(f"expected a token in the environment's {TOKEN} for a service that other machines can reach. Received: "
                        f"--host={host} and none")
  if not token.isascii():
    raise DeepcompError(f"expected a token of letters, digits and signs of ASCII in the environment's {TOKEN}. Received: others")
  return running.listen(host, port), token


def make_service(path, args, compiled=True, loader=None):
  """The `Service` of a library, warm; `compiled` as of `Service.warm_up`, `loader` as of `Service`."""
  quiet.import_tensorflow()
  from deepcomp_tf.serve.service import Service

  networks = [name for name in getattr(args, "network", "").split(",") if name]
  service = Service(dc.Library(path), getattr(args, "operating_point", "bpp0.330"), getattr(args, "effort", 0), networks,
                    round(args.max_megapixels * 1e6), loader)
  service.warm_up(compiled)
  return service
