"""Mean intersection over union of trained segmenters on whole images of any size, and a contact sheet.

  python -m experiments.evaluate_segmentation --segmenters=RUN_DIR/segmenter,OTHER/segmenter --dataset=SET \
      --split=validation --contact_sheet=masks.png

SET is a TFDS set with images and masks, or a folder with images/SPLIT/*.jpg, masks/SPLIT/*.png and, for other classes than
VOC's, classes.json; classes are those of the networks by name. Each photo is given to each network as its operating point
would store it: original pixels, decoded pixels or the representation. With --backbone, a network for pixels that segments stands
beside them, on original photos and on those decoded at each operating point: what grafts of it are to be compared with.
"""

from absl import flags
import numpy as np
import tqdm

import deepcomp_tf as dc
from deepcomp_tf.files import write_file
from deepcomp_tf.data import segmentation
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import segmentation as measures
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.mask_classes import VOID
from deepcomp_tf.models import surgery
from deepcomp_tf.models.pretrained import PREPROCESSINGS
from deepcomp_tf.tasks import teachers
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_list("segmenters", None, f"Of {', '.join(dc.Segmenter.names()) or '(none shipped)'}, or folders that "
                  "training wrote.", required=True)
flags.DEFINE_string("backbone", None, "TensorFlow Lite file, or file that Keras saved, of a network that segments, "
                    "to be measured, too.")
flags.DEFINE_enum("preprocessing", None, PREPROCESSINGS, "As of experiments.train_graft.")
flags.DEFINE_string("operating_point", None, "Folder of their operating point, where that is not where they say.")
flags.DEFINE_string("dataset", "voc_segmentation", "TFDS set with images and masks, or folder with images/ and masks/.")
flags.DEFINE_string("classes", None, "JSON file of the classes of the masks, where --dataset does not name them.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("split", "validation", "Split of --dataset.")
flags.DEFINE_list("well_covered_ids", [], "Mask ids whose mean IoU is reported, too, for a set where others are rare.")
flags.DEFINE_string("contact_sheet", "", "PNG file for a picture of --examples photos and their masks; overwritten.")
flags.DEFINE_integer("examples", 4, "Photos in the contact sheet, spread over the split.", lower_bound=1)


def main(argv):
  del argv
  codec = FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point)
  named = {name: dc.Segmenter.load(name, codec) for name in FLAGS.segmenters}
  if FLAGS.backbone:
    named.update(of_backbone(FLAGS.backbone, list(named.values())))
  segmenters = list(named.values())
  builder = segmentation.open_builder(FLAGS.dataset, FLAGS.data_dir)
  classes = segmentation.classes_of(builder, FLAGS.classes)
  ids = {mask_class.name: mask_class.id for mask_class in classes}
  well_covered = [mask_class.name for mask_class in training_flags.chosen_classes("well_covered_ids", classes)]
  counts, sheet = [], []
  for name, segmenter in named.items():
    if not ids.keys() & set(segmenter.names_in_order):
      raise dc.DeepcompError(f"expected a set with classes of {name} ({', '.join(segmenter.names_in_order)}). Received: "
                             f"{FLAGS.dataset} with {', '.join(ids)}")
    examples = segmentation.SegmentationExamples(
        builder, FLAGS.split, segmenter.inputs, [ids.get(name) for name in segmenter.names_in_order], cache="none")
    counts.append(np.array(list(measures.confusions(
        segmenter.predict, examples, len(segmenter.names_in_order),
        lambda whole, count=len(examples): tqdm.tqdm(whole, total=count, unit="image", mininterval=5)))))
    if FLAGS.contact_sheet:
      sheet.append(list(pictures(segmenter, examples, ids)))
  for name, segmenter in named.items():
    print(f"{name}: {segmenter.describe()}")
  print_table(segmenters, list(ids), counts, [segmenter.places_of(well_covered) for segmenter in segmenters])
  if FLAGS.contact_sheet:
    plain = segmentation.SegmentationExamples(builder, FLAGS.split, NetworkInput("original"), range(VOID), cache="none")
    truth = [[("photo", photo), ("labels", label)] for photo, label in pictured(plain)]
    write_file(FLAGS.contact_sheet, figures.segmentation_figure(list(zip(truth, *sheet)), classes), overwrite=True)
    print(f"Look at {FLAGS.contact_sheet}")


