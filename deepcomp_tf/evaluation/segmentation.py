"""Mean intersection over union, and places in masks to write names at (section 5, Figures 5 and 10)."""

import numpy as np
import tensorflow as tf

from deepcomp_tf.mask_classes import BACKGROUND
from deepcomp_tf.mask_classes import VOID


def evaluate(predict, examples, num_classes, well_covered=(), progress=lambda iterable: iterable):
  """IoU of whole images.

  Args:
    predict: function of (stored uint8 `[h', w', c]`, height, width) that returns uint8 `[height, width]`, as
      `tasks.segment.Segmenter.predict`.
    examples: `data.segmentation.SegmentationExamples`.
    num_classes: of the labels; 255 is left out.
    well_covered: classes whose mean IoU is reported, too, over the pixels that are labelled with them.
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
  """IoU and accuracy from the `confusions` of images.

  Returns:
    dict of mean_iou, over the classes that occur, pixel_accuracy, and iou, a list with None for classes that do not occur;
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
  """Mean IoU of samples of the images, drawn with replacement (bootstrap): their spread is its standard error.

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
  """IoU of each class, from counts `[..., label, prediction]`; NaN where neither has the class."""
  inside = np.diagonal(confusion, axis1=-2, axis2=-1)
  union = confusion.sum(axis=-2) + confusion.sum(axis=-1) - inside
  return np.divide(inside, union, out=np.full(union.shape, np.nan), where=union > 0)


def named_regions(mask, classes, share=0.01):
  """(name, row, column) of the classes but background that fill a share of a mask: a place inside each to write at.

  Args:
    mask: uint8 `[h, w]` of their ids.
    classes: list of `MaskClass`.
    share: 0..1.
  """
  for mask_class in classes:
    rows, columns = np.nonzero(mask == mask_class.id)
    if mask_class.name != BACKGROUND and len(rows) and len(rows) >= share * mask.size:
      nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
      yield mask_class.name, rows[nearest], columns[nearest]
