"""Compresses the shipped sample photos at every operating point, classifies and segments the files, and shows what came out.

  python -m experiments.quickstart

Writes real files, decodes them, classifies and segments them straight from their bytes, prints the table against JPEG and
JPEG 2000 at no more bytes and writes three pictures, all into the folder `quickstart_output`.
"""

import os
import time

from absl import flags
import tqdm

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.container import EXTENSION
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.data.answers import square
from deepcomp_tf.files import makedirs
from deepcomp_tf.files import read
from deepcomp_tf.files import write_file
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "quickstart_output", "Folder for the files; made where it is missing, its files "
                    "are overwritten.")

# Edge of the squares in the photos' middles that are classified, in pixels.
SQUARE = 224


def main(argv):
  del argv
  begin = time.time()
  makedirs(FLAGS.output_dir)
  codecs = [dc.Codec.load(name) for name in dc.operating_points.names()]
  photos = samples.photos()

  for name, image in photos.items():
    for codec in codecs:
      stem = os.path.join(FLAGS.output_dir, f"{name}_{codec.operating_point}")
      write_file(stem + EXTENSION, codec.compress(image), overwrite=True)
      write_file(stem + ".png", encode_png(codec.decompress(read_compressed(name, codec.operating_point))), overwrite=True)
  print(f"{len(photos)} photos at {len(codecs)} operating points are in {FLAGS.output_dir} as *{EXTENSION} and *.png")

  # Classifiers see photos as they were trained on them: squares of the same size.
  first = next(iter(photos))
  classifiers = [dc.Classifier.load_for(read_compressed(first, codec.operating_point)) for codec in codecs]
  for classifier in classifiers:
    print(classifier.describe())
  backbone, on_originals = samples.backbone_answers()
  answers = []
  for name, image in photos.items():
    small = square(image, SQUARE)
    print(f"  {name}, {SQUARE}x{SQUARE} pixels, the original, by the whole {backbone}: {say(on_originals[name])}")
    answers.append([(f"{name}, {backbone}", small, on_originals[name])])
    for classifier in classifiers:
      data = classifier.codec.compress(small)
      found = classifier.classify(data)[:3]
      print(f"  {name}, {len(data)} bytes at {classifier.operating_point}: {say(found)}")
      answers[-1].append((f"{classifier.operating_point}, {len(data)} bytes", classifier.codec.decompress(data), found))
  classification = os.path.join(FLAGS.output_dir, "classification.png")
  write_file(classification, figures.answers_figure(answers), overwrite=True)

  segmenters = [dc.Segmenter.load(name) for name in dc.Segmenter.names()]
  print(segmenters[0].describe())
  masks = []
  for name in ("astronaut", "chelsea"):  # a person and a cat
    columns = [[(name, photos[name])]]
    for segmenter in segmenters:
      data = read_compressed(name, segmenter.operating_point)
      columns.append([(f"{segmenter.operating_point}, {len(data)} bytes", segmenter.segment(data))])
    masks.append(columns)
  segmentation = os.path.join(FLAGS.output_dir, "segmentation.png")
  write_file(segmentation, figures.segmentation_figure(masks, segmenters[0].classes), overwrite=True)

  rows = []
  for group in tqdm.tqdm(rate_distortion.measure(codecs, photos.items(), peers=("jpeg", "jpeg2000")),
                         total=len(photos), unit="photo", desc="comparing"):
    rows.extend(group)
  print(rate_distortion.table(rate_distortion.means(rows)))
  picture = os.path.join(FLAGS.output_dir, "quickstart.png")
  write_file(picture, figures.comparison_figure(codecs, photos), overwrite=True)
  print(f"Look at {picture}, {classification} and {segmentation} ({time.time() - begin:.0f} s in all)")


def say(classes):
  return ", ".join(f"{label} {100 * share:.0f} %" for label, share in classes)


def read_compressed(name, point):
  return read(os.path.join(FLAGS.output_dir, f"{name}_{point}{EXTENSION}"))


if __name__ == "__main__":
  training_flags.main(main)
