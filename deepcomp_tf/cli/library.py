"""A library of photos: compressed, labelled, and searched without decoding; needs the extra 'library'."""

import contextlib
import functools
import json
import os
import sys

import tqdm

import deepcomp_tf as dc
from deepcomp_tf import outputs
from deepcomp_tf import quiet
from deepcomp_tf import shipped
from deepcomp_tf.cli import common
from deepcomp_tf.codec import container
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.codec.images import encode_picture
from deepcomp_tf.codec.images import PICTURE_KINDS
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line


def add_arguments(parser):
  """Adds the verbs and their flags."""
  verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)

  def verb(work, text):
    sub = verbs.add_parser(work.__name__.strip("_"), help=text, description=text)
    sub.set_defaults(work=work, parser=sub)
    sub.add_argument("library", help="Folder of the library, on this machine or at gs:// or s3://.")
    sub.add_argument("--json", action="store_true", help="Print lines of JSON.")
    return sub.add_argument

  def network(flag):
    flag("--network", default="", help="Names or folders of classifiers, with commas between them; by default the shipped one of "
         "each operating point.")

  flag = verb(_add, "Photos and .deepcomp files into the library, which is made where there is none. What it has already, by "
              "content, is left alone.")
  flag("paths", nargs="+", help="Photos, .deepcomp files, and folders of these.")
  flag("--operating_point", default="bpp0.330", help=f"For photos. {common.POINT_HELP}; by default %(default)s.")
  flag("--effort", type=int, default=0, help="For photos; by default %(default)s, the symbols that the encoder chooses at a "
       f"look. 1 to {MAX_EFFORT} search for better ones, the longer the higher.")
  flag("--keep_location", action="store_true", help="Keep where photos were taken (GPS).")
  flag("--overwrite", action="store_true", help="A photo replaces another one of its name.")
  network(flag)
  flag = verb(_search, "Photos by their classes, or like a photo.")
  flag("text", nargs="?", help="A class of ImageNet or VOC, or a word for several, such as dog.")
  flag("--like", help="Name of a photo in the library, or path of a photo or a .deepcomp file.")
  flag("--label", help="Only photos with this among their first five classes.")
  flag("--class_share", help="Only photos of which a class of VOC takes a share, such as 'person>0.2'.")
  flag("--before", help="Only photos taken before a day or time, such as 2024-12-31.")
  flag("--after", help="Only photos taken then or later.")
  flag("--top", type=int, default=20, help="As many at most; by default %(default)s.")
  flag("--at_least", type=float, help="The least score; of a text 0.1 if it is not given.")
  flag("--sheet", default="", help="PNG file for small pictures of what is found, with scores.")
  flag("--overwrite", action="store_true", help="Replace a --sheet that exists.")
  flag = verb(_duplicates, "Groups of photos that are nearly the same.")
  flag("--cutoff", type=float, help="The least cosine of two photos' vectors.")
  verb(_remove, "Removes photos from the library.")("names", nargs="+", help="Names of photos in the library.")
  flag = verb(_export, "Files or decoded photos out of the library, below a folder, by their names.")
  flag("names", nargs="*", help="Names of photos in the library; by default all.")
  flag("-o", "--output_dir", required=True, help="The folder, made if it is missing.")
  flag("--format", choices=("deepcomp", *PICTURE_KINDS), default="deepcomp", help="By default the files as they are.")
  flag("--overwrite", action="store_true", help="Replace outputs that exist.")
  verb(_info, "What there is in the library.")
  verb(_verify, "Checks every file's checksum and every vector.")
  network(verb(_reindex, "Labels, shares and vectors anew, from the stored bytes; searches find by the old ones until all are "
               "there."))


def run(args):
  """Does what the verb says. Returns the exit code."""
  args.networks = [name for name in getattr(args, "network", "").split(",") if name]
  for name in args.networks:
    shipped.find("classifier", name)
  try:
    return args.work(args, dc.Library(args.library))
  except RuntimeError as error:
    if not str(error).startswith("lance error"):
      raise
    raise DeepcompError("expected a library that can be read and written. "
                        f"Received: {args.library} ({one_line(error)})") from None


def _add(args, library):
  common.check(args)
  quiet.import_tensorflow()
  from deepcomp_tf.data import photo_files

  with _progress() as progress:
    def step(done, count):
      progress(count)
      if done.error:
        common.say_failed(done.path, done.error, args.json)
      elif args.json:
        common.say_json(done.path, {"known": True} if done.known else {
            "name": done.name, **{column: done.row[column] for column in ("id", "bytes")}})
    report = library.add(args.paths, args.operating_point, args.effort, args.keep_location, args.overwrite, args.networks, step)
  if report.others:
    common.say(f"Left out: {photo_files.describe_others(report.others)}", sys.stderr)
  common.say(f"{report.added} photos added" + (f", {report.known} there before" if report.known else "")
             + (f", {len(report.failed)} failed" if report.failed else ""), sys.stderr if args.json else None)
  return 1 if report.failed else 0


