"""Metrics against scikit-image, peers' sizes, means and tables."""

import csv
import io
import json

import numpy as np
import pytest
from skimage import metrics as skimage_metrics
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf import similarity
from deepcomp_tf.evaluation import baselines
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.evaluation import rate_distortion


@pytest.fixture(scope="module")
def pair():
  image = samples.photos()["astronaut"][:200, 100:300]
  noise = np.random.default_rng(0).normal(0, 12, image.shape)
  return image, np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def test_psnr_and_ssim_equal_scikit_images(pair):
  figures = metrics.distortion(*pair)
  assert figures["psnr"] == pytest.approx(skimage_metrics.peak_signal_noise_ratio(*pair), abs=1e-4)
  # The border is left out; scikit-image crops it when it takes the mean.
  expected = skimage_metrics.structural_similarity(
      *pair, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
  assert figures["ssim"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("height, width", [(200, 200), (189, 177), (11, 40)])
def test_figures_are_tensorflows(pair, height, width):
  """Of odd sizes, too, and of the smallest, to four digits, as many as TensorFlow has right."""
  images = [image[:height, :width] for image in pair]
  figures, tensors = metrics.distortion(*images), [tf.constant(image) for image in images]
  assert figures["psnr"] == pytest.approx(float(tf.image.psnr(*tensors, 255)), abs=1e-4)
  assert figures["ssim"] == pytest.approx(float(tf.image.ssim(*tensors, 255)), abs=5e-5)
  if height > 11:
    assert figures["ms_ssim"] == pytest.approx(float(tf.image.ssim_multiscale(*tensors, 255)), abs=5e-5)
    pixels = [np.float32(image[np.newaxis, :176, :176]) for image in images]
    assert [metrics.distortion(*(image[:176, :176] for image in images))[name] for name in ("ssim", "ms_ssim")] == pytest.approx(
        [float(value) for value in similarity.ssim_and_ms_ssim(*pixels, scales=5)], abs=5e-5)


def test_ms_ssim(pair):
  image, noisy = pair
  assert metrics.distortion(image, image)["ms_ssim"] == pytest.approx(1.0)
  # White noise fades at coarser scales: MS-SSIM must be above SSIM.
  figures = metrics.distortion(image, noisy)
  assert figures["ssim"] < figures["ms_ssim"] < 1.0


def test_small_images_have_no_ssim():
  image = np.zeros([10, 300, 3], np.uint8)
  figures = metrics.distortion(image, image + 1)
  assert figures["psnr"] == pytest.approx(48.13, abs=0.01)
  assert np.isnan(figures["ssim"]) and np.isnan(figures["ms_ssim"])
  assert np.isnan(metrics.distortion(np.zeros([175, 300, 3], np.uint8), np.zeros([175, 300, 3], np.uint8))["ms_ssim"])


@pytest.mark.parametrize("name", list(baselines.FORMATS))
def test_peers_take_the_largest_file_that_fits(pair, name):
  image = pair[0]
  data = baselines.encode_at_most(name, image, 4000)
  assert 2800 < len(data) <= 4000
  decoded = baselines.decode(data)
  assert decoded.shape == image.shape
  assert metrics.distortion(image, decoded)["psnr"] > 25
  assert len(baselines.encode_at_most(name, image, 10**7)) > 12_000
  assert len(baselines.encode_at_most(name, image, 1)) < 2800


def test_jpeg_2000_transforms_colours(pair):
  """Without the colour transform it would be a weaker peer than it is."""
  image = pair[0]
  options = baselines.FORMATS["jpeg2000"].options(256)
  assert options["mct"] == 1 and options["irreversible"]
  data = baselines.encode_at_most("jpeg2000", image, 4000)
  cod = data.index(b"\xff\x52")  # the COD marker: its ninth byte is the multiple component transform
  assert data[cod + 8] == 1


def test_unknown_format():
  with pytest.raises(dc.DeepcompError, match="jpeg, jpeg2000, webp, avif"):
    baselines.encode_at_most("bpg", np.zeros([8, 8, 3], np.uint8), 10)


def test_means_leave_out_what_is_not_there():
  row = {"operating_point": "p", "codec": "jpeg", "bytes": 10, "bits_per_pixel": 1.0,
         "bits_per_pixel_pooled": float("nan"), "psnr": 30.0, "ssim": 0.5, "ms_ssim": float("nan")}
  other = {**row, "bytes": 20, "psnr": 40.0, "ms_ssim": 0.25}
  mean, = rate_distortion.means([row, other])
  assert (mean["images"], mean["bytes"], mean["psnr"], mean["ms_ssim"]) == (2, 15.0, 35.0, 0.25)
  assert np.isnan(mean["bits_per_pixel_pooled"])


def test_jpeg_2000_is_found_by_a_guess(pair, monkeypatch):
  bisected = baselines.FORMATS["jpeg2000"]._replace(guess=None)
  for size in (1, 900, 4000, 15000, 10**7):
    tried, encode = [], baselines.encode
    with monkeypatch.context() as patch:
      patch.setattr(baselines, "encode", lambda name, image, rung: tried.append(rung) or encode(name, image, rung))
      found = baselines.encode_at_most("jpeg2000", pair[0], size)
      assert len(tried) < 8 or size in (1, 10**7)
      patch.setitem(baselines.FORMATS, "jpeg2000", bisected)
      assert found == baselines.encode_at_most("jpeg2000", pair[0], size)


def test_measure_counts_every_byte(pair):
  codec = dc.Codec.load("bpp0.330")
  rows, = rate_distortion.measure([codec], [("x", pair[0])], peers=("jpeg", "webp"))
  assert [row["codec"] for row in rows] == ["deepcomp", "jpeg", "webp"]
  size = len(codec.compress(pair[0]))
  assert rows[0]["bytes"] == size and all(row["bytes"] <= size for row in rows)
  assert rows[0]["bits_per_pixel"] == 8 * size / (200 * 200)
  read = list(csv.DictReader(io.StringIO(rate_distortion.to_csv(rows))))
  assert float(read[1]["psnr"]) == pytest.approx(rows[1]["psnr"], rel=1e-5)
  assert "WebP" in rate_distortion.table(rate_distortion.means(rows))


@pytest.mark.slow
def test_curves(pair, monkeypatch):
  codec, image = dc.Codec.load("bpp0.0983"), pair[0][:184, :184]
  rows, = rate_distortion.measure([codec], [("x", image)], peers=("jpeg", "jpeg2000"), effort=1, curves=True)
  plain, = rate_distortion.measure([codec], [("x", image)], peers=("jpeg", "jpeg2000"), effort=1)
  assert rate_distortion.to_csv([row for row in rows if not row["setting"]]) == rate_distortion.to_csv(plain)
  ours = {row["setting"]: row["bytes"] for row in rows if row["codec"] == "deepcomp"}
  assert set(ours) == {"", "rate=0.25", "rate=3", "rate=9"}
  assert ours["rate=0.25"] >= ours[""] >= ours["rate=3"] >= ours["rate=9"] and ours["rate=0.25"] > ours["rate=9"]
  for kind, first in (("jpeg", "quality=1"), ("jpeg2000", "ratio=482.1")):
    peers = [row for row in rows if row["codec"] == kind and row["setting"]]
    assert len(peers) == 8 and peers[0]["setting"] == first
    assert sorted(row["bytes"] for row in peers) == [row["bytes"] for row in peers]
    assert not any(row["operating_point"] for row in peers)

  # At equal setting the mean is over both images; the table is that of the operating points alone.
  rows += [{**row, "operating_point": "other"} for row in rows if row["operating_point"]]
  images = rows + [{**row, "image": "y", "psnr": row["psnr"] + 2} for row in rows]
  summary = rate_distortion.means(rate_distortion.from_csv(rate_distortion.to_csv(images)))
  assert [row["psnr"] for row in summary] == pytest.approx([row["psnr"] + 1 for row in rows], rel=1e-5)
  assert len(rate_distortion.table(summary).splitlines()) == 1 + 2 * 3

  monkeypatch.setattr(figures, "png", lambda figure: figure)
  lines = figures.rate_distortion_figure(summary, "curves").axes[0].lines
  assert [len(line.get_xdata()) for line in lines] == [4, 4, 8, 8]  # ours around each operating point, and a peer's
  for line in lines[:2]:
    assert [line.get_xdata()[place] for place in line.get_markevery()] == [summary[0]["bits_per_pixel"]]


def test_the_papers_measure_is_an_axis(monkeypatch):
  """Of operating points that were trained for it; their files' rate is a second mark. Ours without searches are one line."""
  monkeypatch.setattr(figures, "png", lambda figure: figure)
  rows = [{"operating_point": point, "codec": codec, "setting": setting, "bits_per_pixel": rate,
           "bits_per_pixel_pooled": 2 * rate, "psnr": 30.0, "ssim": 0.9, "ms_ssim": 0.9}
          for point, codec, setting, rate in (("a", "deepcomp", "", 0.1), ("b", "deepcomp", "", 0.2), ("a", "jpeg", "", 0.1),
                                              ("", "jpeg", "quality=1", 0.15), ("", "jpeg", "quality=5", 0.3))]
  places = lambda pooled: [list(line.get_xdata()) for line in figures.rate_distortion_figure(rows, "", pooled).axes[0].lines]
  assert places(()) == [[0.1, 0.2], [0.15, 0.3]]
  assert places({"a", "b"}) == [[0.2, 0.4], [0.1, 0.2], [0.15, 0.3]]


def test_csv_from_before_there_were_curves():
  text = ("image,operating_point,codec,bytes,bits_per_pixel,bits_per_pixel_pooled,psnr,ssim,ms_ssim\n"
          "a.png,bpp0.330,deepcomp,22098,0.449585,0.594136,26.8319,0.787714,0.9623\n")
  mean, = rate_distortion.means(rate_distortion.from_csv(text))
  assert (mean["setting"], mean["bytes"], mean["psnr"]) == ("", 22098, 26.8319)
  assert "0.4496" in rate_distortion.table([mean])


def test_a_picture_that_is_reproduced_exactly_leaves_means_finite():
  """Of one colour, as PNG screenshots are: WebP gives it back exactly, which is an infinite PSNR."""
  flat = np.full([180, 184, 3], 255, np.uint8)
  found = metrics.distortion(flat, baselines.decode(baselines.encode_at_most("webp", flat, 10**4)))
  assert found["psnr"] == np.inf
  row = {"operating_point": "p", "codec": "webp", "bytes": 10, "bits_per_pixel": 1.0, "bits_per_pixel_pooled": float("nan")}
  rows = [{"image": "flat", **row, **found}, {"image": "other", **row, "psnr": 30.0, "ssim": 0.5, "ms_ssim": 0.5}]
  mean, = rate_distortion.means(rows)
  assert (mean["psnr"], mean["ssim"], mean["images"], mean["exact"]) == (30.0, 0.75, 2, 1)
  assert rate_distortion.table([mean]).splitlines()[-1].endswith("reproduced exactly: WebP at p 1 of 2")
  assert "Left out" not in rate_distortion.table(rate_distortion.means(rows[1:]))
  assert [one["psnr"] for one in rate_distortion.from_csv(rate_distortion.to_csv(rows))] == [np.inf, 30.0]
  json.dumps(metrics.means([found]), allow_nan=False)  # as runs and operating points keep them
  assert "psnr" not in metrics.means([found])
