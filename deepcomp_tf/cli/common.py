"""What subcommands share: their files, one after the other, a line for each, and flags that several have."""

import json
import os
import sys

import tqdm

from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf import shipped
from deepcomp_tf.codec import container
from deepcomp_tf.codec import images
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.errors import DeepcompError

DEFAULT_EFFORT = 6

POINT_HELP = f"One of {', '.join(shipped.names('operating point'))}, or a folder that training wrote"
FILES_HELP = "Files, and folders, which stand for the .deepcomp files in them and in all folders in them; - is standard input"

STANDARD = outputs.STANDARD


def add_point(parser, text):
  """The flag --operating_point, by default what `text` says."""
  parser.add_argument("--operating_point", default="", help=f"{POINT_HELP}; by default {text}.")


def add_outputs(parser, place):
  """Flags for a folder of outputs."""
  parser.add_argument("-o", "--output_dir", default="", help="Folder for the outputs, made if it is missing; "
                      f"by default {place}.")
  add_overwrite(parser)


def add_outputs_or_one(parser, ending):
  """Flags for a folder of outputs, or the output of a single file."""
  add_outputs(parser, f"beside each input. Or, for a single file, its output, such as NAME{ending}; {STANDARD} is standard "
              "output")


def add_lines(parser):
  """Flags for a file of lines of JSON."""
  parser.add_argument("-o", "--output", dest="lines", default="", help="File for a line of JSON for each input, written as they "
                      "come, in place of what is printed; made with its folder.")
  parser.add_argument("--resume", action="store_true", help="Go on with an --output that exists: files that have a line without "
                      "an error there are left alone.")
  add_overwrite(parser)


def add_resume(parser):
  """The flag --resume."""
  parser.add_argument("--resume", action="store_true", help="Leave outputs that exist alone, and count them as done.")


def add_overwrite(parser):
  """The flag --overwrite."""
  parser.add_argument("--overwrite", action="store_true", help="Replace outputs that exist.")


def add_effort(parser):
  """The flag --effort of a search for better symbols."""
  parser.add_argument("--effort", type=int, default=None, help=f"By default {DEFAULT_EFFORT}. 0 takes the symbols that the "
                      f"encoder chooses at a look; 1 to {MAX_EFFORT} search for better ones, the longer the higher: "
                      "smaller files and better pictures.")


def add_json(parser):
  """The flag --json."""
  parser.add_argument("--json", action="store_true", help="Print a line of JSON for each file, with `error` where one failed.")


def check(args):
  """Refuses flags that several commands have, and that cannot be; --operating_point may be a list."""
  if getattr(args, "resume", False) and args.overwrite:
    raise DeepcompError("expected --resume or --overwrite. Received: both")
  effort = getattr(args, "effort", None)
  if effort is not None and not 0 <= effort <= MAX_EFFORT:
    raise DeepcompError(f"`effort` must be an integer in 0..{MAX_EFFORT}. Received: effort={effort}")
  if getattr(args, "one", False):
    outputs.check([args.output_dir], args.overwrite, args.resume)
  elif getattr(args, "output_dir", ""):
    outputs.check_folder(args.output_dir)
  if getattr(args, "lines", ""):
    args.json = True
    outputs.check([args.lines], args.overwrite, args.resume)
  points = args.operating_point or []
  for point in [points] if isinstance(points, str) else points:
    shipped.find("operating point", point)


def check_one(args, endings):
  """Sets `args.one`, whether --output_dir is no folder but the output of a single file: standard output, where that of standard
  input goes by default, or a path that has one of `endings` and is no folder."""
  if STANDARD in args.files:
    args.output_dir = args.output_dir or STANDARD
  args.one = args.output_dir == STANDARD or (
      os.path.splitext(args.output_dir)[1].lower() in endings and not files.isdir(args.output_dir))
  if STANDARD in args.files and not args.one:
    raise DeepcompError(f"expected {STANDARD} or a file, such as NAME{endings[0]}, for the output of standard input, which has "
                        f"no name. Received: -o {args.output_dir}")
  if args.one and (len(args.files) > 1 or is_folder(args.files[0])):
    output = "standard output" if args.output_dir == STANDARD else args.output_dir
    raise DeepcompError(f"expected a single file for {output}. Received: {' '.join(args.files[:3])}")
  if args.resume and STANDARD in (*args.files, args.output_dir):
    raise DeepcompError("--resume is for files that have names. Received: --resume with -")