def _search(args, library):
  if args.sheet:
    outputs.check([args.sheet], args.overwrite)
    quiet.import_tensorflow()
  hits = library.search(args.text, args.like, args.label, args.class_share, args.before, args.after, args.top, args.at_least)
  for hit in hits:
    common.say(json.dumps(_record(hit)) if args.json else _line(hit))
  if args.sheet and hits:
    from deepcomp_tf.library import sheet

    outputs.write(args.sheet, sheet.contact_sheet(library, hits), args.overwrite)
  code = _say_if_none(args, hits, _less_sure(args))
  library.quicken()
  return code


def _duplicates(args, library):
  groups = library.duplicates() if args.cutoff is None else library.duplicates(args.cutoff)
  for group in groups:
    for line in [json.dumps(list(map(_record, group)))] if args.json else [f"{len(group)} photos:", *map(_line, group)]:
      common.say(line)
  return _say_if_none(args, groups)


def _line(hit):
  return hit.name + ": " + ("" if hit.score is None else f"{hit.score:.3f}; ") + ", ".join(
      f"{name} {100 * probability:.0f} %" for name, probability in hit.labels[:3])


def _record(hit):
  return {"name": hit.name, "score": None if hit.score is None else round(hit.score, 6),
          "labels": [{"name": name, "probability": round(probability, 6)} for name, probability in hit.labels]}


def _less_sure(args):
  """How to find what a search by words left out for its score, if it can have."""
  from deepcomp_tf.library.labels import LEAST_SCORE

  least = LEAST_SCORE if args.at_least is None else args.at_least
  return f" The least score is {least:g}; a lower --at_least finds what is less sure." if args.text and least > 0 else ""


def _say_if_none(args, found, hint=""):
  if not found and not args.json:
    common.say("Nothing was found." + hint)
  return 0


def _remove(args, library):
  library.remove(args.names)
  for name in args.names if args.json else ():
    common.say(json.dumps({"name": name}))
  common.say(f"{len(args.names)} photos removed", sys.stderr if args.json else None)
  return 0


def _export(args, library):
  outputs.check_folder(args.output_dir)
  picture = args.format != container.EXTENSION[1:]
  if picture:
    quiet.import_tensorflow()
  codec = functools.lru_cache(maxsize=None)(dc.Codec.load)
  photos = {photo.name: photo for photo in library.photos(args.names or None)}

  def export(name):
    place = os.path.normpath(f"{os.path.splitext(name)[0]}.{args.format}")
    if os.path.isabs(place) or place.startswith(os.pardir):
      raise DeepcompError("expected a name that stays below --output_dir")
    path, data = os.path.join(args.output_dir, place), photos[name].data
    outputs.check_new(path, args.overwrite)
    if picture:
      data = encode_picture(codec(photos[name].operating_point).decompress(data), args.format)
    outputs.write(path, data, args.overwrite)
    return f"{name} -> {path}: {len(data)} bytes", {"output": path, "bytes": len(data)}

  args.files = list(photos)
  return common.each(args, export)


def _info(args, library):
  info = library.info()
  if args.json:
    common.say(json.dumps(info, default=str))
    return 0
  count = lambda numbers: ", ".join(f"{name} {number}" for name, number in numbers.items())
  common.say(f"{args.library}: {info['photos']} photos, {info['bytes']} bytes; operating points: "
             f"{count(info['operating_points'])}; labels and vectors by {count(info['networks'])}"
             + (f"; taken from {info['first']} to {info['last']}" if info["first"] else ""))
  return 0


def _verify(args, library):
  wrong = 0
  for name, reason in library.verify():
    wrong += 1
    if args.json:
      common.say(json.dumps({"name": name, "error": reason}))
    else:
      common.say(f"{name}: {reason}", sys.stderr)
  common.say(f"{args.library}: {len(library)} photos, " + (f"{wrong} problems" if wrong else "all whole"),
             sys.stderr if args.json else None)
  return 1 if wrong else 0


def _reindex(args, library):
  quiet.import_tensorflow()
  with _progress() as progress:
    def step(name, count):
      progress(count)
      if args.json:
        common.say(json.dumps({"name": name}))
    library.reindex(args.networks, step)
  common.say(f"{len(library)} photos indexed", sys.stderr if args.json else None)
  return 0


@contextlib.contextmanager
def _progress():
  """Context that gives a function to be called with the number of all when one is done."""
  with tqdm.tqdm(unit="photo", mininterval=0.1 if sys.stderr.isatty() else 60) as bar:
    def step(count):
      bar.total = count
      bar.update()
    yield step
