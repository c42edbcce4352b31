"""The `deepcomp` command. Each subcommand is a file here, or a task of `deepcomp_tf.tasks`.

A subcommand has its help as the module's docstring, `add_arguments`, and `run`, which checks its flags before it imports
TensorFlow (`quiet.import_tensorflow`), so that what is wrong is said at once.
"""

# pylint: disable=wrong-import-position
from deepcomp_tf import quiet
quiet.heed_interrupts()

import functools
import sys

from absl import app
from absl.flags import argparse_flags

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import tasks
from deepcomp_tf.cli import compress
from deepcomp_tf.cli import decompress
from deepcomp_tf.cli import demo
from deepcomp_tf.cli import evaluate
from deepcomp_tf.cli import export
from deepcomp_tf.cli import info
from deepcomp_tf.cli import library
from deepcomp_tf.cli import serve
from deepcomp_tf.cli import task as of_task
from deepcomp_tf.cli.common import say
from deepcomp_tf.errors import DeepcompError


def main(argv=None):
  """Entry point of the command."""
  del argv
  quiet.run(lambda: app.run(_run, flags_parser=_parse))


def _parse(argv):
  parser = argparse_flags.ArgumentParser(
      prog="deepcomp", description="Stores photos as small learned bitstreams.")
  parser.add_argument("--version", action="version", version=f"deepcomp {dc.__version__}", help="Print the version and exit.")
  commands = parser.add_subparsers(dest="command", metavar="command", required=True)

  def add(name, text, add_arguments, run):
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(run=run, parser=sub)
    add_arguments(sub)

  for module in (compress, decompress, info):
    add(module.__name__.rpartition(".")[2], module.__doc__, module.add_arguments, module.run)
  for name in tasks.names():
    task = tasks.find(name)
    add(name, task.HELP, functools.partial(of_task.add_arguments, task), functools.partial(of_task.run, task))
  for module in (library, serve, demo, evaluate, export):
    add(module.__name__.rpartition(".")[2], module.__doc__, module.add_arguments, module.run)
  args, unknown = parser.parse_known_args(argv[1:])
  if unknown:
    args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
  return args


def _run(args):
  try:
    return args.run(args)
  except (DeepcompError, OSError) as error:
    say(f"deepcomp: {files.one_line_of(error)}", sys.stderr)
    return 1
