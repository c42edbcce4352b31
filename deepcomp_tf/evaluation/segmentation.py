"""Mean intersection over union, and pictures of segmentations (section 5, Figures 5 and 10)."""

import io

import numpy as np
from PIL import Image
import tensorflow as tf

from deepcomp_tf.data.voc import VOID


def evaluate(predict, examples, num_classes, progress=lambda iterable: iterable):
  """IoU of whole images.

  Args:
    predict: function of (stored uint8 `[h', w', c]`, height, width) that returns uint8 `[height, width]`, as
      `inference.Segmenter.predict`.
    examples: `data.segmentation.SegmentationExamples`.
    num_classes: of the labels; 255 is left out.
    progress: wraps the iteration over the examples.

  Returns:
    dict of mean_iou, over the classes that occur, pixel_accuracy, and iou, a list with None for classes that do not.
  """
  metric = tf.keras.metrics.MeanIoU(num_classes, ignore_class=VOID)
  for stored, label in progress(examples.whole()):
    metric.update_state(label.astype(np.int32), predict(stored, *label.shape))
  confusion = metric.total_cm.numpy()
  inside = np.diag(confusion)
  union = confusion.sum(axis=0) + confusion.sum(axis=1) - inside
  return {"mean_iou": float(metric.result()), "pixel_accuracy": float(inside.sum() / max(1.0, confusion.sum())),
          "iou": [float(i / u) if u else None for i, u in zip(inside, union)]}


def palette():
  """VOC's colours of the ids 0..255: uint8 `[256, 3]`. The bits of an id are dealt out to the channels, highest first."""
  ids = np.arange(256)
  colours = np.zeros([256, 3], np.uint8)
  for bit in range(8):
    for channel in range(3):
      colours[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
  return colours


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
