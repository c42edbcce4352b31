"""The subcommands of tasks: what `deepcomp_tf.tasks.base.Task` says of itself, made a command."""

import functools

import deepcomp_tf as dc
from deepcomp_tf import shipped
from deepcomp_tf.cli import common
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.tasks import quick


def add_arguments(task, parser):
  """Adds the flags that all tasks have, and the task's."""
  parser.add_argument("files", nargs="+", help=f"{common.FILES_HELP}.")
  parser.add_argument(f"--{task.KIND}", dest="network", metavar=task.KIND.upper(), default="", help="One of "
                      f"{', '.join(task.names()) or '(none)'}, or a folder that training wrote; by default the shipped "
                      "one for the file's operating point.")
  parser.add_argument("--operating_point", default="", help=f"Folder of the operating point of --{task.KIND}, where that is not "
                      "where it says.")
  parser.add_argument("--verbose", action="store_true", help="Say of each network that is used what it gives, and on what it was "
                      "trained.")
  if not task.WRITES:
    common.add_lines(parser)
  common.add_json(parser)
  task.add_arguments(parser)


def run(task, args):
  """Answers for the files. Returns the exit code."""
  if args.operating_point and not args.network:
    raise DeepcompError(f"--operating_point is for --{task.KIND}. Received: --operating_point={args.operating_point} alone")
  if args.network:
    shipped.find(task.KIND, args.network)
  common.check(args)
  common.list_folders(args)
  task.check_arguments(args)
  codec = dc.Codec.load(args.operating_point) if args.operating_point else None
  loader = quick.Loader(len(args.files) <= (quick.MANY_PICTURES if task.decodes(args) else quick.MANY))

  @functools.lru_cache(maxsize=None)
  def network_for(name):
    network = loader.task(task, name, codec)
    if task.decodes(args) and codec is None:
      network.codec = loader.codec(network.codec.source)
    if args.verbose:
      common.say(network.describe(), common.lines_of(args))
    return network

  def work(file):
    before = task.existing(args, file)
    if before:
      return None, before
    data = dc.Bitstream(common.read(file))
    data.header  # read before TensorFlow is imported  # pylint: disable=pointless-statement
    name = args.network or task.find_for(data)
    try:
      network = network_for(name)
    except DeepcompError as error:
      raise common.OfAllError(str(error)) if args.network else error
    return network.report(args, file, data, network.answer(data))

  code = common.each(args, work)
  task.finish(args)
  loader.keep()
  return code
