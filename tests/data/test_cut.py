"""Fields of a photo are cut at one place, whatever holds them."""

import numpy as np
import pytest
import tensorflow as tf

from deepcomp_tf.data import cut
from deepcomp_tf.data.store import Maps


@pytest.mark.parametrize("mirrored", [False, True])
def test_fields_of_a_photo_are_cut_at_the_same_place(mirrored):
  rng = np.random.default_rng(0)
  blocks = rng.integers(0, 256, [5, 7, 2], np.uint8)
  pixels = blocks.repeat(8, 0).repeat(8, 1)
  for corner in ((0, 0), (16, 32), (24, 40)):
    crops = [cut.cut(pixels, corner, 16, mirrored=mirrored), cut.cut(blocks, corner, 16, 8, mirrored).repeat(8, 0).repeat(8, 1),
             cut.cut(tf.constant(pixels), tf.constant(corner), 16, mirrored=tf.constant(mirrored)).numpy()]
    top, left = corner
    expected = pixels[top:top + 16, left:left + 16]
    for crop in crops:
      np.testing.assert_array_equal(crop, np.fliplr(expected) if mirrored else expected)


@pytest.mark.parametrize("stride", [1, 8])
def test_maps_cut_as_single_photos_are_cut(stride):
  rng = np.random.default_rng(1)
  sizes = np.array([(5, 7), (3, 3), (4, 9)], np.int32)
  data = rng.normal(size=[sizes.prod(axis=1).sum(), 3]).astype(np.float16)
  maps = Maps(data, sizes, stride)
  np.testing.assert_array_equal(np.concatenate([one.reshape(-1, 3) for one in maps]), data)
  indices, mirrored = np.array([2, 0, 2, 1]), np.array([True, False, False, True])
  corners = stride * np.array([(1, 6), (2, 3), (0, 0), (0, 0)])
  expected = [cut.cut(maps[index], corner, 3 * stride, stride, flip) for index, corner, flip in zip(indices, corners, mirrored)]
  np.testing.assert_array_equal(maps.crops(indices, corners, 3 * stride, mirrored), expected)


def test_places_are_spread_over_all_corners():
  places = tf.constant([[0.0, 0.999], [0.5, 0.25]])
  assert cut.corner_at(places, tf.constant([3, 7])).numpy().tolist() == [[0, 7], [2, 2]]
  assert cut.corner_at(None, tf.constant([3, 7])).numpy().tolist() == [1, 3]
