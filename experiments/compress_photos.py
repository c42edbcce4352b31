"""Compresses photos by the million: a list, a pattern or a folder of them, to files or to a TFDS set with their names.

  python -m experiments.compress_photos --photos=LIST.txt --operating_point=bpp0.330 --report=REPORT.json  (beside the photos)
  python -m experiments.compress_photos --photos='PHOTOS/*/*.jpg' --operating_point=bpp0.330 --output_dir=OUT
  python -m experiments.compress_photos --photos=PHOTOS --operating_point=bpp0.330 --output_dir=SETS --set_name=mine
  python -m experiments.compress_photos --photos=gs://BUCKET/list.txt ... --beam_runner=DataflowRunner --beam_options=...

Files keep the photos' tree below the deepest folder that all of them lie in, or --root. A set is opened with
`tfds.load("compressed_photos/mine", data_dir=SETS)`. The same command goes on where it was stopped. Photos that cannot be
compressed are listed in --report, and make the exit code 1. With --beam_runner the work runs on Apache Beam: workers share
the photos and the output, nothing else.
"""

import functools
import os
import sys

from absl import flags
import tensorflow_datasets as tfds
import tqdm

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.data import compressed_photos
from deepcomp_tf.data import photo_files
from deepcomp_tf.tasks import aim
from deepcomp_tf.threads import cores
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("photos", None, "Text file (.txt) of paths, pattern, or folder, whose subfolders count.", required=True)
flags.DEFINE_string("operating_point", None, "A name or a folder.", required=True)
flags.DEFINE_string("output_dir", None, "Folder for the files, or of TFDS sets; by default files lie beside the photos.")
flags.DEFINE_string("root", None, "Folder whose tree is kept; by default the deepest that all photos lie in.")
training_flags.define_search_flags()
flags.DEFINE_string("set_name", None, "Write the TFDS set compressed_photos/SET_NAME in --output_dir instead of files.")
flags.DEFINE_string("report", None, "JSON file to write; by default report.json in --output_dir.")
flags.DEFINE_bool("overwrite", False, "Replace files that are there; by default they count as done.")
training_flags.define_beam_flags()


def main(argv):
  del argv
  if FLAGS.set_name and not FLAGS.output_dir:
    raise dc.DeepcompError("expected --output_dir with --set_name. Received: none")
  if not (FLAGS.report or FLAGS.output_dir):
    raise dc.DeepcompError("expected --report or --output_dir. Received: neither")
  path = FLAGS.report or os.path.join(FLAGS.output_dir, "report.json")
  files.makedirs(os.path.dirname(path) or ".")
  load_codec = functools.partial(aim.open_codec, FLAGS.operating_point, FLAGS["for"].value)
  load_codec()  # a wrong name is a single error, whatever the photos are
  report = (write_set if FLAGS.set_name else write_files)(load_codec, path)
  files.write_json(path, report)
  print(f"{report['photos'] - len(report['failed'])} of {report['photos']} photos done, "
        f"{report.get('before', 0)} of them before, {report['bytes'] / 1e6:.2f} MB; report: {path}")
  for line in report["failed"][:5]:
    print(f"  failed: {line}", file=sys.stderr)
  if report["failed"]:
    sys.exit(1)


def find_photos():
  """The paths of the photos, and the folder whose tree is kept."""
  photos = photo_files.find_photos(FLAGS.photos)
  return photos, photo_files.common_root(photos) if FLAGS.root is None else FLAGS.root


def write_files(load_codec, report_path):
  """Compresses to files, and returns their `photo_files.report`."""
  if FLAGS.beam_runner:
    beam = tfds.core.lazy_imports.apache_beam
    with beam.Pipeline(runner=FLAGS.beam_runner, options=training_flags.beam_options()) as pipeline:
      _ = pipeline | "photos" >> photo_files.on_beam(FLAGS.photos, FLAGS.root, FLAGS.output_dir, load_codec,
                                                     FLAGS.overwrite, report_path, FLAGS.effort)
    return files.read_json(report_path)
  photos, root = find_photos()
  tasks, refused = photo_files.tasks_of(photos, root, FLAGS.output_dir)
  done = photo_files.compress(load_codec(), tasks, cores(), not FLAGS.overwrite, FLAGS.overwrite, FLAGS.effort)
  return photo_files.add_reports([photo_files.report(refused), photo_files.report(
      tqdm.tqdm(done, total=len(tasks), unit="photo", mininterval=5))])


def write_set(load_codec, _):
  """Compresses to a TFDS set, and returns a report of it."""
  photos, root = find_photos()
  config = compressed_photos.PhotosConfig(name=FLAGS.set_name, photos=photos, root=root, load_codec=load_codec,
                                          effort=FLAGS.effort)
  builder = compressed_photos.CompressedPhotos(config=config, data_dir=FLAGS.output_dir, beam=bool(FLAGS.beam_runner))
  if builder.is_prepared():
    raise dc.DeepcompError(f"{builder.data_dir} is there already; give another --set_name or --output_dir")
  options = {"beam_runner": FLAGS.beam_runner, "beam_options": training_flags.beam_options()} if FLAGS.beam_runner else {}
  totals = builder.compress(**options)
  return {"photos": len(photos), "failed": totals.pop("skipped"), **totals}


if __name__ == "__main__":
  training_flags.main(main)
