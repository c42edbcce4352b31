"""IoU against a confusion matrix in NumPy, pictures of masks, the geometry of upsampled logits, the masked loss."""

import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from deepcomp_tf import mask_classes
from deepcomp_tf.evaluation import segmentation
from deepcomp_tf.tasks.segment import class_ids
from deepcomp_tf.training import losses


class _Examples:
  def __init__(self, labels):
    self.labels = labels

  def whole(self, own):
    assert own is None
    return ((np.zeros([2, 2, 1], np.uint8), label) for label in self.labels)


def test_mean_iou_is_that_of_a_confusion_matrix():
  rng = np.random.default_rng(0)
  labels = [rng.choice([0, 1, 2, 4, 255], size).astype(np.uint8) for size in ((9, 7), (12, 5), (3, 3))]
  predictions = [rng.integers(0, 5, label.shape).astype(np.uint8) for label in labels]
  expected = np.zeros([5, 5])
  for label, prediction in zip(labels, predictions):
    for i, j in zip(label.ravel(), prediction.ravel()):
      if i != 255:
        expected[i, j] += 1
  inside = np.diag(expected)
  union = expected.sum(0) + expected.sum(1) - inside
  keras = tf.keras.metrics.MeanIoU(5, ignore_class=255)
  for label, prediction in zip(labels, predictions):
    keras.update_state(label.astype(int), prediction)
  remaining = iter(predictions)
  figures = segmentation.evaluate(lambda stored, h, w: next(remaining), _Examples(labels), 5)
  assert figures["mean_iou"] == pytest.approx(float(keras.result()))
  np.testing.assert_allclose(figures["iou"], inside / union, rtol=1e-6)  # class 3 is predicted, but never true: 0
  assert figures["iou"][3] == 0.0
  assert figures["mean_iou"] == pytest.approx(np.mean(inside / union))
  assert figures["pixel_accuracy"] == pytest.approx(inside.sum() / expected.sum())
  # Over the pixels of classes 1 and 4 alone.
  remaining = iter(predictions)
  covered = segmentation.evaluate(lambda stored, h, w: next(remaining), _Examples(labels), 5, [1, 4])
  kept = [np.where(np.isin(label, [1, 4]), label, 255) for label in labels]
  remaining = iter(predictions)
  other = segmentation.evaluate(lambda stored, h, w: next(remaining), _Examples(kept), 5)
  assert covered["well_covered_mean_iou"] == pytest.approx(np.mean([other["iou"][1], other["iou"][4]]))
  assert covered["mean_iou"] == figures["mean_iou"]


def _counts(rng, images, share):
  """Confusions of two classes in 100 pixels an image, of which a share that differs by image is right."""
  right = np.clip(rng.normal(share, 0.1, images), 0, 1)
  return np.stack([np.array([[r, 1 - r], [1 - r, r]]) for r in right]) * 50


def test_standard_error_is_the_spread_over_sets_of_images():
  rng = np.random.default_rng(0)
  one = _counts(rng, 100, 0.7)
  over_sets = np.std([segmentation.summary(_counts(rng, 100, 0.7))["mean_iou"] for _ in range(300)])
  assert segmentation.summary(one)["mean_iou_error"] == pytest.approx(over_sets, rel=0.25)
  # One network is better than another by the same on every image: their difference is surer than either figure.
  other = one + 2 * np.array([[1, -1], [-1, 1]])
  difference = segmentation.draws(other) - segmentation.draws(one)
  assert np.std(difference) < 0.2 * segmentation.summary(one)["mean_iou_error"]
  assert segmentation.summary(one, [0, 1])["well_covered_mean_iou_error"] == segmentation.summary(one)["mean_iou_error"]


def test_classes_that_do_not_occur_do_not_count():
  label = np.array([[0, 0, 1, 255]], np.uint8)
  figures = segmentation.evaluate(lambda stored, h, w: np.array([[0, 1, 1, 2]], np.uint8), _Examples([label]), 4)
  assert figures["iou"] == [0.5, 0.5, None, None]
  assert figures["mean_iou"] == 0.5


def test_names_stand_inside_their_regions():
  mask = np.zeros([20, 30], np.uint8)
  mask[2:18, 3:25] = 8
  mask[6:14, 3:20] = 0  # a cat like a bracket, whose middle is no cat
  mask[19, 0] = 15  # too small for a name
  (name, row, column), = segmentation.named_regions(mask, mask_classes.VOC)
  assert name == "cat" and mask[row, column] == 8


