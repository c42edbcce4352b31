"""`train_decoder` as people run it: pictures get better, and nothing else changes."""

import json

import numpy as np
import programs
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.data.symbol_pairs import SymbolPairs
from deepcomp_tf.files import write_file

pytestmark = pytest.mark.slow


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  """Two photos of 64 to 70 pixels to train on, and one of them to validate on, under another name."""
  root = tmp_path_factory.mktemp("photos")
  for split, name, crop in (("train", "chelsea", np.s_[:70, :64]), ("train", "coffee", np.s_[:64, :69]),
                            ("val", "chelsea", np.s_[:64, :64])):
    (root / split).mkdir(exist_ok=True)
    write_file(root / split / f"{name}.png", encode_png(samples.photos(160)[name][crop]))
  return root


def _start(folder, run, *more):
  return programs.start(
      "train_decoder", "--operating_point=bpp0.0983", f"--photos={folder}/train", f"--validation_photos={folder}/val",
      "--crop_size=64", "--margin=8", "--batch_size=2", "--steps=24", "--learning_rate=1e-3", "--weight_average=0.5",
      "--checkpoint_every=6", "--summary_every=1", "--validate_every=100", f"--cache_dir={folder}/cache",
      f"--run_dir={run}", *more)


@pytest.fixture(name="finished", scope="module")
def fixture_finished(folder, tmp_path_factory):
  run = tmp_path_factory.mktemp("runs") / "finished"
  code, output = programs.finish(_start(folder, run, "--ms_ssim=500"))
  assert code == 0, output[-3000:]
  return run


def test_the_picture_gets_better_and_files_stay_what_they_are(folder, finished):
  before, after = dc.Codec.load("bpp0.0983"), dc.Codec.load(str(finished / "operating_point"))
  assert after.decoder_version == before.decoder_version + 1 and before.fingerprint == after.fingerprint
  history = [json.loads(line) for line in (finished / "history.jsonl").read_text().splitlines()]
  assert [line["step"] for line in history] == [0, 24]
  assert history[-1]["psnr"] > history[0]["psnr"] + 0.3 and history[-1]["ssim"] > history[0]["ssim"] + 0.01
  photo = samples.photos(160)["chelsea"][:64, :64]
  data = before.compress(photo)
  assert after.compress(photo) == data
  np.testing.assert_array_equal(after.symbols(data), before.symbols(data))
  psnr = lambda codec: 10 * np.log10(255 ** 2 / np.mean((codec.decompress(data).astype(float) - photo) ** 2))
  assert (psnr(before) == pytest.approx(history[0]["psnr"], abs=0.01)
          and psnr(after) == pytest.approx(history[-1]["psnr"], abs=0.01))
  # What reads files of the one reads those of the other.
  name = next(name for name in dc.Classifier.names() if name.endswith("0.0983"))
  assert dc.Classifier.load(name, after).classify(data) == dc.Classifier.load(name).classify(data)
  (folder / "photo.deepcomp").write_bytes(data)
  said = programs.deepcomp("info", "photo.deepcomp", f"--operating_point={finished}/operating_point", cwd=folder)
  assert f"decoder version {after.decoder_version}" in said.stdout


def test_killed_run_continues_as_if_nothing_had_happened(folder, finished, tmp_path):
  run = tmp_path / "killed"
  programs.kill_after_checkpoint(_start(folder, run, "--ms_ssim=500"), run, 6)
  code, output = programs.finish(_start(folder, run, "--ms_ssim=500"))
  assert code == 0 and "Continuing from step" in output, output[-3000:]
  for step, value in programs.curve(finished, "mse").items():
    assert programs.curve(run, "mse")[step] == pytest.approx(value, rel=1e-2), step


def test_pairs_are_whole_blocks_of_photos_and_of_their_halves(folder, tmp_path):
  codec = dc.Codec.load("bpp0.0983")
  pairs = SymbolPairs([str(folder / "train/chelsea.png")], codec, 32, [str(folder / "train/coffee.png")], str(tmp_path))
  assert len(pairs) == 3  # 64x64 and 32x32 of the cat, of the coffee the half only
  photo = samples.photos(160)["chelsea"][:64, :64]
  seen, coverage = set(), np.zeros([8, 8])
  for symbols, pixels, windows in pairs.batches(32, 8, 8, seed=0).take(400):
    for one, picture, window in zip(symbols.numpy(), pixels.numpy(), windows.numpy()):
      places = [(top, left) for top in range(0, 40, 8) for left in range(0, 40, 8)
                if np.array_equal(photo[top:top + 32, left:left + 32], picture)]
      for top, left in places:
        np.testing.assert_array_equal(codec.encode(photo)[top // 8:top // 8 + 4, left // 8:left // 8 + 4], one)
        row, column = top + window[0], left + window[1]
        seen.add((row, column))
        coverage[row // 8:row // 8 + 2, column // 8:column // 8 + 2] += 1
      if not places:
        seen.add("half")
  # Windows of 16 pixels come at the edges of the photo, too; inside it the crop goes 8 pixels beyond them.
  assert seen == {(top, left) for top in range(0, 56, 8) for left in range(0, 56, 8)} | {"half"}
  # The outermost blocks count no less than those in the middle, which lie in more windows.
  outermost, middle = (coverage[lines].sum() + coverage[:, lines].sum() for lines in ([0, 7], [3, 4]))
  assert outermost > 0.9 * middle, coverage


@pytest.mark.parametrize("flags, message", [
    (["--crop_size=60"],
     "--crop_size must be a multiple of 8, and at least 60: 44 pixels and --margin=8 on each side. Received: 60"),
    (["--margin=4"], "--margin must be a multiple of 8. Received: 4"),
    (["--crop_size=128"], "expected photos with a shorter side of at least 128 pixels. Received: 2 photos"),
    (["--photos=nowhere"], "Received: nowhere")])
def test_bad_values_are_named(folder, tmp_path, flags, message):
  line, output = programs.error(_start(folder, tmp_path / "run", *flags))
  assert message in line and "Traceback" not in output
