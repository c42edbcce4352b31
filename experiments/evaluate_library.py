"""How well a library finds: recall of its vectors, near-duplicates, and precision of a word, on a folder of photos.

  python -m experiments.evaluate_library --photos=photos --word=dog --named=^dogs/

Photos are brought to squares of 224 pixels (the backbone's size) and compressed at each of --operating_points.

recall@10: of the ten photos nearest to each one, by the cosine of the whole backbone's pooled features on the originals, the
share that is among the ten nearest by the library's vectors,
and beside it by the whole backbone's features of the decoded photos.

Near-duplicates: every third photo, cropped to 90 % of its sides, as JPEG of quality 50, scaled to 160 pixels, and mirrored: the
share whose cosine with the photo it was made of reaches a cutoff (`Library.duplicates`), and the pairs of different photos that
do.

--word: of the photos that `Library.search` finds with scores from some on, the share whose path below the folder matches --named
(precision), and of all that match the share that is found (recall).

The backbone's weights are those of `experiments.train_graft`.
"""

import io
import os
import re
import tempfile

from absl import flags
import numpy as np
from PIL import Image
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import photo_files
from deepcomp_tf.data.answers import square
from deepcomp_tf.files import digest_of
from deepcomp_tf.models import pretrained
from deepcomp_tf.tasks import teachers
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_string("photos", None, "Folder of photos.", required=True)
flags.DEFINE_list("operating_points", dc.operating_points.names(), "Names.")
flags.DEFINE_string("backbone", "EfficientNet-Lite0", "The network that the shipped classifiers are grafts of.")
flags.DEFINE_string("weights", None, "As of experiments.train_graft.")
flags.DEFINE_string("word", "", "A word to search for; empty: none.")
flags.DEFINE_string("named", "", "Regular expression of the paths of photos that show what the word says.")

NEAREST = 10
CUTOFFS = (0.75, 0.8, 0.85, 0.9)
LEAST_SCORES = (0.1, 0.5, 0.9)
EVERY = 3  # photos of which near-duplicates are made
BATCH = 32


def main(argv):
  del argv
  paths = photo_files.find_in(FLAGS.photos).photos
  backbone = features_of(teachers.load_teacher(FLAGS.backbone, FLAGS.weights))
  originals = [square(read_image(path), backbone.size) for path in paths]
  nearest = neighbours(backbone(originals))
  print(f"{measuring.machine()}; {len(paths)} photos of {FLAGS.photos}")
  for point in FLAGS.operating_points:
    codec = dc.Codec.load(point)
    files = list(codec.compress_many(originals))
    with tempfile.TemporaryDirectory() as folder:
      library = dc.Library(os.path.join(folder, "library"))
      vectors = vectors_of(library, folder, "photos", files)
      whole = neighbours(backbone(codec.decompress(files)))
      print(f"{point}: recall@{NEAREST} {recall(neighbours(vectors), nearest):.3f}, of the whole {FLAGS.backbone} on the decoded "
            f"photos {recall(whole, nearest):.3f}", flush=True)
      if FLAGS.word:
        find_word(library, [photo_files.below(FLAGS.photos, path) for path in paths])
      others = np.triu(vectors @ vectors.T, 1)
      print(f"{'  cutoff':<10}" + "".join(f"{name:>10}" for name in variants(originals[0])) + f"{'other pairs':>14}")
      made = [variants(photo) for photo in originals[::EVERY]]
      cosines = {name: np.sum(vectors[::EVERY] * vectors_of(library, folder, name, list(codec.compress_many(
          [of_photo[name] for of_photo in made]))), axis=1) for name in made[0]}
      for cutoff in CUTOFFS:
        print(f"  {cutoff:<8}" + "".join(f"{np.mean(values >= cutoff):>10.1%}" for values in cosines.values())
              + f"{int(np.sum(others >= cutoff)):>14}", flush=True)


def vectors_of(library, folder, name, files):
  """Adds files to a library and returns its vectors of them, float32 `[files, size]`."""
  place = os.path.join(folder, name)
  os.makedirs(place)
  for number, data in enumerate(files):
    with open(os.path.join(place, f"{number}.deepcomp"), "wb") as file:
      file.write(data)
  library.add([place])
  # Of files of the same bytes the library keeps the first.
  ids = [digest_of(data) for data in files]
  rows = {row["id"]: row["vector"] for row in library.table.search().select(["id", "vector"]).to_arrow().to_pylist()}
  return np.array([rows[number] for number in ids], np.float32)


def find_word(library, names):
  """Prints how well a word finds those of a library's photos, of these names in their order, that --named says."""
  shown = {f"photos/{number}.deepcomp" for number, name in enumerate(names) if re.search(FLAGS.named, name)}
  for least in LEAST_SCORES:
    found = {hit.name for hit in library.search(FLAGS.word, top=len(names), at_least=least)}
    print(f"  {FLAGS.word} from {least}: {len(found)} found of {len(shown)}, precision "
          f"{len(found & shown) / max(1, len(found)):.3f}, recall {len(found & shown) / max(1, len(shown)):.3f}", flush=True)


def features_of(teacher):
  """A function of photos uint8 `[size, size, 3]` that gives the teacher's pooled features, of length 1, `[photos, features]`."""
  network = teacher.network
  last = next(layer for layer in reversed(network.layers) if layer.weights)
  pooled, preprocess = tf.keras.Model(network.input, last.input), pretrained.preprocessing_of(teacher.preprocessing)
  run = tf.function(lambda pixels: pooled(preprocess(tf.cast(pixels, tf.float32)), training=False), jit_compile=False)

  def features(photos):
    found = np.concatenate([run(np.stack(photos[begin:begin + BATCH])).numpy() for begin in range(0, len(photos), BATCH)])
    return found / np.linalg.norm(found, axis=1, keepdims=True)

  features.size = network.input_shape[1]
  return features


def scaled(photo, size):
  """A square of another size."""
  return photo if photo.shape[0] == size else np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS))


def variants(photo):
  """Near-duplicates of a square photo by what was done to it."""
  size = len(photo)
  edge, buffer = round(0.9 * size), io.BytesIO()
  begin = (size - edge) // 2
  Image.fromarray(photo).save(buffer, "JPEG", quality=50)
  return {"cropped": photo[begin:begin + edge, begin:begin + edge], "JPEG": read_image("", buffer.getvalue()),
          "scaled": scaled(photo, round(size * 160 / 224)), "mirrored": photo[:, ::-1]}


def neighbours(vectors):
  """The NEAREST rows of each, itself left out: `[photos, NEAREST]`."""
  cosines = vectors @ vectors.T
  np.fill_diagonal(cosines, -np.inf)
  return np.argsort(-cosines, axis=1)[:, :NEAREST]


def recall(found, expected):
  """The share of the neighbours that were expected that were found."""
  return np.mean([len(set(one) & set(other)) / NEAREST for one, other in zip(found, expected)])


if __name__ == "__main__":
  training_flags.main(main)
