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
# Photos that are segmented and shown beside JPEG, a person and a cat: upper left pixels of a face and of an eye.
DETAILS = {"astronaut": (70, 160), "chelsea": (80, 90)}


def main(argv):
  del argv
  begin = time.time()
  files.makedirs(FLAGS.output_dir)
  codecs = [dc.Codec.load(name) for name in dc.operating_points.names()]
  photos = samples.photos()

  decoded = {}
  for name, image in photos.items():
    for codec in codecs:
      point = codec.operating_point
      write(f"{name}_{point}{EXTENSION}", codec.compress(image))
      data = read_compressed(name, point)
      decoded.setdefault(name, []).append((point, len(data), codec.decompress(data)))
      write(f"{name}_{point}.png", encode_png(decoded[name][-1][-1]))
  print(f"{len(photos)} photos at {len(codecs)} operating points are in {FLAGS.output_dir} as *{EXTENSION} and *.png")

  # Classifiers see photos as they were trained on them: squares of the same size.
  first = next(iter(photos))
  classifiers = [dc.Classifier.load_for(read_compressed(first, codec.operating_point)) for codec in codecs]
  print(classifiers[0].describe())
  backbone, on_originals = samples.backbone_answers()
  answers = []
  for name, image in photos.items():
    small = square(image, SQUARE)
    known = answered(on_originals[name])
    print(f"  {name}, {SQUARE}x{SQUARE} pixels, the original, by the whole {backbone}: {say(known)}")
    answers.append([(f"{name}, {backbone}", small, known)])
    for classifier in classifiers:
      data = classifier.codec.compress(small)
      found = answered(classifier.classify(data))
      print(f"  {name}, {len(data)} bytes at {classifier.operating_point}: {say(found)}")
      answers[-1].append((f"{classifier.operating_point}, {len(data)} bytes", classifier.codec.decompress(data), found))
  classification = write("classification.png", figures.answers_figure(answers))

  segmenters = [dc.Segmenter.load(name) for name in dc.Segmenter.names()]
  print(segmenters[0].describe())
  masks = []
  for name in DETAILS:
    masks.append([[(name, photos[name])]])
    for segmenter in segmenters:
      data = read_compressed(name, segmenter.operating_point)
      masks[-1].append([(f"{segmenter.operating_point}, {len(data)} bytes", segmenter.segment(data))])
  segmentation = write("segmentation.png", figures.segmentation_figure(masks, segmenters[0].classes))

  groups = tqdm.tqdm(rate_distortion.measure(codecs, photos.items(), peers=("jpeg", "jpeg2000")),
                     total=len(photos), unit="photo", desc="comparing")
  print(rate_distortion.table(rate_distortion.means(list(itertools.chain.from_iterable(groups)))))
  details = [(name, photos[name], place, decoded[name]) for name, place in DETAILS.items()]
  picture = write("quickstart.png", figures.detail_figure(details))
  print(f"Look at {picture}, {classification} and {segmentation} ({time.time() - begin:.0f} s in all)")


def answered(classes):
  """The three most probable classes, without those of 0 %."""
  return [(label, share) for label, share in classes[:3] if share >= 0.005]


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
