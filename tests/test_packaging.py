"""What pip must be able to say of an installation."""

import re
import pathlib
import subprocess
import sys

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
