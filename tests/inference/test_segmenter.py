"""The segmenters in the package."""

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.inference import segmenter as segmenter_module


@pytest.mark.slow
def test_shipped_segmenters():
  points = {dc.Segmenter.load(name).operating_point for name in dc.Segmenter.names()}
  assert points == set(dc.operating_points.names())
  for point in points:
    photos = samples.photos()
    codec = dc.Codec.load(point)
    for name, expected in (("chelsea", "cat"), ("astronaut", "person"), ("rocket", None)):
      data = codec.compress(photos[name])
      segmenter = dc.Segmenter.load_for(data)
      mask = segmenter.segment(data)
      assert mask.shape == photos[name].shape[:2] and segmenter.classes == list(mask_classes.VOC)
      counts = np.bincount(mask.reshape(-1), minlength=len(segmenter.classes)) / mask.size
      if expected is None:  # a rocket is none of VOC's classes
        assert counts[1:].sum() < 0.3
      else:
        assert segmenter.class_names[1 + np.argmax(counts[1:])] == expected
        assert counts[1:].max() > max(0.15, 0.7 * counts[1:].sum())
    assert "Pascal VOC" in segmenter.describe()


def test_several_files(monkeypatch):
  """Photos of equal size go through the network together, as many as fit: here two of three."""
  monkeypatch.setattr(segmenter_module, "BATCH_PIXELS", 2 * 100 * 120)
  segmenter = dc.Segmenter.load(dc.Segmenter.names()[0])
  files = [segmenter.codec.compress(photo[:100, :width])
           for photo, width in zip(samples.photos().values(), (120, 130, 120, 120), strict=True)]
  masks = segmenter.segment(files)
  for mask, data in zip(masks, files, strict=True):
    alone = segmenter.segment(data)
    assert mask.shape == alone.shape and np.mean(mask != alone) < 1e-3
  assert any((mask != masks[0]).any() for mask in masks[2:])
  with pytest.raises(dc.BitstreamError, match="file 1 of 2: .*checksum"):
    segmenter.segment([files[0], files[1][:-1]])
