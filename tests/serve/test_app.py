"""The service over HTTP: what it answers, what it refuses, and that answers do not depend on who asks at the same time."""

import io
import threading
from unittest import mock

import numpy as np
from PIL import Image
import pytest

import deepcomp_tf as dc
from deepcomp_tf.codec.images import encode_png

for package in ("fastapi", "httpx2", "lancedb", "prometheus_client", "uvicorn"):
  pytest.importorskip(package, reason="the extras serve and test are not installed")

from fastapi import testclient  # pylint: disable=wrong-import-position
from deepcomp_tf.serve import app as apps  # pylint: disable=wrong-import-position
from deepcomp_tf.serve import service as services  # pylint: disable=wrong-import-position

NOISE = np.random.default_rng(0).integers(0, 256, [40, 40, 3], np.uint8)
LOCAL = "http://127.0.0.1"


def _service(library, golden):
  return services.Service(library, golden / "operating_point", networks=[golden / "classifier"], max_pixels=50_000)


@pytest.fixture(name="client")
def fixture_client(copy, golden):
  with testclient.TestClient(apps.make_app(_service(copy, golden), max_bytes=2 ** 20), LOCAL) as client:
    yield client


def test_an_upload_is_stored_found_and_given_back(client, copy, golden):
  new = encode_png(NOISE)
  answer = client.post("/photos?name=new/noise.png", content=new)
  stored = answer.json()
  assert answer.status_code == 201 and stored["name"] == "new/noise.png" and stored["new"]
  photo = dc.Library(copy.path)["new/noise.png"]  # another process finds it, too
  data = dc.Codec.load(golden / "operating_point").compress(NOISE)
  assert photo.id == stored["id"] and photo.data == data and (stored["width"], stored["bytes"]) == (40, len(data))
  assert [(label["name"], label["probability"]) for label in stored["labels"]] == [
      (name, pytest.approx(probability, abs=1e-6)) for name, probability in photo.labels]
  assert stored["shares"] == {name: pytest.approx(share, abs=1e-6) for name, share in photo.shares.items() if share}
  place = f"/photos/{stored['id']}"
  assert client.get(f"{place}/labels").json() == {name: value for name, value in stored.items() if name != "new"}
  assert client.get(f"{place}/file").content == data
  decoded = dc.Codec.load(golden / "operating_point").decompress(data)
  for _ in range(2):  # the second time from memory
    picture = client.get(f"{place}?format=png")
    assert picture.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture.content))), decoded)
  small = client.get(f"{place}?width=10")
  assert Image.open(io.BytesIO(small.content)).size == (10, 10) and small.headers["content-type"] == "image/jpeg"
  assert Image.open(io.BytesIO(client.get(f"{place}?width=100").content)).size == (40, 40)
  mask = dc.Segmenter.load(golden / "segmenter").segment(data)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(client.get(f"{place}/mask").content))), mask)
  again = client.post("/photos?name=other", content=new)
  assert again.status_code == 200 and again.json() == {**stored, "new": False}
  # A name that is taken gets the beginning of the id.
  other = client.post("/photos?name=new/noise.png", content=encode_png(NOISE[::-1])).json()
  assert other["name"] == f"new/noise-{other['id'][:8]}.png"
  file = client.post("/photos", content=dc.Codec.load(golden / "operating_point").compress(NOISE[:, ::-1])).json()
  assert file["name"] == f"uploads/{file['id']}"


def test_searches_are_the_librarys(client, copy):
  hits = client.get("/search?text=animal&at_least=0").json()["hits"]
  expected = copy.search("animal", at_least=0)
  assert [(hit["name"], hit["score"]) for hit in hits] == [(hit.name, pytest.approx(hit.score, abs=1e-6)) for hit in expected]
  assert hits[0]["labels"][0]["name"] == expected[0].labels[0][0]
  for like in (hits[0]["id"], hits[0]["name"]):
    found = client.get("/search", params={"like": like, "top": 2}).json()["hits"]
    assert [hit["name"] for hit in found] == [hit.name for hit in copy.search(like=hits[0]["name"], top=2)]
  assert len(client.get("/search").json()["hits"]) == len(copy)


