"""The page's server: what it answers, what it refuses, and that it keeps to this machine. (The page itself wants a browser.)"""

import base64
import io
import json
import threading

import numpy as np
from PIL import Image
import pytest

import deepcomp_tf as dc
from deepcomp_tf import demo
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png

flask = pytest.importorskip("flask", reason="the extra demo is not installed")


@pytest.fixture(name="client", scope="module")
def fixture_client():
  return demo.make_app(max_megapixels=0.05).test_client()


def _pixels(url):
  kind, data = url.split(",")
  assert kind == "data:image/png;base64"
  with Image.open(io.BytesIO(base64.b64decode(data))) as image:
    return np.asarray(image)


@pytest.mark.slow
def test_a_photo_is_compressed_shown_and_understood_and_its_file_opened_again(client):
  photo = samples.photos(200)["chelsea"]
  shown = client.post("/compress/bpp0.330", data=encode_png(photo)).get_json()
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
  assert classes["text"] == classifier.describe() and "cat" in mask["text"] and mask["text"] in mask["alt"]
  assert _pixels(mask["picture"]).shape == photo.shape and _pixels(shown["channels"]).max() == 255
  searched = client.post("/compress/bpp0.330?effort=1", data=encode_png(photo)).get_json()
  assert base64.b64decode(searched["file"]) == codec.compress(photo, effort=1)
  again = client.post("/open", data=data).get_json()
  same = ("point", "bytes", "picture", "channels", "understood")
  assert {name: again[name] for name in same} == {name: shown[name] for name in same} and "peers" not in again


@pytest.mark.slow
def test_a_picture_of_one_colour_is_valid_json(client):
  """JPEG and WebP give it back exactly; JSON has no infinity."""
  answer = client.post("/compress/bpp0.330", data=encode_png(np.full([64, 64, 3], 255, np.uint8)))
  assert answer.status_code == 200

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")
  shown = json.loads(answer.get_data(as_text=True), parse_constant=refuse)
  assert shown["peers"]["webp"]["psnr"] is None and shown["psnr"] > 20


def test_what_it_refuses_is_said_in_a_line(client):
  large, small = encode_png(np.zeros([400, 300, 3], np.uint8)), encode_png(np.zeros([9, 7, 3], np.uint8))
  codec = dc.Codec.load("bpp0.330")
  data = codec.compress(np.zeros([16, 16, 3], np.uint8))
  for place, body, status, line in (
      ("/compress/bpp0.330", large, 400, "expected at most 0.05 megapixels here. Received: 300x400, 0.1 megapixels"),
      ("/open", codec.compress(np.zeros([400, 300, 3], np.uint8)), 400, "expected at most 0.05 megapixels here. Received: 300x400"),
      ("/compress/bpp0.330", b"some text", 400, "expected a photo (JPEG, PNG, WebP and what else Pillow reads)"),
      ("/compress/bpp0.330", encode_png(samples.photos(120)["coffee"])[:3000], 400, "Received: the photo"),
      ("/compress/bpp0.330", b"", 400, "expected a photo"),
      ("/compress/bpp0.330?effort=10", small, 400, "`effort` must be an integer in 0..9. Received: effort=10"),
      ("/compress/bpp0.330?effort=-1", small, 400, "expected an effort in 0..9. Received: -1"),
      ("/compress/bpp1", small, 400, "expected an operating point, bpp0.0983, bpp0.330, bpp0.635. Received: bpp1"),
      ("/open", data[:-1], 400, "damaged or truncated"), ("/open", b"some text", 400, "not a compressed image"),
      ("/compress/bpp0.330", bytes(3 << 20), 413, "expected at most 2 MB")):
    answer = client.post(place, data=body)
    assert answer.status_code == status and line in answer.get_json()["error"], (place, answer.get_json())
  assert client.get("/sample/nobody").status_code == 404


def test_it_keeps_to_this_machine(client):
  page = client.get("/")
  text = page.get_data(as_text=True)
  assert page.status_code == 200 and all(name in text for name in samples.photos()) and "//" not in text
  assert "default-src 'none'" in page.headers["Content-Security-Policy"]
  assert client.get("/", headers={"Host": "example.org"}).status_code == 403
  assert client.post("/open", data=b"", headers={"Origin": "http://example.org"}).status_code == 403
  assert np.array_equal(np.asarray(Image.open(io.BytesIO(client.get("/sample/coffee").data))), samples.photos()["coffee"])


def test_one_works_a_few_wait_and_the_others_are_refused():
  turns, inside, go_on, order = demo.Turns(most_waiting=1), threading.Event(), threading.Event(), []

  def work(number):
    with turns:
      order.append(number)
      inside.set()
      go_on.wait(30)

  first, second = (threading.Thread(target=work, args=[number]) for number in range(2))
  first.start()
  assert inside.wait(30)
  second.start()
  while turns._room.acquire(blocking=False):  # until the second one waits  # pylint: disable=protected-access
    turns._room.release()  # pylint: disable=protected-access
  with pytest.raises(demo.Busy, match="try again"):
    work(2)
  assert order == [0]
  go_on.set()
  for thread in (first, second):
    thread.join(30)
  assert order == [0, 1]
