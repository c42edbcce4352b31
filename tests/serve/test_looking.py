"""What the page shows of a photo: what networks, codecs and other formats themselves say of it."""

import base64
import io
import json

import numpy as np
from PIL import Image
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.serve import looking
from deepcomp_tf.tasks import quick

MOST = 50_000


@pytest.fixture(name="networks", scope="module")
def fixture_networks():
  return looking.Networks()


def _pixels(url):
  kind, data = url.split(",")
  assert kind == "data:image/png;base64"
  with Image.open(io.BytesIO(base64.b64decode(data))) as image:
    return np.asarray(image)


@pytest.mark.slow
def test_a_photo_is_compressed_shown_and_understood_and_its_file_opened_again(networks):
  photo = samples.photos(200)["chelsea"]
  shown = looking.show_photo(networks, "bpp0.330", encode_png(photo), MOST)
  codec = dc.Codec.load("bpp0.330")
  data = codec.compress(photo)
  assert base64.b64decode(shown["file"]) == data and shown["bytes"] == len(data)
  np.testing.assert_array_equal(_pixels(shown["picture"]), codec.decompress(data))
  assert shown["bits_per_pixel"] == pytest.approx(8 * len(data) / photo.shape[0] / photo.shape[1], abs=1e-4)
  error = np.mean((codec.decompress(data).astype(float) - photo) ** 2)
  assert shown["psnr"] == pytest.approx(10 * np.log10(255 ** 2 / error), abs=1e-3)
  for peer in shown["peers"].values():
    assert 0 < peer["bytes"] <= len(data) and _pixels(peer["picture"]).shape == photo.shape
  classifier = dc.Classifier.load_for(data)
  classes, mask = shown["understood"]  # what a vector is nobody can see
  assert [entry.rsplit(" ", 2)[0] for entry in classes["entries"]] == [name for name, _ in classifier.classify(data)[:3]]
  assert classes["about"] == classifier.describe()
  cat, = (entry for entry in mask["legend"] if entry["text"].startswith("cat "))
  assert cat["text"] in mask["alt"] and list(cat["color"]) == [64, 0, 0]
  assert _pixels(mask["picture"]).shape == photo.shape and _pixels(shown["channels"]).max() == 255
  searched = looking.show_photo(networks, "bpp0.330", encode_png(photo), MOST, effort=1)
  assert base64.b64decode(searched["file"]) == codec.compress(photo, effort=1)
  networks.compare()
  again = looking.show_file(networks, data, MOST)
  same = ("point", "bytes", "picture", "channels", "understood")
  # Beside it, from the second look on, what the same networks take behind the decoder, which is in it.
  assert shown["seconds_through_pixels"] is None
  assert again["seconds_through_pixels"] >= again["seconds_decompressing"] > 0
  assert {name: again[name] for name in same} == {name: shown[name] for name in same} and "peers" not in again


@pytest.mark.slow
def test_a_picture_of_one_colour_is_valid_json(networks):
  """JPEG and WebP give it back exactly; JSON has no infinity."""
  shown = looking.show_photo(networks, "bpp0.330", encode_png(np.full([64, 64, 3], 255, np.uint8)), MOST)
  json.dumps(shown, allow_nan=False)
  assert shown["peers"]["webp"]["psnr"] is None and shown["psnr"] > 20


@pytest.mark.slow
def test_litert_answers_first_and_tensorflow_once_it_is_compared_with_pixels(tmp_path, monkeypatch):
  monkeypatch.setenv("DEEPCOMP_LITERT", "1")
  monkeypatch.setattr("deepcomp_tf.caches.CACHE_DIR", str(tmp_path))
  data = dc.Bitstream(dc.Codec.load("bpp0.0983").compress(samples.photos(64)["chelsea"]))
  quick.keep(dc.Classifier.load_for(data))
  networks = looking.Networks(quick.Loader())
  networks.tasks = [dc.Classifier]
  (first,), through = networks.for_file(data)
  assert isinstance(first.network, quick.Network) and through is None
  networks.compare()
  (then,), (run,) = networks.for_file(data)
  assert isinstance(then.network, dc.models.Graft)
  assert dict(then.classify(data)) == pytest.approx(dict(first.classify(data)), abs=2e-5)
  assert run(np.zeros([64, 64, 3], np.uint8)).shape == (1, 1000)
