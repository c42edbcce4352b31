"""`deepcomp evaluate`, called as a user calls it."""

import json
import os

from PIL import Image
import pytest

from deepcomp_tf import samples
from deepcomp_tf.codec import images
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.evaluation import figures
from programs import deepcomp_here
from programs import write_photos


@pytest.mark.slow
def test_evaluate(tmp_path):
  (folder := tmp_path / "photos").mkdir()
  write_photos(folder)
  result = deepcomp_here("evaluate", f"--images={folder}", "--operating_point=bpp0.330", "-o", "a/report", "--effort=1",
                         "--curves", cwd=tmp_path)
  tmp_path /= "a/report"
  assert result.returncode == 1 and "1 of 5 images failed" in result.stderr
  assert "AVIF" in result.stdout
  assert len((tmp_path / "rate_distortion.csv").read_text().splitlines()) == 1 + 4 * (5 + 3 + 4 * 8)
  for name in ("rate_distortion.png", "representation.png"):
    assert min(Image.open(tmp_path / name).size) > 200


def test_evaluate_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
  for name in "abc":
    Image.fromarray(samples.photos(64)["coffee"][:, ord(name) - ord("a"):]).save(tmp_path / f"{name}.png")
  evaluate = lambda *more: deepcomp_here(
      "evaluate", "--images=.", "--operating_point=bpp0.0983", "--effort=0", "--peers=webp,jpeg", *more, cwd=tmp_path)
  assert evaluate("-o", "whole").returncode == 0
  whole = (tmp_path / "whole/rate_distortion.csv").read_text()
  assert [line.split(",")[2] for line in whole.splitlines()[1:4]] == ["deepcomp", "webp", "jpeg"]
  for figure in ("rate_distortion_figure", "representation_figure"):  # which are not what is looked at
    monkeypatch.setattr(figures, figure, lambda *_: b"picture")
  stop, measured = [], []
  read = images.read_image

  def read_until_stopped(path, data=None):
    measured.append(os.path.basename(path))
    if measured[-1] in stop:
      raise KeyboardInterrupt
    return read(path, data)

  monkeypatch.setattr("deepcomp_tf.cli.evaluate.read_image", read_until_stopped)
  stop.append("c.png")
  assert evaluate("-o", "half").returncode == 130
  half = tmp_path / "half/rate_distortion.csv"
  assert half.read_text() == "".join(whole.splitlines(keepends=True)[:1 + 2 * 3])
  assert sorted(os.listdir(tmp_path / "half")) == ["rate_distortion.csv", "rate_distortion.txt"]
  assert (tmp_path / "half/rate_distortion.txt").read_text() == ".: effort 0, not finished\n"
  assert "give --overwrite to replace it or --resume" in evaluate("-o", "half").stderr
  result = evaluate("-o", "half", "--resume", "--effort=1")
  assert result.returncode == 1 and "expected --effort=0. Received: --effort=1" in result.stderr
  result = evaluate("-o", "half", "--resume", "--curves")
  assert result.returncode == 1 and "rows of the same operating points, formats and curves. Received: others" in result.stderr

  half.write_text(half.read_text()[:-10])  # as if it had been stopped while it wrote
  stop.clear(), measured.clear()
  result = evaluate("-o", "half", "--resume", "--json")
  assert result.returncode == 0 and measured == ["a.png", "b.png", "c.png"]  # the first for the picture
  assert half.read_text() == whole and len(os.listdir(tmp_path / "half")) == 4
  lines = [json.loads(line) for line in result.stdout.splitlines()]
  assert [line["file"] for line in lines] == [f"./{name}.png" for name in "abc"]
  row = lines[2]["rows"][1]
  assert row["codec"] == "webp" and row["ms_ssim"] is None and row["psnr"] > 10
  measured.clear()
  assert evaluate("-o", "half", "--resume").returncode == 0 and measured == ["a.png"]


@pytest.mark.slow
def test_evaluate_a_split_of_a_set(tmp_path):
  (tmp_path / "set/val/cats").mkdir(parents=True)
  for number in range(3):
    photo = samples.photos(96)["chelsea"][:, number:]
    (tmp_path / f"set/val/cats/{number}.png").write_bytes(encode_png(photo))
  (tmp_path / "set/val/cats/broken.png").write_bytes(b"no image")
  result = deepcomp_here("evaluate", f"--dataset={tmp_path}/set", "--split=val[:50%]", "--operating_point=bpp0.0983",
                         "--effort=0", "--curves", cwd=tmp_path)
  lines = (tmp_path / "rate_distortion.csv").read_text().splitlines()
  read = {line.split(",")[0] for line in lines[1:]}  # of two of the four, one of which may be broken
  assert result.returncode == ("broken.png" in result.stderr) and read <= {f"{number}.png" for number in range(3)}
  assert len(read) == 2 - result.returncode and "set, val[:50%]: " in result.stdout
  assert len(lines) == 1 + len(read) * (5 + 4 * 8)  # the other formats' curves, which need no search of ours
