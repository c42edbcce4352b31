"""The segmenters in the package."""

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples


def test_shipped_segmenters():
  points = {dc.Segmenter.load(name).operating_point for name in dc.Segmenter.names()}
  assert points == set(dc.operating_points.names())
  for point in points:
    photos = samples.photos(256)
    codec = dc.Codec.load(point)
    shares = {}
    for name in ("chelsea", "rocket"):
      data = codec.compress(photos[name])
      segmenter = dc.Segmenter.load_for(data)
      mask = segmenter.segment(data)
      assert mask.shape == photos[name].shape[:2] and segmenter.classes == list(mask_classes.VOC)
      shares[name] = np.mean(mask != 0)
    assert "Pascal VOC" in segmenter.describe()
    # A cat fills most of its photo; a rocket is none of VOC's classes.
    assert shares["chelsea"] > 0.3 > shares["rocket"]


def test_several_files():
  segmenter = dc.Segmenter.load(dc.Segmenter.names()[0])
  files = [segmenter.codec.compress(photo[:100, :120 + 10 * i]) for i, photo in enumerate(samples.photos().values())]
  for mask, data in zip(segmenter.segment(files), files):
    np.testing.assert_array_equal(mask, segmenter.segment(data))
  with pytest.raises(dc.BitstreamError, match="file 1 of 2: .*checksum"):
    segmenter.segment([files[0], files[1][:-1]])
