"""Compresses the shipped sample photos at every operating point, classifies and segments the files, and shows what came out.

  python -m experiments.quickstart

Writes real files, decodes them, classifies and segments them straight from their bytes, prints the table against JPEG and
JPEG 2000 at no more bytes and writes three pictures, all into the folder `quickstart_output`.
"""

import itertools
import os
import time

from absl import flags
import tqdm

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import samples
from deepcomp_tf.codec.container import EXTENSION
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.data.answers import square
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
  files.makedirs(FLAGS.output_dir)
  codecs = [dc.Codec.load(name) for name in dc.operating_points.names()]
  photos = samples.photos()

  for name, image in photos.items():
    for codec in codecs:
      write(f"{name}_{codec.operating_point}{EXTENSION}", codec.compress(image))
      write(f"{name}_{codec.operating_point}.png", encode_png(codec.decompress(read_compressed(name, codec.operating_point))))
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
  classification = write("classification.png", figures.answers_figure(answers))

  segmenters = [dc.Segmenter.load(name) for name in dc.Segmenter.names()]
  print(segmenters[0].describe())
  masks = []
  for name in ("astronaut", "chelsea"):  # a person and a cat
    masks.append([[(name, photos[name])]])
    for segmenter in segmenters:
      data = read_compressed(name, segmenter.operating_point)
      masks[-1].append([(f"{segmenter.operating_point}, {len(data)} bytes", segmenter.segment(data))])
  segmentation = write("segmentation.png", figures.segmentation_figure(masks, segmenters[0].classes))

  groups = tqdm.tqdm(rate_distortion.measure(codecs, photos.items(), peers=("jpeg", "jpeg2000")),
                     total=len(photos), unit="photo", desc="comparing")
  print(rate_distortion.table(rate_distortion.means(list(itertools.chain.from_iterable(groups)))))
  picture = write("quickstart.png", figures.comparison_figure(codecs, photos))
  print(f"Look at {picture}, {classification} and {segmentation} ({time.time() - begin:.0f} s in all)")


def say(classes):
  return ", ".join(f"{label} {100 * share:.0f} %" for label, share in classes)


def write(name, data):
  """Writes a file of --output_dir and returns its path."""
  path = os.path.join(FLAGS.output_dir, name)
  files.write_file(path, data, overwrite=True)
  return path


def read_compressed(name, point):
  return files.read(os.path.join(FLAGS.output_dir, f"{name}_{point}{EXTENSION}"))


if __name__ == "__main__":
  training_flags.main(main)
