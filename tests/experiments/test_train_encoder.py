"""`train_encoder` as people run it: files get better at the same size, and what reads them stays what it is."""

import json

import numpy as np
import programs
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.files import write_file

pytestmark = pytest.mark.slow


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  """A photo to train on, another of which the half is taken, and one to validate on that is in the first."""
  root = tmp_path_factory.mktemp("photos")
  for split, name, crop in (("train", "chelsea", np.s_[:72, :96]), ("shrunk", "coffee", np.s_[:104, :150]),
                            ("val", "chelsea", np.s_[:64, :64])):
    (root / split).mkdir(exist_ok=True)
    write_file(root / split / f"{name}.png", encode_png(samples.photos(160)[name][crop]))
  return root


def _start(folder, run, *more):
  return programs.start(
      "train_encoder", "--operating_point=bpp0.0983", f"--photos={folder}/train", f"--shrunk_photos={folder}/shrunk",
      f"--validation_photos={folder}/val", "--parts=both", "--crop_size=48", "--batch_size=3", "--steps=24",
      "--learning_rate=3e-4", "--weight_average=0.5", "--ms_ssim=1000", "--ms_ssim_scales=3", "--ssim=100", "--rate_weight=800",
      "--checkpoint_every=6", "--summary_every=1", "--validate_every=100", f"--run_dir={run}", *more)


@pytest.fixture(name="finished", scope="module")
def fixture_finished(folder, tmp_path_factory):
  """A run that was killed after some steps, exported there and then, and gone on with."""
  run = tmp_path_factory.mktemp("runs") / "finished"
  programs.kill_after_checkpoint(_start(folder, run), run, 6)
  code, output = programs.finish(_start(folder, run, "--export_now"))
  assert code == 0, output[-3000:]
  info = dc.Codec.load(str(run / "operating_point")).info
  assert 6 <= info["encoder"]["trained"]["steps"] < 24
  code, output = programs.finish(_start(folder, run))
  assert code == 0 and "Continuing from step" in output, output[-3000:]
  return run


def test_files_get_better_and_all_others_can_still_be_read(folder, finished):
  before, after = dc.Codec.load("bpp0.0983"), dc.Codec.load(str(finished / "operating_point"))
  assert (after.encoder_version, after.decoder_version) == (before.encoder_version + 1, before.decoder_version + 1)
  assert before.fingerprint == after.fingerprint
  history = [json.loads(line) for line in (finished / "history.jsonl").read_text().splitlines()]
  assert history[0]["step"] == 0 and history[-1]["step"] == 24
  assert history[-1]["ssim"] > history[0]["ssim"] + 0.003
  assert history[-1]["bits_per_pixel"] < 1.2 * history[0]["bits_per_pixel"]
  photo = samples.photos(160)["chelsea"][:64, :64]
  for codec, line in ((before, history[0]), (after, history[-1])):
    data = codec.compress(photo)
    assert 8 * len(codec.encode_symbols(codec.symbols(data))) / 64 ** 2 == pytest.approx(line["bits_per_pixel"])
    psnr = 10 * np.log10(255 ** 2 / np.mean((codec.decompress(data).astype(float) - photo) ** 2))
    assert psnr == pytest.approx(line["psnr"], abs=0.01)
  # What is there is read with a decoder that has not forgotten it, and can be written once more.
  earlier = dc.Codec.load(str(finished / "operating_point"), encoder_version=before.encoder_version)
  assert earlier.compress(photo) == before.compress(photo)
  np.testing.assert_array_equal(earlier.symbols(after.compress(photo)), after.encode(photo))
  symbols = dc.Codec.load("bpp0.0983", encoder_version=1).encode(photo)
  ssim_of_first = lambda codec: metrics.distortion(photo, codec.reconstruct(symbols, 64, 64))["ssim"]
  of_first = after.info["decoder"]["reached_on_files_of_the_first_encoder"]
  assert of_first["ssim"] == pytest.approx(ssim_of_first(after), abs=1e-3)
  assert of_first["ssim"] > ssim_of_first(before) - 0.003
  (folder / "photo.deepcomp").write_bytes(before.compress(photo))
  said = programs.deepcomp("info", "photo.deepcomp", f"--operating_point={finished}/operating_point", cwd=folder)
  assert f"encoder version {after.encoder_version}, decoder version {after.decoder_version}" in said.stdout


def test_the_encoder_alone(folder, tmp_path):
  code, output = programs.finish(_start(folder, tmp_path / "run", "--parts=encoder", "--steps=2"))
  assert code == 0, output[-3000:]
  before, after = dc.Codec.load("bpp0.0983"), dc.Codec.load(str(tmp_path / "run/operating_point"))
  assert (after.encoder_version, after.decoder_version) == (before.encoder_version + 1, before.decoder_version)
  symbols = before.encode(samples.photos(160)["coffee"])
  np.testing.assert_array_equal(after.reconstruct(symbols, 40, 40), before.reconstruct(symbols, 40, 40))


@pytest.mark.parametrize("flags, message", [
    (["--crop_size=40"], "--crop_size must be a multiple of 8, and at least 44 for --ms_ssim_scales=3. Received: 40"),
    (["--export_now"], "--export_now takes a run with a checkpoint")])
def test_bad_values_are_named(folder, tmp_path, flags, message):
  line, output = programs.error(_start(folder, tmp_path / "run", *flags))
  assert message in line and "Traceback" not in output
