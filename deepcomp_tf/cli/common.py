"""What subcommands share: their files, one after the other, a line for each, and flags that several have."""

import json
import os
import sys

import tqdm

from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf import shipped
from deepcomp_tf.codec import container
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.errors import DeepcompError

DEFAULT_EFFORT = 6

POINT_HELP = f"One of {', '.join(shipped.names('operating point'))}, or a folder that training wrote"
FILES_HELP = "Files, and folders, which stand for the .deepcomp files in them and in all folders in them"


def add_point(parser, text):
  """The flag --operating_point, by default what `text` says."""
  parser.add_argument("--operating_point", default="", help=f"{POINT_HELP}; by default {text}.")


def add_outputs(parser, place="beside each input"):
  """Flags for a folder of outputs."""
  parser.add_argument("-o", "--output_dir", default="", help=f"Folder for the outputs, made if it is missing; by default {place}.")
  parser.add_argument("--overwrite", action="store_true", help="Replace outputs that exist.")


def add_effort(parser):
  """The flag --effort of a search for better symbols."""
  parser.add_argument("--effort", type=int, default=None, help=f"By default {DEFAULT_EFFORT}. 0 takes the symbols that the encoder "
                      f"chooses at a look; 1 to {MAX_EFFORT} search for better ones, the longer the higher: smaller files and better "
                      "pictures.")


def add_json(parser):
  """The flag --json."""
  parser.add_argument("--json", action="store_true", help="Print a line of JSON for each file, with `error` where one failed.")


def check(args):
  """Refuses an --effort, an --output_dir and an --operating_point, which may be a list, that cannot be."""
  effort = getattr(args, "effort", None)
  if effort is not None and not 0 <= effort <= MAX_EFFORT:
    raise DeepcompError(f"`effort` must be an integer in 0..{MAX_EFFORT}. Received: effort={effort}")
  if getattr(args, "output_dir", ""):
    outputs.check_folder(args.output_dir)
  points = args.operating_point or []
  for point in [points] if isinstance(points, str) else points:
    shipped.find("operating point", point)


def say(line, file=None):
  """Prints a line, above a progress bar where there is one. Names in it may hold what cannot be printed."""
  tqdm.tqdm.write(files.printable(line), file=file)


def say_json(file, record):
  """Prints the line of JSON of a file."""
  tqdm.tqdm.write(json.dumps({"file": files.printable(file), **record}))


def say_failed(file, error, as_json):
  """Says that a file failed, and why."""
  if as_json:
    say_json(file, {"error": str(error)})
  else:
    say(f"deepcomp: {file}: {error}", sys.stderr)


def list_folders(args):
  """Puts the .deepcomp files of folders in the place of these. `args.folders` then says in which folder such a file was found."""
  listed, args.folders = [], {}
  for name in args.files:
    found = [path for path in files.walk(name) if path.endswith(container.EXTENSION)] if is_folder(name) else [name]
    if not found:
      raise DeepcompError(f"expected a folder with {container.EXTENSION} files in it. Received: {name}")
    listed += found
    args.folders.update({path: name for path in found if path != name})
  args.files = listed


def is_folder(name):
  """Whether a path is a folder."""
  try:
    return files.isdir(name)
  except DeepcompError:  # it cannot be reached; reading it as a photo will say so
    return False


def each(args, work):
  """Calls work(file) for each of args.files, with progress, also after a file that failed.

  Args:
    args: with `files` and `json`.
    work: function of a path that returns the line that is printed, and a dict for --json.

  Returns:
    the exit code.
  """
  failed, count = 0, len(args.files)
  for name in tqdm.tqdm(args.files, unit="file", disable=count == 1 or not sys.stderr.isatty()):
    try:
      line, record = work(name)
    except BrokenPipeError:  # of what it prints
      raise
    except (DeepcompError, OSError) as error:
      failed += 1
      say_failed(name, error, args.json)
      continue
    if args.json:
      say_json(name, record)
    else:
      say(line)
  if count > 1 and not args.json:
    say(f"{count - failed} of {count} files done" + (f", {failed} failed" if failed else ""))
  return 1 if failed else 0


def read(file):
  """The bytes of a file."""
  try:
    return files.read(file)
  except OSError as error:
    raise DeepcompError(f"cannot be read: {error.strerror}") from None


def output_paths(args, extension):
  """Where the outputs of files go: beside them, or to --output_dir, with the tree of the folders that they were found in.

  Args:
    args: with `files`, `folders`, `output_dir`.
    extension: of the outputs.

  Returns:
    dict of paths by the files' paths.

  Raises:
    DeepcompError: two files have the same output.
  """
  paths, taken = {}, {}
  for file in args.files:
    place = os.path.relpath(file, args.folders[file]) if args.output_dir and file in args.folders else os.path.basename(file)
    path = os.path.join(args.output_dir or os.path.dirname(file), os.path.splitext(place)[0] + extension)
    if path in taken:
      raise shared_output(taken[path], file, path)
    taken[path], paths[file] = file, path
  return paths


def shared_output(first, second, output):
  """The error of two inputs that have the same output."""
  return DeepcompError(f"expected inputs with outputs of their own. Received: {first} and {second}, both for {output}")