def say(line, file=None):
  """Prints a line, above a progress bar where there is one. Names in it may hold what cannot be printed."""
  tqdm.tqdm.write(files.printable(line), file=file)


def say_json(file, record, to=None):
  """Prints the line of JSON of a file."""
  tqdm.tqdm.write(_json(file, record), file=to)


def _json(file, record):
  return json.dumps({"file": files.printable(file), **record})


def lines_of(args):
  """Where lines are printed: standard error while standard output takes an output; None: standard output."""
  return sys.stderr if STANDARD in (getattr(args, "output_dir", ""), getattr(args, "output", "")) else None


def say_failed(file, error, as_json, to=None):
  """Says that a file failed, and why."""
  if as_json:
    say_json(file, {"error": str(error)}, to)
  else:
    say(f"deepcomp: {file}: {error}", sys.stderr)


def list_folders(args):
  """Puts the .deepcomp files of folders in the place of these. `args.folders` then says in which folder such a file was found."""
  if args.files.count(STANDARD) > 1:
    raise DeepcompError("expected - for standard input once. Received: it twice")
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


class OfAllError(DeepcompError):
  """What is wrong whatever the file is, and so ends the command."""


def each(args, work):
  """Calls work(file) for each of args.files, with progress, also after a file that failed.

  Args:
    args: with `files` and `json`, and what `add_lines` adds.
    work: function of a path that returns the line that is printed, None for an output that was there, and a dict for --json.

  Returns:
    the exit code.
  """
  failed, before, count, lines = 0, 0, len(args.files), getattr(args, "lines", "")
  done = _start_lines(args) if lines else ()

  def record(name, line, values):
    if lines:
      files.append_line(lines, _json(name, values))
    elif args.json:
      say_json(name, values, lines_of(args))
    elif line is not None:
      say(line, lines_of(args))

  for name in tqdm.tqdm(args.files, unit="file", disable=count == 1 or not sys.stderr.isatty()):
    if files.printable(name) in done:
      before += 1
      continue
    try:
      line, values = work(name)
    except (BrokenPipeError, OfAllError):
      raise  # the first is of what it prints
    except (DeepcompError, OSError) as error:
      failed += 1
      say_failed(name, error, args.json and not lines, lines_of(args))
      if lines:
        record(name, None, {"error": str(error)})
      continue
    before += line is None
    record(name, line, values)
  if count > 1 and (lines or not args.json):
    say(tally(count, failed, before))
  return 1 if failed else 0


def tally(count, failed, before):
  """The last line of a command: how many files are done, and how many of these were before."""
  return (f"{count - failed} of {count} files done" + (f", {before} of them before" if before else "")
          + (f", {failed} failed" if failed else ""))


def _start_lines(args):
  """Writes the file that `add_lines` is about, with what --resume keeps of it, and returns the names of the files in that."""
  kept = {}
  if args.resume and files.exists(args.lines):
    for line in files.read(args.lines).decode(errors="replace").splitlines():
      try:
        values = json.loads(line)
        if "error" not in values:
          kept[values["file"]] = line
      except (ValueError, KeyError, TypeError):
        continue  # it was cut off
  outputs.write(args.lines, "".join(f"{line}\n" for line in kept.values()).encode(), overwrite=True)
  return kept


def read(file):
  """The bytes of a file, or of standard input."""
  if file == STANDARD:
    return sys.stdin.buffer.read()
  try:
    return files.read(file)
  except OSError as error:
    raise DeepcompError(f"cannot be read: {error.strerror}") from None


def existing(path, data):
  """What --json has for a file whose output is there, a picture; one of another size than the file says is an error."""
  size = images.stored_size(path)
  if size != (data.width, data.height):
    raise DeepcompError(f"{path} exists and is of another photo, of {size[0]}x{size[1]} pixels; give --overwrite to replace it")
  return {"output": path, "before": True}
