"""How often grafts answer as their backbone does on the original photos, beside the backbone itself on decoded photos.

  python -m experiments.evaluate_graft --classifiers=RUN_DIR/classifier,RUN_DIR/classifier --photos=FOLDER

Agreement: the graft's first class is the backbone's (top-1), or the backbone's is among its first five. No labels are needed.
Beside it the multiply-adds of each way from symbols to classes, and the payload of the files in bits per pixel. With --effort
symbols are searched first, seconds for each photo; of what --for=networks finds, the backbone on decoded photos is the judge
that the search did not know. With --image_size grafts see larger squares of the photos, brought down in the representation as
`Classifier.classify` does; the backbone answers on squares of its own size all the same. `--record` keeps the figures as JSON.
"""

import platform
import time

from absl import flags
import numpy as np
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data.answers import Answers
from deepcomp_tf.data.answers import Squares
from deepcomp_tf.data.answers import square
from deepcomp_tf.evaluation import agreement
from deepcomp_tf.files import write_json
from deepcomp_tf.models.pretrained import PREPROCESSINGS
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.tasks import aim
from deepcomp_tf.tasks import teachers
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_list("classifiers", None, "Grafts of one backbone, and that backbone trained on decoded pixels: shipped names, or "
                  "folders that training wrote.", required=True)
flags.DEFINE_string("operating_point", None, "Folder of their operating point, where that is not where they say.")
flags.DEFINE_list("photos", None, "As of experiments.train_graft.", required=True)
flags.DEFINE_string("backbone_weights", None, "As of experiments.train_graft.")
flags.DEFINE_enum("preprocessing", None, PREPROCESSINGS, "As of experiments.train_graft.")
flags.DEFINE_string("backbone", None, "File of the backbone, where it came from one.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("cache_dir", None, "As of experiments.train_graft.")
flags.DEFINE_integer("image_size", 0, "Edge in pixels of the squares that grafts see, a multiple of 8; 0: as in their training.",
                     lower_bound=0)
flags.DEFINE_integer("batch_size", 32, "Photos at a time.", lower_bound=1)
training_flags.define_search_flags()
flags.DEFINE_string("record_samples", "", "JSON file to write what the backbone says of the sample photos to; overwritten.")
flags.DEFINE_string("record", "", "JSON file to write the figures to as well; overwritten.")


def main(argv):
  del argv
  given = FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point)
  classifiers = [dc.Classifier.load(name, given) for name in FLAGS.classifiers]
  rows, done = [], set()

  def add(way, classifier, figures, count, rate):
    rows.append({"way": way, "operating_point": classifier.operating_point, "multiply_adds": count, "bits_per_pixel": rate,
                 **figures})
    print(f"{way:<66}{100 * figures['top_1']:>6.1f}%{100 * figures['top_5']:>6.1f}%{count / 1e6:>14.0f} M"
          + (f"{rate:>12.4f}" if rate else ""))

  print(f"{'':<66}{'top-1':>7}{'top-5':>7}{'multiply-adds':>16}{'bits/pixel':>12}")
  for name, classifier in zip(FLAGS.classifiers, classifiers):
    network, size = classifier.network, classifier.info.get("crop_size", 224)
    if not isinstance(network, (dc.models.Graft, dc.models.Backbone)):
      raise dc.DeepcompError(f"expected grafts, or a whole backbone. Received: --classifiers={name}, a {network.architecture}")
    teacher = teachers.load_teacher(FLAGS.backbone or network.source, FLAGS.backbone_weights, FLAGS.preprocessing,
                                    classifier.class_names)
    photos = Squares(FLAGS.photos, size, FLAGS.data_dir)
    codec = dc.Codec.load(classifier.codec.source, aim=aim.load(FLAGS["for"].value, classifier.codec.source))
    inputs = NetworkInput(classifier.inputs.kind, codec, FLAGS.effort)
    answers = Answers(photos, inputs, teacher, network.cut, FLAGS.cache_dir)
    rate = mean_rate(codec, answers) if inputs.kind == "representation" else None
    alone, decoder, whole = agreement.costs(network, classifier.codec.model, teacher.cut_network(network.cut), size)
    trained = "" if classifier.inputs.kind == "representation" else ", trained on decoded photos,"
    add(f"{network.architecture}{trained} at {classifier.operating_point}", classifier,
        agreement.measure(network, inputs, answers, FLAGS.batch_size), alone, rate)
    if FLAGS.image_size and inputs.kind == "representation":
      said = [teacher.class_names[place] for place in np.argmax(answers.logits, axis=1)]
      figures, positions, rate_of_large = on_large(
          classifier, inputs, Squares(FLAGS.photos, FLAGS.image_size, FLAGS.data_dir), said)
      add(f"the same on squares of {FLAGS.image_size} pixels", classifier, figures, alone * positions * STRIDE ** 2 / size ** 2,
          rate_of_large)
    if classifier.operating_point not in done:
      done.add(classifier.operating_point)
      picture = inputs.picture if inputs.kind == "representation" else lambda pixels: pixels
      on_decoded = lambda stored, answer=teacher.answers(network.cut), picture=picture: answer(picture(stored))[1]
      add(f"{teacher.name} on photos decoded at {classifier.operating_point}", classifier,
          agreement.of_answers(on_decoded, answers, FLAGS.batch_size), decoder + whole, rate)
  print(f"{answers.name}: {len(answers)} photos of {size}x{size} pixels")
  if FLAGS.record_samples:
    record_samples(teacher, network.cut, size)
  if FLAGS.record:
    write_json(FLAGS.record, {
        "photos": answers.name, "date": time.strftime("%Y-%m-%d"), "rows": rows, "effort": FLAGS.effort,
        "for": FLAGS["for"].value, "machine": f"{platform.machine()}, TensorFlow {tf.__version__}"}, sort_keys=True)


def on_large(classifier, inputs, squares, said):
  """Agreement of a classifier on `Squares` of another size with the classes that its teacher said, the positions of the
  representation that it saw of each, and bits per pixel of their payloads."""
  alike, rates = [], []
  for photo, expected in zip(squares, said, strict=True):
    stored = np.asarray(inputs.encode(photo[np.newaxis]))
    classes, = classifier.run(stored, squares.size, squares.size)
    alike.append([name == expected for name, _ in classes[:5]])
    rates.append(8 * len(inputs.codec.encode_symbols(stored[0])) / squares.size ** 2)
  positions = sum(x.shape[1] * x.shape[2] for x in classifier.seen(stored, squares.size, squares.size))
  return ({"top_1": float(np.mean([first for first, *_ in alike])), "top_5": float(np.mean(list(map(any, alike))))}, positions,
          float(np.mean(rates)))


def mean_rate(codec, answers):
  """Bits per pixel of the payloads of all photos."""
  return 8 * sum(len(codec.encode_symbols(symbols)) for symbols in answers.stored) / (len(answers) * answers.size ** 2)


def record_samples(teacher, cut, size):
  """Writes the backbone's first three classes of the sample photos' squares in the middle."""
  answers, answer = {}, teacher.answers(cut)
  for name, photo in samples.photos().items():
    shares = tf.nn.softmax(answer(square(photo, size)[np.newaxis])[1])[0].numpy()
    answers[name] = [(teacher.class_names[place], round(float(shares[place]), 4)) for place in np.argsort(-shares)[:3]]
  write_json(FLAGS.record_samples, {"backbone": teacher.name, "answers": answers}, indent=1)


if __name__ == "__main__":
  training_flags.main(main)
