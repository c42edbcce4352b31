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
    what `summary` does.
  """
  return summary(np.array(list(confusions(predict, examples, num_classes, progress))), well_covered)


def confusions(predict, examples, num_classes, progress=lambda iterable: iterable, own=None):
  """Pixels of each label and prediction.

  Args:
    predict, examples, num_classes, progress: as of `evaluate`.
    own: the indices of the images that are looked at; None for all.

  Yields:
    float64 `[num_classes, num_classes]`, by label and prediction, for each image.
  """
  metric = tf.keras.metrics.MeanIoU(num_classes, ignore_class=VOID, dtype=tf.float64)
  for stored, label in progress(examples.whole(own)):
    metric.reset_state()
    metric.update_state(label.astype(np.int32), predict(stored, *label.shape))
    yield np.array(metric.total_cm)


def summary(counts, well_covered=()):
  """What the `confusions` of some images amount to.

  Returns:
    dict of mean_iou, over the classes that occur, pixel_accuracy, and iou, a list with None for classes that do not;
    well_covered_mean_iou; and mean_iou_error and well_covered_mean_iou_error, their standard errors (`draws`).
  """
  total = counts.sum(axis=0)
  iou = _iou(total)
  figures = {"mean_iou": float(np.nanmean(iou)), "mean_iou_error": float(np.std(draws(counts))),
             "pixel_accuracy": float(np.trace(total) / max(1.0, total.sum())),
             "iou": [None if np.isnan(value) else float(value) for value in iou]}
  if len(well_covered):
    figures["well_covered_mean_iou"] = float(_mean_iou(total, well_covered))
    figures["well_covered_mean_iou_error"] = float(np.std(draws(counts, well_covered)))
  return figures


def draws(counts, well_covered=(), number=1000):
  """Mean IoU of as many images drawn with replacement (bootstrap), whose spread is its standard error.

  The draws are the same for every network, so that the spread of two networks' difference is the error of that.

  Args:
    counts: `confusions`.
    well_covered: classes that the mean is over, and the labels of the pixels that count; empty: all.
    number: of draws.

  Returns:
    float64 `[number]`.
  """
  images = len(counts)
  times = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), number)
  return _mean_iou(np.tensordot(times, counts, axes=1), well_covered)


def _mean_iou(confusion, well_covered):
  if not len(well_covered):
    return np.nanmean(_iou(confusion), axis=-1)
  labelled = np.zeros_like(confusion)
  labelled[..., list(well_covered), :] = confusion[..., list(well_covered), :]
  return np.nanmean(_iou(labelled)[..., list(well_covered)], axis=-1)


def _iou(confusion):
  """IoU of each class, from counts `[..., label, prediction]`; NaN for those that neither has."""
  inside = np.diagonal(confusion, axis1=-2, axis2=-1)
  union = confusion.sum(axis=-2) + confusion.sum(axis=-1) - inside
  return np.divide(inside, union, out=np.full(union.shape, np.nan), where=union > 0)


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
