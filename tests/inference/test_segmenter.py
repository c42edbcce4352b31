"""The segmenters in the package."""

import numpy as np

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.data import voc


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
      assert mask.shape == photos[name].shape[:2] and segmenter.class_names == list(voc.CLASS_NAMES)
      shares[name] = np.mean(mask != 0)
    assert "Pascal VOC" in segmenter.knows
    # A cat fills most of its photo; a rocket is none of VOC's classes.
    assert shares["chelsea"] > 0.3 > shares["rocket"]
