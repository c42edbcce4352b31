"""What pip must be able to say of an installation, and what comes with a wheel."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

from PIL import Image
import pytest

ROOT = pathlib.Path(__file__).parent.parent


def test_installed_packages_fit_together():
  result = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stdout


def test_constraints_pin_every_dependency():
  pins = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")
          for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")}
  setup = (ROOT / "setup.py").read_text()
  needed = set(re.findall(r'"([\w-]+)(?:>=|\[)', setup)) - {"3"}
  assert needed and needed <= pins


def test_advice_to_install_keeps_the_editable_installation():
  """Without -e, pip would put a copy in its place, which knows nothing of the clone's files."""
  setup = (ROOT / "setup.py").read_text()
  extras = set(re.findall(r'^        "(\w+)": ', setup[setup.index("extras_require"):], re.MULTILINE))
  texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deepcomp_tf").rglob("*.py"),
                                         *(ROOT / "experiments").glob("*.py"))]
  advice = [line for text in texts for line in re.findall(r"pip install [^`\n]*?'?\.\[[\w{}]+\]", text)]
  assert len(advice) > 5 and all(" -e '.[" in line for line in advice), advice
  advised = {line.split("[")[1][:-1] for line in advice} - {"{extra}"} | {
      extra for text in texts for extra in re.findall(r"to_install\(['\"](\w+)", text)}
  assert advised >= {"library", "serve", "formats", "graft"} and advised <= extras


@pytest.fixture(name="installed", scope="module")
def fixture_installed(tmp_path_factory):
  """The folder of an installation, from a wheel of nothing but files that git would keep."""
  folder = tmp_path_factory.mktemp("wheel")
  for name in ("setup.py", "README.md"):
    shutil.copy(ROOT / name, folder)
  for name in ("deepcomp_tf", "experiments", "flags"):
    shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
  build = [sys.executable, "-c", "import setuptools.build_meta as build; build.build_wheel('.')"]
  subprocess.run(build, cwd=folder, check=True, capture_output=True)
  wheel, = folder.glob("*.whl")
  with zipfile.ZipFile(wheel) as file:
    file.extractall(folder / "installed")
  return folder / "installed"


@pytest.mark.slow
def test_a_wheel_has_all_but_earlier_encoders(installed):
  def files_of(root, *folders):
    paths = (path for folder in folders for path in (root / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in paths if "__pycache__" not in path.parts}

  expected = files_of(ROOT, "deepcomp_tf") | {f"deepcomp_tf/{path}" for path in files_of(ROOT, "experiments", "flags")}
  missing = expected - files_of(installed, "deepcomp_tf")
  assert all(re.search(r"/encoder[2-9]\.npz$", path) for path in missing), missing
  wheel, = installed.parent.glob("*.whl")
  assert wheel.stat().st_size < 60e6


@pytest.mark.slow
def test_a_wheel_runs_its_programs_from_any_folder(installed, tmp_path):
  """With its flagfiles, and advice that fits who has no checkout."""
  def run(code):
    return subprocess.run([sys.executable, *code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, text=True,
                          capture_output=True, check=False)

  Image.new("RGB", (48, 40)).save(tmp_path / "photo.png")
  compressed = run(["-m", "deepcomp_tf.experiments.compress_photos", "--photos=*.png", "--operating_point=bpp0.0983",
                    "--output_dir=files"])
  assert compressed.returncode == 0 and (tmp_path / "files/photo.deepcomp").exists(), compressed.stderr[-3000:]
  started = run(["-m", "deepcomp_tf.experiments.train_compression", "--flagfile=flags/compression/bpp0.0983_small.flags",
                 "--images=missing", "--run_dir=run"])
  assert (started.returncode, started.stderr.splitlines()[-1]) == (
      1, "error: expected a folder with images or a pattern that matches some. Received: missing")
  code = ("import deepcomp_tf as dc\nfrom deepcomp_tf.errors import to_install\nprint(to_install('serve'))\n"
          "dc.Codec.load('bpp0.330', encoder_version=1)\n"
          "try:\n  dc.Codec.load('bpp0.330', encoder_version=2)\nexcept dc.DeepcompError as error:\n  print(error)")
  advice, error = run(["-c", code]).stdout.splitlines()
  assert advice == "pip install 'deepcomp_tf[serve]'"
  assert error.startswith("encoder 2 of bpp0.330 is missing")