def test_nothing_is_stored_where_it_was_not_asked_for(client, copy, golden, uploads):
  data, count = uploads["coffee.png"], len(copy)
  row, = copy.table.search().where("name = 'coffee.png'").to_list()
  answer = client.post("/classify", content=data).json()
  assert answer["labels"][0] == {"name": row["labels"][0], "probability": pytest.approx(row["probabilities"][0], abs=1e-5)}
  np.testing.assert_allclose(client.post("/embed", content=row["data"]).json()["vector"], row["vector"], atol=2e-3)
  mask = np.asarray(Image.open(io.BytesIO(client.post("/segment", content=row["data"]).content)))
  np.testing.assert_array_equal(mask, dc.Segmenter.load(golden / "segmenter").segment(row["data"]))
  assert len(copy) == count


def test_what_it_refuses_is_said_in_one_form(client, copy, golden, uploads):
  count, data = len(copy), dc.Codec.load(golden / "operating_point").compress(NOISE)
  large = encode_png(np.zeros([400, 300, 3], np.uint8))
  for place, content, status, line in (
      ("/photos", b"", 400, "expected a photo"), ("/photos", b"no photo", 400, "Received: a file that is neither"),
      ("/photos", encode_png(NOISE)[:2000], 400, "expected an image"), ("/photos", data[:-1], 400, "damaged or truncated"),
      ("/photos", data[:6] + b"\xff\xff\x7f" + data[7:], 400, "damaged"),
      ("/photos", large, 400, "expected at most 0.05 megapixels here. Received: 300x400"),
      ("/photos?name=../up.png", uploads["coffee.png"], 400, "expected a name such as"),
      ("/photos?name=/up.png", uploads["coffee.png"], 400, "expected a name such as"),
      ("/photos", bytes(2 ** 20 + 1), 413, "expected at most 1 MB"), ("/classify", b"no photo", 400, "neither"),
      ("/photos", iter([bytes(2 ** 19)] * 3), 413, "expected at most 1 MB"),  # which does not say how long it is
      ("/look?effort=11", data, 400, "expected another value of effort"),
      ("/look?operating_point=x", uploads["coffee.png"], 400, "Received: x")):
    answer = client.post(place, content=content)
    assert answer.status_code == status and line in answer.json()["error"], (place, answer.text)
  for place, status, line in (
      ("/photos/0123", 404, "expected the id"), ("/photos/' OR true OR id = '/file", 404, "expected the id"),
      ("/search?top=0", 400, "expected another value of top"), ("/search?text=xyz", 400, "Received: 'xyz'"),
      ("/search?like=/etc/passwd", 404, "expected the id or the name"), ("/search?text=cat&like=coffee.png", 400, "both"),
      ("/search?class_share=cat", 400, "expected a class of VOC"), ("/nowhere", 404, "Not Found"),
      ("/classify", 405, "Not Allowed")):
    answer = client.get(place)
    assert answer.status_code == status and line in answer.json()["error"], (place, answer.text)
  assert len(copy) == count


def test_only_this_machines_page_may_ask_without_a_token(client):
  page = client.get("/")
  assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
  assert "http" not in page.text.replace('http://www.w3.org', "")  # nothing from elsewhere
  assert client.get("/search", headers={"origin": LOCAL}).status_code == 200
  for headers in ({"host": "example.org"}, {"origin": "http://example.org"}, {"origin": "null"}):
    assert client.get("/search", headers=headers).status_code == 403


def test_a_token(library, golden):
  with testclient.TestClient(apps.make_app(_service(library, golden), "secret"), "http://photos.example.org") as client:
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}, {"authorization": b"Bearer \xff"}):
      for method, place in (("GET", "/search"), ("POST", "/photos"), ("GET", "/metrics"), ("GET", "/photos/1/file")):
        answer = client.request(method, place, headers=headers)
        assert answer.status_code == 401 and "expected the service's token" in answer.json()["error"]
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/search", headers={"authorization": "Bearer secret"}).status_code == 200
    assert client.get("/").status_code == client.get("/health").status_code == 200  # the page, which asks for it


