"""Photos (JPEG, PNG, WebP and what else Pillow reads) to .deepcomp files."""

import sys

import tqdm

import deepcomp_tf as dc
from deepcomp_tf import outputs
from deepcomp_tf import quiet
from deepcomp_tf import shipped
from deepcomp_tf.cli import common
from deepcomp_tf.codec import container
from deepcomp_tf.codec import images
from deepcomp_tf.codec import target
from deepcomp_tf.codec.codec import READERS
from deepcomp_tf.data import photo_files
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import to_install
from deepcomp_tf.threads import cores

DEFAULT_OPERATING_POINT = "bpp0.330"
DEFAULT_EFFORT_TO_SIZE = 2


def add_arguments(parser):
  """Adds the flags."""
  parser.add_argument("files", nargs="+", help="Photos, and folders, whose photos are compressed with those of all folders in "
                      "them, linked ones, too; their tree is kept under --output_dir. - is standard input.")
  common.add_point(parser, f"{DEFAULT_OPERATING_POINT}, or the shipped one that is nearest to --max_bytes or --bits_per_pixel")
  common.add_effort(parser)
  parser.add_argument("--for", dest="readers", choices=READERS, default=READERS[0], help="Whom the search is for: people, who "
                      "look at the picture; networks, which are to answer as on the photo itself; or both. What is not for "
                      "people alone takes the package of the network that a classifier was grafted from: "
                      f"{to_install('graft')}. By default %(default)s.")
  parser.add_argument("--max_bytes", type=int, default=None, help="Files have at most so many bytes, and hardly less. Each takes "
                      f"some ten searches of --effort, by default {DEFAULT_EFFORT_TO_SIZE}.")
  parser.add_argument("--bits_per_pixel", type=float, default=None, help="The same by the pixels of each photo.")
  parser.add_argument("--max_side", type=int, default=None, help="Larger photos are made smaller before, so that "
                      "their longer side has so many pixels.")
  parser.add_argument("--shorter_side", type=int, default=None, help="The same for the shorter side.")
  parser.add_argument("--jobs", type=int, default=cores(), help="Threads that read photos, by default %(default)s. "
                      "The network takes all cores.")
  common.add_resume(parser)
  common.add_outputs_or_one(parser, container.EXTENSION)
  common.add_json(parser)


def run(args):
  """Compresses the photos. Returns the exit code."""
  sides = _check(args)
  if outputs.STANDARD in (*args.files, args.output_dir):
    return _by_standard(args, sides)
  tasks, failed, folders, others = _tasks(args)
  skipped, count = 0, len(tasks) + len(failed)
  if tasks:
    quiet.import_tensorflow()
    codec, effort = _compressor(args)
  # Of folders, too many photos to have a line each.
  with tqdm.tqdm(total=len(tasks), unit="file", disable=not folders and (len(tasks) == 1 or not sys.stderr.isatty()),
                 mininterval=0.1 if sys.stderr.isatty() else 60) as bar:
    for done in photo_files.compress(codec, tasks, args.jobs, args.resume, args.overwrite, effort, sides) if tasks else ():
      bar.update()
      skipped += done.skipped
      if done.error:
        failed.append(done)
      else:
        _say_done(done, args.json, folders)
  for done in failed:
    common.say_failed(done.task.photo, done.error, args.json)
  if others:
    common.say(f"Left out: {photo_files.describe_others(others)}", sys.stderr)
  if (folders or count > 1) and not args.json:
    common.say(common.tally(count, len(failed), skipped))
  return 1 if failed else 0


def _check(args):
  """The sides that photos may have, after all flags were looked at."""
  for flag in ("jobs", "max_side", "shorter_side"):
    if getattr(args, flag) is not None and getattr(args, flag) < 1:
      raise DeepcompError(f"--{flag} must be at least 1. Received: {getattr(args, flag)}")
  if args.max_bytes is not None or args.bits_per_pixel is not None:
    target.check(args.max_bytes, args.bits_per_pixel)
    if args.effort == 0:
      raise DeepcompError("--max_bytes and --bits_per_pixel take an --effort above 0. Received: --effort=0")
  common.check_one(args, [container.EXTENSION])
  common.check(args)
  if args.readers != READERS[0] and args.effort == 0:
    raise DeepcompError(f"--for={args.readers} takes an --effort above 0. Received: --effort=0")
  return images.Sides(args.max_side, args.shorter_side)


