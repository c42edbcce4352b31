"""Mean intersection over union of trained segmenters on whole images of any size, and a contact sheet.

  python -m experiments.evaluate_segmentation --segmenters=RUN_DIR/segmenter,OTHER/segmenter --dataset=SET \
      --split=validation --contact_sheet=masks.png

SET is a TFDS set with image and mask, or a folder with images/SPLIT/*.jpg and masks/SPLIT/*.png. Each photo is given to
each network as its operating point would store it: original pixels, decoded pixels or the representation.
"""

from absl import flags
import numpy as np
import tqdm

import deepcomp_tf as dc
from deepcomp_tf.codec.images import write_file
from deepcomp_tf.data import segmentation
from deepcomp_tf.data import voc
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import segmentation as measures
from deepcomp_tf.inference.inputs import NetworkInput
from deepcomp_tf.training import loop

FLAGS = flags.FLAGS
flags.DEFINE_list("segmenters", None, f"Of {', '.join(dc.Segmenter.names()) or '(none shipped)'}, or folders that "
                  "training wrote.", required=True)
flags.DEFINE_string("operating_point", None, "Folder of their operating point, where that is not the one they name.")
flags.DEFINE_string("dataset", "voc_segmentation", "TFDS set with image and mask, or folder with images/ and masks/.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its sets.")
flags.DEFINE_string("split", "validation", "Split of --dataset.")
flags.DEFINE_list("well_covered_ids", [], "Mask ids whose mean IoU is reported besides, for a set where others are rare.")
flags.DEFINE_string("contact_sheet", "", "PNG file for a picture of --examples photos and their masks; overwritten.")
flags.DEFINE_integer("examples", 4, "Photos in the contact sheet, spread over the split.", lower_bound=1)


def main(argv):
  del argv
  well_covered = loop.ids("well_covered_ids", len(voc.CLASS_NAMES))
  codec = FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point)
  segmenters = [dc.Segmenter.load(name, codec) for name in FLAGS.segmenters]
  builder = segmentation.open_builder(FLAGS.dataset, FLAGS.data_dir)
  results, sheet = [], []
  for segmenter in segmenters:
    ids = segmenter.voc_ids[:len(segmenter.class_names)]
    examples = segmentation.SegmentationExamples(builder, FLAGS.split, segmenter.inputs, ids, cache="none")
    results.append(measures.evaluate(
        segmenter.predict, examples, len(segmenter.class_names), segmenter.classes_of(well_covered),
        lambda whole, count=len(examples): tqdm.tqdm(whole, total=count, unit="image", mininterval=5)))
    if FLAGS.contact_sheet:
      sheet.append(list(pictures(segmenter, examples)))
  for name, segmenter in zip(FLAGS.segmenters, segmenters):
    print(f"{name}: {segmenter.knows}")
  print_table(segmenters, results)
  if FLAGS.contact_sheet:
    plain = segmentation.SegmentationExamples(
        builder, FLAGS.split, NetworkInput("original"), range(len(voc.CLASS_NAMES)), cache="none")
    truth = [[("photo", photo), ("labels", label)] for photo, label in some(plain)]
    write_file(FLAGS.contact_sheet, figures.segmentation_figure(list(zip(truth, *sheet))), overwrite=True)
    print(f"Look at {FLAGS.contact_sheet}")


def some(examples):
  """--examples of the whole images, spread evenly."""
  chosen = set(np.linspace(0, len(examples) - 1, FLAGS.examples).round().astype(int).tolist())
  return (example for number, example in enumerate(examples.whole()) if number in chosen)


def pictures(segmenter, examples):
  """What the network saw and its mask, with titles, for the contact sheet."""
  title = f"{segmenter.network.backbone.architecture}-d, {segmenter.inputs.kind}"
  for stored, label in some(examples):
    mask = segmenter.predict(stored, *label.shape)
    yield [(title + (f", {segmenter.operating_point}" if segmenter.operating_point else ""),
            segmenter.seen(stored, *label.shape)), ("its mask", segmenter.voc_ids[mask])]


def print_table(segmenters, results):
  """A line per class, a column per segmenter."""
  print(f"{'IoU [%]':<24}" + "".join(f"{f'({i + 1})':>9}" for i in range(len(segmenters))))
  for name in voc.CLASS_NAMES:
    cells = [result["iou"][segmenter.class_names.index(name)] if name in segmenter.class_names else None
             for segmenter, result in zip(segmenters, results)]
    if any(cell is not None for cell in cells):
      print(f"{name:<24}" + "".join(f"{'-' if cell is None else f'{100 * cell:.1f}':>9}" for cell in cells))
  for key, name in (("mean_iou", "mIoU"), ("well_covered_mean_iou", "mIoU, well covered"),
                    ("pixel_accuracy", "pixel accuracy")):
    if key in results[0]:
      print(f"{name:<24}" + "".join(f"{100 * result[key]:>9.2f}" for result in results))


if __name__ == "__main__":
  loop.main(main)