def test_masks_survive_their_file():
  mask = np.random.default_rng(0).choice([0, 8, 15, 255], [7, 5]).astype(np.uint8)
  with Image.open(io.BytesIO(mask_classes.encode_mask(mask, mask_classes.VOC))) as image:
    assert image.mode == "P"
    np.testing.assert_array_equal(np.array(image), mask)
    np.testing.assert_array_equal(np.array(image.convert("RGB")), mask_classes.palette(mask_classes.VOC)[mask])


def test_overlay_leaves_background_alone():
  image = np.full([1, 3, 3], 100, np.uint8)
  blended = mask_classes.overlay(image, np.array([[0, 8, 255]], np.uint8), mask_classes.VOC, opacity=0.5)
  np.testing.assert_array_equal(blended[0, [0, 2]], image[0, [0, 2]])
  np.testing.assert_array_equal(blended[0, 1], [255, 255, 255])  # the outline
  cat = np.pad(np.full([3, 3], 8, np.uint8), 1)
  blended = mask_classes.overlay(np.full([5, 5, 3], 100, np.uint8), cat, mask_classes.VOC, opacity=0.5)
  assert blended[2, 2].tolist() == [82, 50, 50] and np.sum((blended == 255).all(axis=-1)) == 8
  whole = mask_classes.overlay(np.zeros([2, 2, 3], np.uint8), np.full([2, 2], 8, np.uint8), mask_classes.VOC)
  assert not (whole == 255).any()


@pytest.mark.parametrize("height, width", [(64, 64), (61, 57), (9, 17)])
@pytest.mark.parametrize("top, left", [(1, 2), (0, 0), (2, 1)])
def test_upsampled_logits_lie_where_their_blocks_do(height, width, top, left):
  rows, columns = -(-height // 8), -(-width // 8)
  logits = np.zeros([1, rows, columns, 2], np.float32)
  logits[..., 0] = 1.0
  if top < rows and left < columns:
    logits[0, top, left] = [0.0, 1.0]
  mask = class_ids(tf.constant(logits), height, width)[0].numpy()
  assert mask.shape == (height, width)
  expected = np.zeros([8 * rows, 8 * columns], np.uint8)
  if top < rows and left < columns:
    # Halfway to the neighbours' centers in each direction, bilinearly: a rounded square around the block's middle.
    expected[8 * top:8 * top + 8, 8 * left:8 * left + 8] = 1
  expected = expected[:height, :width]
  where = np.argwhere(mask)
  if len(where):
    assert expected[tuple(where.T)].all()
    if 0 < top < rows - 1 and 0 < left < columns - 1:  # not at an edge: symmetric around the block's center
      np.testing.assert_allclose(where.mean(axis=0), [8 * top + 3.5, 8 * left + 3.5])


def test_masked_cross_entropy():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=[2, 3, 3, 4]).astype(np.float32)
  labels = rng.choice([0, 1, 3, 255], [2, 3, 3])
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  expected = -np.mean([log_p[i][labels[i]] for i in np.ndindex(labels.shape) if labels[i] != 255])
  assert float(losses.masked_cross_entropy(tf.constant(labels), tf.constant(logits), 255)) == pytest.approx(expected, rel=1e-5)


def test_a_crop_of_nothing_but_void_has_no_gradient():
  logits = tf.Variable(tf.random.stateless_normal([1, 2, 2, 3], [0, 1]))
  with tf.GradientTape() as tape:
    loss = losses.masked_cross_entropy(tf.fill([1, 2, 2], 255), logits, 255)
  assert float(loss) == 0.0
  np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros([1, 2, 2, 3]))


@pytest.mark.parametrize("rows, stride", [(1, 8), (31, 8), (32, 8), (33, 8), (70, 8), (33, 16), (3, 512)])
def test_bands_of_rows_change_nothing(rows, stride):
  logits = np.random.default_rng(0).normal(size=[2, rows, 5, 4]).astype(np.float32)
  height, width = stride * rows - 3, stride * 5 - 3
  upsampled = tf.image.resize(logits, [stride * rows, stride * 5]).numpy()[:, :height, :width]
  ids = tf.function(class_ids)(logits, height, width, tf.constant(stride)).numpy()
  assert ids.shape == (2, height, width) and ids.dtype == np.uint8
  # Where two classes are equally likely but for rounding, either will do.
  clear = np.diff(np.sort(upsampled, axis=-1)[..., -2:], axis=-1)[..., 0] > 1e-5
  np.testing.assert_array_equal(ids[clear], upsampled.argmax(-1)[clear])
  assert clear.mean() > 0.99