def of_backbone(path, segmenters):
  """Segmenters by names: a network for pixels, on original photos and on what is decoded at each operating point of others."""
  teacher = teachers.load_teacher(path, preprocessing=FLAGS.preprocessing)
  if not teacher.segments:
    raise dc.DeepcompError(f"expected a network that segments. Received: --backbone={path}, which classifies")
  network, codecs = teacher.cut_network(surgery.find_cut(teacher.network)), {}
  for segmenter in segmenters:
    if segmenter.codec:
      codecs.setdefault(segmenter.operating_point, segmenter.codec)
  return {f"{teacher.name} on original photos": dc.Segmenter(network, NetworkInput("original"), teacher.mask_classes),
          **{f"{teacher.name} on photos decoded at {point}": dc.Segmenter(network, NetworkInput("decoded", codec),
                                                                          teacher.mask_classes)
             for point, codec in codecs.items()}}


def pictured(examples):
  """--examples of the whole images, spread evenly."""
  chosen = set(np.linspace(0, len(examples) - 1, FLAGS.examples).round().astype(int).tolist())
  return (example for number, example in enumerate(examples.whole()) if number in chosen)


def pictures(segmenter, examples, ids):
  """What the network was given and its mask, with titles, for the contact sheet.

  Args:
    segmenter, examples: the network, and the set as it takes it.
    ids: dict of the set's mask ids by class name.
  """
  to_set = np.full(256, VOID, np.uint8)
  to_set[:len(segmenter.names_in_order)] = [ids.get(name, VOID) for name in segmenter.names_in_order]
  network = segmenter.network
  architecture = f"{network.backbone.architecture}-d" if isinstance(network, dc.models.DeepLab) else network.architecture
  title = f"{architecture}\n{segmenter.inputs.kind}"
  for stored, label in pictured(examples):
    mask = segmenter.predict(stored, *label.shape)
    yield [(title + (f", {segmenter.operating_point}" if segmenter.operating_point else ""),
            segmenter.picture(stored, *label.shape)), ("its mask", to_set[mask])]


def print_table(segmenters, class_names, counts, well_covered):
  """A line per class, a column per segmenter; the standard errors are those that the images make."""
  results = [measures.summary(of, classes) for of, classes in zip(counts, well_covered)]
  print(f"{'IoU [%]':<24}" + "".join(f"{f'({i + 1})':>9}" for i in range(len(segmenters))))
  for name in class_names:
    cells = [result["iou"][segmenter.names_in_order.index(name)] if name in segmenter.names_in_order else None
             for segmenter, result in zip(segmenters, results)]
    if any(cell is not None for cell in cells):
      print(f"{name:<24}" + "".join(f"{'-' if cell is None else f'{100 * cell:.1f}':>9}" for cell in cells))
  print(f"{'pixel accuracy':<24}" + "".join(f"{100 * result['pixel_accuracy']:>9.2f}" for result in results))
  for key, name, classes in (("mean_iou", "mIoU", [()] * len(counts)),
                             ("well_covered_mean_iou", "mIoU, well covered", well_covered)):
    if all(key in result for result in results):
      drawn = [measures.draws(*of) for of in zip(counts, classes)]
      for label, values in ((name, [result[key] for result in results]),
                            ("  standard error", [result[f"{key}_error"] for result in results]),
                            ("  above (1)", [result[key] - results[0][key] for result in results]),
                            ("  error of that", [np.std(values - drawn[0]) for values in drawn])):
        if len(results) > 1 or label in (name, "  standard error"):
          print(f"{label:<24}" + "".join(f"{100 * value:>9.2f}" for value in values))


if __name__ == "__main__":
  training_flags.main(main)
