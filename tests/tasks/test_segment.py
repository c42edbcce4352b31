"""The segmenters in the package."""

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.tasks import base


@pytest.mark.slow
def test_shipped_segmenters():
  points = {dc.Segmenter.load(name).operating_point for name in dc.Segmenter.names()}
  assert points == set(dc.operating_points.names())
  small, large = samples.photos(256), samples.photos()
  for point in points:
    codec = dc.Codec.load(point)
    segmenter = dc.Segmenter.load_for(codec.compress(small["rocket"]))
    for photo, expected, least in ((small["chelsea"], "cat", 0.3), (large["chelsea"], "cat", 0.3),
                                   (large["astronaut"], "person", 0.15), (small["rocket"], None, 0)):
      data = codec.compress(photo)
      mask = segmenter.segment(data)
      assert mask.shape == photo.shape[:2] and segmenter.classes == list(mask_classes.VOC)
      shares = np.bincount(mask.reshape(-1), minlength=len(segmenter.classes)) / mask.size
      if expected:
        assert segmenter.class_names[1 + np.argmax(shares[1:])] == expected
        assert shares[1:].max() > max(least, 0.7 * shares[1:].sum())
      else:  # a rocket is none of VOC's classes
        assert shares[1:].sum() < 0.3
    assert "Pascal VOC" in segmenter.describe()


@pytest.mark.slow
def test_several_files(monkeypatch):
  """Photos of equal size go through the network together, as many as fit: here two of three."""
  monkeypatch.setattr(base, "BATCH_PIXELS", 2 * 72 * 80)
  segmenter = dc.Segmenter.load(dc.Segmenter.names()[0])
  files = [segmenter.codec.compress(photo[:72, :width])
           for photo, width in zip(samples.photos().values(), (80, 90, 80, 80), strict=True)]
  masks = segmenter.segment(files)
  for mask, data in zip(masks, files, strict=True):
    alone = segmenter.segment(data)
    assert mask.shape == alone.shape and np.mean(mask != alone) < 1e-3
  assert any((mask != masks[0]).any() for mask in masks[2:])
  with pytest.raises(dc.BitstreamError, match="file 1 of 2: .*checksum"):
    segmenter.segment([files[0], files[1][:-1]])
  with pytest.raises(dc.DeepcompError, match="Received: the path x.deepcomp"):
    segmenter.segment("x.deepcomp")
