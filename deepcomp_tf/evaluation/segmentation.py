"""Mean intersection over union, and pictures of segmentations (section 5, Figures 5 and 10)."""

import io

import numpy as np
from PIL import Image
import tensorflow as tf

from deepcomp_tf.data.voc import CLASS_NAMES
from deepcomp_tf.data.voc import VOID


def evaluate(predict, examples, num_classes, well_covered=(), progress=lambda iterable: iterable):
  """IoU of whole images.

  Args:
    predict: function of (stored uint8 `[h', w', c]`, height, width) that returns uint8 `[height, width]`, as
      `inference.Segmenter.predict`.
    examples: `data.segmentation.SegmentationExamples`.
    num_classes: of the labels; 255 is left out.
    well_covered: classes whose mean IoU is reported besides, over the pixels that are labelled as one of them.
    progress: wraps the iteration over the examples.

  Returns:
    dict of mean_iou, over the classes that occur, pixel_accuracy, and iou, a list with None for classes that do not;
    and well_covered_mean_iou.
  """
  metric = tf.keras.metrics.MeanIoU(num_classes, ignore_class=VOID)
  for stored, label in progress(examples.whole()):
    metric.update_state(label.astype(np.int32), predict(stored, *label.shape))
  confusion = metric.total_cm.numpy()
  inside, union = _inside_and_union(confusion)
  figures = {"mean_iou": float(metric.result()), "pixel_accuracy": float(inside.sum() / max(1.0, confusion.sum())),
             "iou": [float(i / u) if u else None for i, u in zip(inside, union)]}
  if len(well_covered):
    labelled = np.zeros_like(confusion)
    labelled[list(well_covered)] = confusion[list(well_covered)]
    inside, union = (values[list(well_covered)] for values in _inside_and_union(labelled))
    figures["well_covered_mean_iou"] = float(np.mean(inside[union > 0] / union[union > 0]))
  return figures


def _inside_and_union(confusion):
  """Pixels that a class's labels and predictions share, and those that either has, from counts [label, prediction]."""
  inside = np.diag(confusion)
  return inside, confusion.sum(axis=0) + confusion.sum(axis=1) - inside


def palette():
  """VOC's colours of the ids 0..255: uint8 `[256, 3]`. The bits of an id are dealt out to the channels, highest first."""
  ids = np.arange(256)
  colours = np.zeros([256, 3], np.uint8)
  for bit in range(8):
    for channel in range(3):
      colours[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
  return colours


def named_regions(mask, share=0.01):
  """(name, row, column) of VOC's classes but background that fill a share of a mask: a place inside each to write at."""
  for label in np.unique(mask):
    rows, columns = np.nonzero(mask == label)
    if 0 < label < len(CLASS_NAMES) and len(rows) >= share * mask.size:
      nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
      yield CLASS_NAMES[label], rows[nearest], columns[nearest]


def encode_mask(mask):
  """uint8 `[h, w]` ids -> the bytes of a palette PNG in VOC's colours."""
  image = Image.fromarray(mask, "P")
  image.putpalette(palette().ravel().tolist())
  buffer = io.BytesIO()
  image.save(buffer, "png")
  return buffer.getvalue()


def overlay(image, mask, opacity=0.6):
  """A photo uint8 `[h, w, 3]` with a mask `[h, w]` laid over it; background (0) and void stay as they are."""
  blended = np.rint((1 - opacity) * image + opacity * palette()[mask]).astype(np.uint8)
  return np.where(((mask != 0) & (mask != VOID))[..., np.newaxis], blended, image)
