"""`dc.Library`: what is added is found again, whatever happens on the way.
A small library, by the golden networks, serves all."""

import collections
import datetime
import functools
import importlib
import json
import pathlib
import shutil
import subprocess
import sys
import threading

import numpy as np
from PIL import ExifTags
from PIL import Image
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.tasks import folder
from programs import deepcomp_here

lancedb = pytest.importorskip("lancedb", reason="the extra library is not installed")
GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SETTINGS = {"operating_point": str(GOLDEN / "operating_point"), "networks": [str(GOLDEN / "classifier")]}
# Not `from deepcomp_tf.library import ...`, which are modules that wait to be imported.
adding, reindexing, searching, understanding = (importlib.import_module(f"deepcomp_tf.library.{name}") for name in (
    "adding", "reindexing", "searching", "understanding"))
TAKEN = datetime.datetime(2024, 5, 17, 12, 30, 1)


@pytest.fixture(scope="module", autouse=True)
def fixture_networks():
  """The golden segmenter and classifier stand for shipped ones of their operating point, and everything is loaded once."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(folder, "shipped_for", lambda kind, fingerprint: str(GOLDEN / kind))
    patch.setattr(understanding.Understanding, "load", functools.cache(understanding.Understanding.load))
    patch.setattr(dc.Codec, "load", staticmethod(functools.cache(dc.Codec.load)))
    yield


@pytest.fixture(name="photos", scope="module")
def fixture_photos(tmp_path_factory):
  """A folder of photos, one with EXIF, one that is none, and a .deepcomp file."""
  photos = tmp_path_factory.mktemp("photos") / "photos"
  (photos / "below").mkdir(parents=True)
  for name, photo in samples.photos().items():
    Image.fromarray(photo[:40, :48]).save(photos / f"{name}.png")
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 6
  exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = TAKEN.strftime("%Y:%m:%d %H:%M:%S")
  exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (33.0, 30.0, 36.0), 3: "E", 4: (151.0, 15.0, 0.0)})
  Image.fromarray(samples.photos()["chelsea"][40:80, :48]).save(photos / "below" / "turned.jpg", exif=exif)
  (photos / "broken.jpg").write_bytes(b"no photo")
  (photos / "text.txt").write_text("no photo")
  shutil.copy(GOLDEN / "photo.deepcomp", photos)
  return photos


@pytest.fixture(name="made", scope="module")
def fixture_made(photos, tmp_path_factory):
  """A library of these, and the report."""
  library = dc.Library(tmp_path_factory.mktemp("library") / "library")
  return library, library.add([photos], **SETTINGS)


@pytest.fixture(name="library")
def fixture_library(made, tmp_path):
  """A copy of it."""
  shutil.copytree(made[0].path, tmp_path / "library")
  return dc.Library(tmp_path / "library")


def test_what_was_added(made, photos):
  library, report = made
  count = len(samples.photos()) + 2
  assert (report.added, report.known, len(library)) == (count, 0, count)
  assert list(report.failed) == [str(photos / "broken.jpg")] and report.others == [str(photos / "text.txt")]
  classifier, segmenter = dc.Classifier.load(GOLDEN / "classifier"), dc.Segmenter.load(GOLDEN / "segmenter")
  for photo in library:
    for (name, probability), expected in zip(photo.labels, classifier.classify(photo.data)):
      assert (name, pytest.approx(probability, abs=1e-3)) == expected
    shares = {known.name: share for known, share in segmenter.shares(segmenter.segment(photo.data))}
    assert {name: pytest.approx(share) for name, share in photo.shares.items() if share} == shares
  assert library["photos/photo.deepcomp"].data == (GOLDEN / "photo.deepcomp").read_bytes()
  assert library["photos/chelsea.png"].data == dc.Codec.load(GOLDEN / "operating_point").compress(
      samples.photos()["chelsea"][:40, :48])


def test_when_and_how_a_photo_was_taken(made, photos, tmp_path):
  row, = made[0].table.search().where("name = 'photos/below/turned.jpg'").to_list()
  assert (row["taken"], row["orientation"], row["width"], row["height"]) == (TAKEN, 6, 40, 48) and row["latitude"] is None
  other = dc.Library(tmp_path / "other")
  other.add([photos / "below" / "turned.jpg"], keep_location=True, **SETTINGS)
  row, = other.table.search().to_list()
  assert row["name"] == "turned.jpg" and (row["latitude"], row["longitude"]) == pytest.approx((-33.51, 151.25))


def test_what_is_there_is_left_alone_and_names_are_one_photos(library, photos, tmp_path):
  version = library.table.version
  report = library.add([photos, photos / "below"], **SETTINGS)
  assert (report.added, report.known) == (0, len(library) + 1) and library.table.version == version
  (tmp_path / "photos").mkdir()
  Image.fromarray(samples.photos()["coffee"][:32, :32]).save(tmp_path / "photos" / "chelsea.png")
  failed, = library.add([tmp_path / "photos"], **SETTINGS).failed.values()
  assert "Received: photos/chelsea.png; --overwrite replaces it" in str(failed) and library["photos/chelsea.png"].width == 48
  assert library.add([tmp_path / "photos"], overwrite=True, **SETTINGS).added == 1
  assert library["photos/chelsea.png"].width == 32 and len(library) == len(samples.photos()) + 2
  for number in range(2):
    (tmp_path / str(number)).mkdir()
    Image.fromarray(samples.photos()["coffee"][:16, :16 + number]).save(tmp_path / str(number) / "twice.png")
  report = library.add([tmp_path / "0" / "twice.png", tmp_path / "1" / "twice.png"], overwrite=True, **SETTINGS)
  assert report.added == len(report.failed) == 1 and library["twice.png"].width == 16


def test_two_that_add_at_once(photos, tmp_path, monkeypatch):
  monkeypatch.setattr(adding, "BATCH", 2)
  reports = []
  libraries = [dc.Library(tmp_path / "library") for _ in range(2)]
  threads = [threading.Thread(target=lambda library=library: reports.append(library.add([photos], **SETTINGS)))
             for library in libraries]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  names = [photo.name for photo in libraries[0]]
  assert len(reports) == 2 and len(names) == len(set(names)) == len(samples.photos()) + 2


def test_searches(library):
  cat = {photo.name: dict(photo.labels).get("cat", 0) for photo in library}
  hits = library.search("cats", at_least=0)
  expected = {photo.name: max(cat[photo.name], photo.shares["cat"]) for photo in library}
  assert {hit.name: pytest.approx(hit.score, abs=1e-5) for hit in hits} == expected
  assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
  assert library.search("animal", at_least=0, top=2) == hits[:2]  # of these labels the cat alone is one
  with pytest.raises(dc.DeepcompError, match="Received: 'rockte'; the nearest are .*rocket"):
    library.search("rockte")
  assert [hit.name for hit in library.search(after="2024-05-17", before="2024-05-18")] == ["photos/below/turned.jpg"]
  assert not library.search(after="2024-05-17T12:30:02")
  share = sorted(photo.shares["cat"] for photo in library)[-2]
  assert len(library.search(class_share=f"cat >= {share - 1e-4:.4f}")) == 2
  rockets = {photo.name for photo in library if "rocket" in dict(photo.labels)}
  assert {hit.name for hit in library.search(label="rocket")} == rockets and not library.search(label="dog")
  for wrong in ({"class_share": "cat=1"}, {"class_share": "lion>0.5"}, {"before": "May"}, {"top": 0},
                {"text": "cat", "like": "x"}):
    with pytest.raises(dc.DeepcompError, match="Received"):
      library.search(**wrong)


def test_label_search_imports_no_tensorflow(made):
  code = "import sys; import deepcomp_tf as dc; dc.Library(sys.argv[1]).search('cat'); sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code, made[0].path], check=False, cwd=GOLDEN.parents[1]).returncode == 0


def test_words_without_lancedb_until_the_library_changes(library, tmp_path, monkeypatch):
  monkeypatch.setattr("deepcomp_tf.caches.CACHE_DIR", str(tmp_path / "cache"))
  texts = {"cats": {}, "animal": {"at_least": 0, "top": 2}, "rocket": {"at_least": 0}}
  expected = {text: library.search(text, **how) for text, how in texts.items()}
  library.quicken()
  with monkeypatch.context() as patch:
    patch.setattr("deepcomp_tf.library.table.connect", None)
    other = dc.Library(library.path)
    assert {text: other.search(text, **how) for text, how in texts.items()} == expected
    with pytest.raises(dc.DeepcompError, match="at least 1. Received: top=0"):
      other.search("cat", top=0)
    with pytest.raises(TypeError):
      other.search("cat", label="cat")  # for which LanceDB is asked
  gone = expected["animal"][0].name
  other.remove([gone])
  for asked in (other, dc.Library(library.path)):
    assert gone not in [hit.name for hit in asked.search("animal", at_least=0)]
  library.search("cat")
  library.quicken()
  kept, = (tmp_path / "cache").glob("labels-*.npz")
  kept.write_bytes(kept.read_bytes()[:300])
  assert gone not in [hit.name for hit in dc.Library(library.path).search("animal", at_least=0)]


def test_likeness_and_duplicates(library, photos, tmp_path):
  rows = library.table.search().select(["name", "vector"]).to_list()
  vectors = {row["name"]: np.array(row["vector"], np.float32) for row in rows}
  expected = sorted(vectors, key=lambda name: -vectors[name] @ vectors["photos/coffee.png"])
  for like in ("photos/coffee.png", photos / "coffee.png", bytes(library["photos/coffee.png"].data)):
    hits = library.search(like=like)
    assert hits[0].name == "photos/coffee.png" and hits[0].score == pytest.approx(1, abs=2e-3)
    cosines = [float(vectors[hit.name] @ vectors["photos/coffee.png"]) for hit in hits]
    assert [hit.score for hit in hits] == pytest.approx(cosines, abs=4e-3)
  assert {hit.name for hit in library.search(like="photos/coffee.png", top=3)} <= set(expected[:4])
  Image.open(photos / "coffee.png").save(tmp_path / "again.jpg", quality=98)
  library.add([tmp_path / "again.jpg"], **SETTINGS)
  groups = library.duplicates(cutoff=0.999)
  assert {"photos/coffee.png", "again.jpg"} in [{hit.name for hit in group} for group in groups] and not library.duplicates(1.01)


def test_likeness_without_tensorflow_once_the_networks_are_kept(library, photos, tmp_path, monkeypatch):
  monkeypatch.setenv("DEEPCOMP_LITERT", "1")
  monkeypatch.setattr("deepcomp_tf.caches.CACHE_DIR", str(tmp_path / "cache"))
  expected = library.search(like=photos / "chelsea.png")
  library.quicken()
  monkeypatch.setattr(understanding.Understanding, "load", None)
  monkeypatch.setattr(dc.Codec, "load", None)
  found = dc.Library(library.path).search(like=photos / "chelsea.png")
  assert [hit.name for hit in found] == [hit.name for hit in expected]
  assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-3)


@pytest.mark.slow
def test_vectors_of_two_networks_are_not_mixed(library, tmp_path):
  classifier = dc.Classifier.load(GOLDEN / "classifier")
  classifier.network.logits.kernel.assign(-classifier.network.logits.kernel)
  classifier.save(tmp_path / "other")
  Image.fromarray(samples.photos()["coffee"][:32, :32]).save(tmp_path / "new.png")
  other = dc.Library(library.path)
  before = {photo.name: photo.labels for photo in library}
  named = {**SETTINGS, "networks": [tmp_path / "other"]}
  error, = other.add([tmp_path / "new.png"], **named).failed.values()
  assert "expected a network whose vectors can be compared with the library's" in str(error)
  seen = []
  library.reindex([tmp_path / "other"], lambda name, count: seen.append(dc.Library(library.path)[name].labels == before[name]))
  assert all(seen) and len(seen) == len(before)  # the old ones served until the end
  assert {photo.name: photo.labels for photo in library} != before and not list(library.verify())
  assert list(library.info()["networks"]) == [str(tmp_path / "other")]
  assert other.add([tmp_path / "new.png"], **named).added == 1


def test_a_stopped_reindexing_goes_on(library, monkeypatch):
  network = understanding.Understanding.load(str(GOLDEN / "classifier"), None)  # what is loaded once
  original, calls = network.understand, []

  def understand(data, known):
    calls.append(len(data))
    if len(calls) == 2:
      raise KeyboardInterrupt
    return original(data, known)

  monkeypatch.setattr(network, "understand", understand)
  monkeypatch.setattr(reindexing, "BATCH", 2)
  with pytest.raises(KeyboardInterrupt):
    library.reindex()
  library.reindex()
  assert sum(calls) == len(library) + calls[1] and not list(library.verify())


def test_shares_stay_while_their_segmenter_does(library, tmp_path, monkeypatch):
  before = {photo.name: photo.shares for photo in library}
  with monkeypatch.context() as patch:
    patch.setattr(dc.Segmenter, "answer", None)
    library.reindex()
  assert {photo.name: photo.shares for photo in library} == before
  # A library of before that was known: new photos tell their segmenter, others after they are reindexed.
  segmenters = lambda: library.table.search().select(["segmenter"]).to_arrow()["segmenter"].to_pylist()
  made, = set(segmenters())
  library.table.drop_columns(["segmenter"])
  Image.fromarray(samples.photos()["coffee"][:32, :32]).save(tmp_path / "new.png")
  assert library.add([tmp_path / "new.png"], **SETTINGS).added == 1
  assert collections.Counter(segmenters()) == {None: len(before), made: 1}
  library.reindex()
  assert set(segmenters()) == {made} and {photo.name: photo.shares for photo in library}.items() >= before.items()


def test_a_damaged_file_is_found(library):
  library.table.update("name = 'photos/photo.deepcomp'", {"data": b"dc damaged"})
  (name, reason), = library.verify()
  assert name == "photos/photo.deepcomp" and reason


def test_a_dataset(made):
  library, _ = made
  files = {photo.name: photo.data for photo in library}
  plain, mixed = ([(element["name"].decode(), element["bitstream"]) for element in library.dataset(seed).as_numpy_iterator()]
                  for seed in (None, 3))
  assert dict(plain) == dict(mixed) == files and plain != mixed and len(library.dataset()) == len(files)


def test_the_command(photos, tmp_path):
  command = lambda *arguments: deepcomp_here("library", *arguments, cwd=tmp_path)
  result = command("search", "none", "cat")
  assert result.returncode == 1
  assert result.stderr == "deepcomp: expected a library; `deepcomp library add` makes one. Received: none, which is none\n"
  assert not (tmp_path / "none").exists()
  flags = [f"--operating_point={GOLDEN}/operating_point", f"--network={GOLDEN}/classifier"]
  result = command("add", "lib", photos, *flags, "--json")
  assert result.returncode == 1 and "6 photos added, 1 failed" in result.stderr
  added = list(map(json.loads, result.stdout.splitlines()))
  assert sum("id" in line for line in added) == 6
  assert ["expected an image" in line["error"] for line in added if line["file"].endswith("broken.jpg")] == [True]
  result = command("add", "lib", photos, *flags)
  assert "0 photos added, 6 there before, 1 failed" in result.stdout and "broken.jpg: expected an image" in result.stderr
  lines = command("search", "lib", "cat", "--json", "--at_least=0").stdout.splitlines()
  assert set(json.loads(lines[0])) == {"name", "score", "labels"} and len(lines) == 6
  assert command("search", "lib", "cat", "--at_least=0.99").stdout == (
      "Nothing was found. The least score is 0.99; a lower --at_least finds what is less sure.\n")
  assert command("search", "lib", "--like=photos/coffee.png", "--sheet=out.png").returncode == 0
  assert Image.open(tmp_path / "out.png").width > 400
  assert "lib: 6 photos" in command("info", "lib").stdout and "all whole" in command("verify", "lib").stdout
  assert command("export", "lib", "photos/photo.deepcomp", "-o", "out").returncode == 0
  assert (tmp_path / "out/photos/photo.deepcomp").read_bytes() == (GOLDEN / "photo.deepcomp").read_bytes()
  assert command("export", "lib", "--format=png", "-o", "out").returncode == 0
  assert Image.open(tmp_path / "out/photos/below/turned.png").size == (40, 48)
  result = command("remove", "lib", "photos/coffee.png", "nothing")
  assert result.returncode == 1 and "Received: nothing" in result.stderr
  assert command("remove", "lib", "photos/coffee.png").stdout == "1 photos removed\n"
  assert command("verify", "lib", "--json").stdout == ""
  assert json.loads(command("info", "lib", "--json").stdout)["photos"] == 5
  assert command("duplicates", "lib", "--cutoff=1.1").stdout == "Nothing was found.\n"
  for path in (tmp_path / "lib").rglob("*.lance"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:100])
  result = command("verify", "lib")
  assert result.returncode == 1 and result.stderr.startswith(
      "deepcomp: expected a library that can be read and written. Received: lib")


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"graft_{point}" for point in dc.operating_points.names()])
def test_directions_are_those_of_the_last_layer(name):
  network = understanding.Understanding.load(name)
  np.testing.assert_allclose(network.directions, understanding.directions_of(network.last_layer[0]), atol=1e-3)
  assert network.space in dict(np.load(pathlib.Path(understanding.__file__).with_name("directions.npz")))


def test_what_was_read_is_kept_until_the_table_changes(library):
  before = library.search("cat", at_least=0)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(searching.Rows, "_read", None)
    assert library.search("cat", at_least=0) == before
    assert [hit.name for hit in library.search("cat", at_least=0, top=2)] == [hit.name for hit in before[:2]]
  dc.Library(library.path).remove([before[0].name])
  assert library.search("cat", at_least=0) == before[1:]
  # Filters leave out rows wherever they stand.
  share = min(photo.shares["cat"] for photo in library if photo.shares["cat"] > 0)
  filtered = {photo.name for photo in library if photo.shares["cat"] > share}
  expected = [hit for hit in before[1:] if hit.name in filtered]
  assert library.search("cat", at_least=0, class_share=f"cat>{share + 1e-6:.6f}") == expected
  by_vector = library.search(like=before[1].name, top=2)
  library.table.create_index("vector", config=lancedb.index.IvfFlat(distance_type="cosine", num_partitions=1))
  assert [hit.name for hit in library.search(like=before[1].name, top=2)] == [hit.name for hit in by_vector]
