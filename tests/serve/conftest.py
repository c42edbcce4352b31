"""What tests of the service share: the golden networks in place of the shipped ones, and a library of a few photos by them."""

import functools
import importlib
import pathlib
import shutil

import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.tasks import folder

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
understanding = importlib.import_module("deepcomp_tf.library.understanding")


@pytest.fixture(name="golden", scope="module")
def fixture_golden():
  """The golden segmenter and classifier stand for shipped ones of their operating point, and everything is loaded once."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(folder, "shipped_for", lambda kind, fingerprint: str(GOLDEN / kind))
    patch.setattr(understanding.Understanding, "load", functools.cache(understanding.Understanding.load))
    patch.setattr(dc.Codec, "load", staticmethod(functools.cache(dc.Codec.load)))
    yield GOLDEN


@pytest.fixture(name="uploads", scope="module")
def fixture_uploads():
  """Bytes of photos by their names, of a few sizes."""
  return {f"{name}.png": encode_png(photo[:40, :40 + 8 * (number % 2)])
          for number, (name, photo) in enumerate(samples.photos().items())}


@pytest.fixture(name="library", scope="module")
def fixture_library(golden, uploads, tmp_path_factory):
  """A library of these, by the golden networks, that nobody changes."""
  photos = tmp_path_factory.mktemp("library") / "photos"
  photos.mkdir()
  for name, data in uploads.items():
    (photos / name).write_bytes(data)
  library = dc.Library(photos.parent / "library")
  library.add([photos / name for name in uploads], golden / "operating_point", networks=[golden / "classifier"])
  return library


@pytest.fixture(name="copy")
def fixture_copy(library, tmp_path):
  """A copy of it."""
  shutil.copytree(library.path, tmp_path / "library")
  return dc.Library(tmp_path / "library")
