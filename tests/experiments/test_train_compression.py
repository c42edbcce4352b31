"""The compression training program as people run it: it learns, survives SIGKILL, names what is wrong."""

import json

import numpy as np
from PIL import Image
import programs
import pytest

import deepcomp_tf as dc

pytestmark = pytest.mark.slow

STEPS, CHECKPOINT = 100, 20
SMALL = ["--held_out=1", "--channels=4", "--num_centers=9", "--entropy=pooled", "--beta=10", "--target_entropy=1.5",
         "--crop_size=32", "--batch_size=2", "--learning_rate=1e-3", "--name=tiny"]
# Everything that has a state to restore: Adam, its schedule, both averages, the order of the crops.
LONG = [*SMALL, "--start=klt", "--klt_step=100", f"--steps={STEPS}", "--schedule=cosine", "--weight_average=0.9",
        "--rate_step=5", "--gradient_clip=400", "--summary_every=5", f"--checkpoint_every={CHECKPOINT}",
        "--validate_every=50"]


def _start(run, *flags):
  return programs.start("train_compression", f"--run_dir={run}", *flags)


def _history(run):
  lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
  return {line["step"]: line for line in lines}


@pytest.fixture(name="photos", scope="module")
def fixture_photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("photos")
  rng = np.random.default_rng(0)
  rows, columns = np.mgrid[:48, :64] / 16.0
  for number in range(5):
    y, x = rng.uniform(0.5, 3, 2)
    image = np.stack([128 + 90 * np.sin(y * rows + x * columns + phase) for phase in rng.uniform(0, 6, 3)], axis=-1)
    image[12:30, 20:50] = rng.integers(0, 256, 3)
    Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
  return folder


@pytest.fixture(name="finished", scope="module")
def fixture_finished(photos, tmp_path_factory):
  run = tmp_path_factory.mktemp("runs") / "finished"
  code, output = programs.finish(_start(run, f"--images={photos}", *LONG))
  assert code == 0, output[-3000:]
  return run


def test_training_lowers_the_loss(finished):
  mse = programs.curve(finished, "mse")
  assert sorted(mse) == list(range(5, STEPS + 1, 5))
  assert np.mean([mse[step] for step in (85, 90, 95, 100)]) < 0.7 * np.mean([mse[step] for step in (5, 10, 15, 20)])
  history = _history(finished)
  assert sorted(history) == [50, 100]
  assert history[100]["psnr"] > history[50]["psnr"] > 10
  # C * H / 64, with H at most log2 of 9 centers.
  bits = programs.curve(finished, "bits_per_symbol")
  assert all(0 < value <= np.log2(9) for value in bits.values())
  assert programs.curve(finished, "bits_per_pixel")[100] == pytest.approx(4 * bits[100] / 64)


def test_run_ends_in_an_operating_point(finished, photos):
  codec = dc.Codec.load(str(finished / "operating_point"))
  assert (codec.operating_point, codec.channels) == ("tiny", 4)
  image = np.array(Image.open(photos / "2.png"))
  data = codec.compress(image)
  assert codec.decompress(data).shape == image.shape
  np.testing.assert_array_equal(codec.symbols(data), codec.encode(image))
  assert codec.info["trained"]["steps"] == STEPS
  reached = codec.info["reached_on_validation"]
  # The photos are too small for MS-SSIM, which is then left out.
  assert set(reached) == {"bits_per_pixel", "bits_per_pixel_pooled", "psnr", "ssim"}
  last = _history(finished)[STEPS]
  assert last == {"step": STEPS, "seconds": last["seconds"], **reached}
  assert reached["psnr"] > _history(finished)[50]["psnr"]


def test_killed_run_continues_as_if_nothing_had_happened(finished, photos, tmp_path):
  run = tmp_path / "killed"
  process = _start(run, f"--images={photos}", *LONG)
  programs.kill_after_checkpoint(process, run, 2 * CHECKPOINT)
  assert not (run / "operating_point").exists()

  code, output = programs.finish(_start(run, f"--images={photos}", *LONG))
  assert code == 0, output[-3000:]
  assert "Continuing from step" in output
  for name in ("loss", "mse", "bits_per_symbol", "learning_rate"):
    expected, resumed = programs.curve(finished, name), programs.curve(run, name)
    assert sorted(resumed) == sorted(expected)
    for step, value in expected.items():
      assert resumed[step] == pytest.approx(value, rel=1e-3), (name, step)
  expected, resumed = _history(finished), _history(run)
  assert sorted(resumed) == sorted(expected)
  for step, figures in expected.items():
    for name in ("psnr", "bits_per_pixel"):
      assert resumed[step][name] == pytest.approx(figures[name], rel=1e-3), (name, step)


def test_run_goes_on_after_an_early_export(finished, photos, tmp_path):
  run, flags = tmp_path / "run", [f"--images={photos}", *LONG]
  line, _ = programs.error(_start(run, *flags, "--export_now"))
  assert f"takes a run with a checkpoint. Received: --run_dir={run}" in line and not (run / "operating_point").exists()
  programs.kill_after_checkpoint(_start(run, *flags), run, 2 * CHECKPOINT)
  for early in (True, False):
    code, output = programs.finish(_start(run, *flags, *["--export_now"] * early))
    assert code == 0, output[-3000:]
    steps = dc.Codec.load(str(run / "operating_point")).info["trained"]["steps"]
    assert 2 * CHECKPOINT <= steps < STEPS if early else steps == STEPS
  assert _history(run)[STEPS]["psnr"] == pytest.approx(_history(finished)[STEPS]["psnr"], rel=1e-3)
  code, output = programs.finish(_start(run, *flags))
  assert code == 0 and "The run is done" in output


def test_other_settings_of_a_finished_run_are_refused(finished, photos):
  line, _ = programs.error(_start(finished, f"--images={photos}", *LONG, "--channels=6"))
  assert "channels was 4 and is now 6" in line and "expected a new folder" in line
  assert json.loads((finished / "settings.json").read_text())["channels"] == 4


@pytest.mark.parametrize("flags, message", [
    (["--crop_size=30"], "--crop_size must be a multiple of 8. Received: 30"),
    (["--images=no/such/folder"], "Received: no/such/folder"),
    (["--start=bpp9.9"], "no operating point 'bpp9.9'"),
])
def test_bad_values_are_named(photos, tmp_path, flags, message):
  line, _ = programs.error(_start(tmp_path / "run", f"--images={photos}", *SMALL, "--steps=1", *flags))
  assert message in line


def test_bad_values_give_no_traceback(photos, tmp_path):
  _, output = programs.error(_start(tmp_path / "run", f"--images={photos}", *SMALL, "--steps=1", "--crop_size=30"))
  assert "Traceback" not in output


@pytest.mark.parametrize("flags, message", [
    ([], "--channels"),
    ([*SMALL, "--steps=1", "--entropy=huffman"], "pooled|per_channel|context"),
])
def test_flags_out_of_range(tmp_path, flags, message):
  _, output = programs.error(_start(tmp_path / "run", *flags))
  assert message in output and "Traceback" not in output