def test_hosts():
  assert all(map(apps.is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]")))
  assert not any(map(apps.is_loopback, ("0.0.0.0", "192.168.1.2", "::", "localhost.example.org", "")))


def test_a_full_queue_and_what_was_begun(copy, golden, uploads):
  service = _service(copy, golden)
  inside, go_on, statuses = threading.Event(), threading.Event(), []
  understand = service.work["understand"]

  def slow(items):
    inside.set()
    go_on.wait(30)
    return understand(items)

  service.work["understand"] = slow
  with testclient.TestClient(apps.make_app(service, most_waiting=2), LOCAL) as client:
    ask = lambda: statuses.append(client.post("/classify", content=uploads["coffee.png"]).status_code)
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
      thread.start()
      assert inside.wait(30)
    while client.get("/health").json()["waiting"] < 1:
      pass
    refused = client.post("/photos", content=uploads["coffee.png"])
    assert refused.status_code == 503 and "at most 2 requests" in refused.json()["error"]
    assert refused.headers["retry-after"] == "2"
    assert client.get("/search").status_code == 200  # which takes no network
    go_on.set()
    for thread in threads:
      thread.join()
    assert statuses == [200, 200]
    told = client.get("/metrics").text
    assert 'deepcomp_requests_total{route="/classify",status="200"} 2.0' in told
    assert 'deepcomp_batch_size_count{kind="understand"} 2.0' in told
    assert 'deepcomp_requests_total{route="/photos",status="503"} 1.0' in told


def test_together_as_one_by_one(copy, golden, uploads):
  """Photos of several sizes, a file, one twice and a broken one, in one batch."""
  service, photos = _service(copy, golden), [encode_png(NOISE + number) for number in range(3)]
  wanted = [*uploads.values(), (golden / "photo.deepcomp").read_bytes(), b"broken"]
  alone = [service.understand([data])[0] for data in wanted]
  together = service.understand(wanted)
  for one, same in zip(alone[:-1], together[:-1]):
    np.testing.assert_allclose(one["vector"], same["vector"], atol=2e-3)
    assert one["labels"][0]["name"] == same["labels"][0]["name"]
  assert str(alone[-1]) == str(together[-1]) and isinstance(together[-1], dc.DeepcompError)
  assert service.segment(wanted)[:-1] == [service.segment([data])[0] for data in wanted[:-1]]
  stored = service.add([("a.png", photos[0]), ("a.png", photos[1]), ("broken", b"broken"), ("b.png", photos[0]),
                        ("c.png", photos[2])])
  assert [isinstance(answer, Exception) for answer in stored] == [False, False, True, False, False]
  assert stored[0] == stored[3] and stored[0]["name"] == "a.png" and stored[1]["name"] == f"a-{stored[1]['id'][:8]}.png"
  assert {photo.name for photo in copy} >= {"a.png", stored[1]["name"], "c.png"}


def test_what_another_process_did_meanwhile(copy, golden, uploads, tmp_path):
  service = _service(copy, golden)
  dc.Library(copy.path).remove(["coffee.png"])
  again, = service.add([("coffee.png", uploads["coffee.png"])])
  assert again["new"] and copy["coffee.png"].id == again["id"]
  (tmp_path / "x.png").write_bytes(encode_png(NOISE))
  dc.Library(copy.path).add([tmp_path / "x.png"], golden / "operating_point", networks=[golden / "classifier"])
  other, = service.add([("x.png", encode_png(NOISE[::-1]))])
  assert other["new"] and other["name"] == f"x-{other['id'][:8]}.png" and not list(copy.verify())


def test_parts_are_put_together(copy, golden):
  with mock.patch.object(services, "MOST_PARTS", 3):
    service = _service(copy, golden)
    for number in range(4):
      service.add([(f"{number}.png", encode_png(NOISE - number))])
  assert copy.table.stats()["fragment_stats"]["num_fragments"] <= 3 and not list(copy.verify())
