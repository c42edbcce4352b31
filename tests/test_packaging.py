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


def test_advice_to_install_keeps_the_editable_installation():
  """Without -e, pip would put a copy in its place, which knows nothing of the clone's files."""
  setup = (ROOT / "setup.py").read_text()
  extras = set(re.findall(r'^        "(\w+)": ', setup[setup.index("extras_require"):], re.MULTILINE))
  texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deepcomp_tf").rglob("*.py"),
                                         *(ROOT / "experiments").glob("*.py"))]
  advice = [line for text in texts for line in re.findall(r"pip install [^`\n]*?'?\.\[\w+\]", text)]
  assert len(advice) > 5 and all(" -e '.[" in line for line in advice), advice
  assert {line.split("[")[1][:-1] for line in advice} <= extras