def _by_standard(args, sides):
  """Compresses a photo from standard input or to standard output. Returns the exit code."""
  name, = args.files
  image = sides.bring_down(images.read_image(name, common.read(name) if name == common.STANDARD else None))
  quiet.import_tensorflow()
  codec, effort = _compressor(args)
  data = codec.compress(image, effort=effort)
  outputs.write(args.output_dir, data, args.overwrite)
  height, width = image.shape[:2]
  _say_done(photo_files.Done(photo_files.Task(name, args.output_dir), height=height, width=width, size=len(data)),
            args.json, False, common.lines_of(args))
  return 0


def _say_done(done, as_json, folders, to=None):
  rate = None if done.skipped else 8 * done.size / (done.height * done.width)
  if as_json:
    common.say_json(done.task.photo, {"output": done.task.output, "before": True} if done.skipped else {
        "output": done.task.output, "width": done.width, "height": done.height, "bytes": done.size,
        "bits_per_pixel": round(rate, 4)}, to)
  elif not folders and not done.skipped:
    common.say(f"{done.task.photo} -> {done.task.output}: {done.width}x{done.height}, "
               f"{done.size} bytes, {rate:.4f} bits per pixel", to)


def _compressor(args):
  """What compresses, a `Codec` or a `target.ToSize`, and its effort."""
  from deepcomp_tf.tasks import aim

  to_size = args.max_bytes is not None or args.bits_per_pixel is not None
  effort = (DEFAULT_EFFORT_TO_SIZE if to_size else common.DEFAULT_EFFORT) if args.effort is None else args.effort
  load = lambda name: dc.Codec.load(name, aim=aim.load(args.readers, name))
  if not to_size:
    return load(args.operating_point or DEFAULT_OPERATING_POINT), effort
  names = [args.operating_point] if args.operating_point else shipped.names("operating point")
  return target.ToSize(map(load, names), args.max_bytes, args.bits_per_pixel), effort


def _tasks(args):
  """(tasks, failed, whether there are folders, files in them that are no photos) of what is to be compressed."""
  names = [name for name in args.files if not common.is_folder(name)]
  tasks, refused = ([photo_files.Task(*names, args.output_dir)], []) if args.one else (
      photo_files.tasks_of(names, output_dir=args.output_dir))
  others, taken = [], {task.output: task.photo for task in tasks}
  tasks, failed = _without_refused(tasks, args)
  for folder in (name for name in args.files if common.is_folder(name)):
    found = photo_files.find_in(folder)
    if not found.photos and not found.unreadable:
      photo_files.list_photos(folder)  # says what there is instead
    failed += [photo_files.Done(photo_files.Task(place, ""), DeepcompError(f"the folder cannot be read: {reason}"))
               for place, reason in found.unreadable.items()]
    others += found.others
    more, of_folder = photo_files.tasks_of(found.photos, folder, args.output_dir)
    failed += of_folder
    for task in more:
      if taken.setdefault(task.output, task.photo) == task.photo:
        tasks.append(task)
      else:
        refused.append(photo_files.Done(task))
  if refused:
    task = refused[0].task
    raise outputs.shared(taken[task.output], task.photo, task.output)
  return tasks, failed, len(names) < len(args.files), others


def _without_refused(tasks, args):
  """(tasks, `Done`s of those that are refused by a look at their files' beginnings, before TensorFlow is imported)."""
  left, failed = [], []
  for task in tasks:
    try:
      outputs.check_new(task.output, args.overwrite, args.resume)
      images.stored_size(task.photo)
      left.append(task)
    except DeepcompError as error:
      failed.append(photo_files.Done(task, error))
  return left, failed
