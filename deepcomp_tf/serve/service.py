"""What requests ask of a library and its networks: `Service`, without HTTP."""

import collections
import datetime
import os
import threading
import time

import numpy as np
from PIL import Image

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec.images import encode_picture
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.codec.images import PIXELS_AHEAD
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.library import searching
from deepcomp_tf.library import table as tables
from deepcomp_tf.library import understanding
from deepcomp_tf.library.adding import Adding
from deepcomp_tf.library.adding import Done
from deepcomp_tf.serve import looking
from deepcomp_tf.serve import uploads
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map

# Parts of the table, one for each batch that was added, above which they are put together. There are many: versions of the table
# that are older than this go.
MOST_PARTS, KEEP_VERSIONS = 64, datetime.timedelta(hours=1)
# Bytes of small pictures that are kept in memory.
CACHE_BYTES = 64 << 20

_COLUMNS = ("id", "name", "operating_point", "width", "height", "bytes", "taken", "added", "labels", "probabilities", "shares")


class Missing(DeepcompError):
  """There is no such photo."""


class Service:
  """A library with the networks that read and write its files.

  The methods of `work` take lists, for `batching.Batcher`, whose one thread alone calls them; of what fails an exception stands
  in the place of its result. The others may be called by any thread.

  Args:
    library: a `dc.Library`, which is made where there is none.
    operating_point, effort, networks: of photos that are added, as of `Library.add`.
    max_pixels: larger photos and files are refused.
    loader: `quick.Loader` of the networks.
  """

  def __init__(self, library, operating_point, effort=0, networks=(), max_pixels=50_000_000, loader=None):
    self.library, self.effort, self.max_pixels = library, effort, max_pixels
    self._table, self._networks = library.make(), list(networks)
    self.looking = looking.Networks(loader)
    self.codec = self.looking.codec(operating_point)
    self._pictures, self._lock, self._looks = collections.OrderedDict(), threading.Lock(), threading.Lock()
    self.work = {work.__name__: work for work in (self.add, self.understand, self.segment, self.picture, self.mask, self.look)}

  def warm_up(self, compiled=True):
    """Loads and traces what uploads, searches and pictures need, which the first ones would wait for; `compiled` says whether the
    entropy coder is compiled, too, which takes ten seconds and pays after some thousand photos."""
    data = self.codec.compress(samples.photos(64)["chelsea"], self.effort)
    understood, = self.understand([data])
    if isinstance(understood, Exception):
      raise understood
    self.segment([data])  # where there is a segmenter
    self.codec.decompress(data)
    self.search()
    if compiled:
      entropy_coder.warm_up()

  def warm_up_looks(self, go_on):
    """Loads and traces what closer looks need, at each operating point while go_on(), that of uploads first, and keeps it
    for LiteRT, so that later starts take less; for a thread of its own, since it takes longer than anybody waits for a photo."""
    photo = encode_png(samples.photos(64)["chelsea"])
    for point in self.points():
      if go_on():
        self.look([(point, photo, 0)])
        self.looking.compare()
        self.looking.loader.keep(go_on)
        time.sleep(0.2)  # whoever waits for a look comes before the next point

  def points(self):
    """Names of the operating points that photos are looked at, that of uploads first."""
    return sorted(dc.operating_points.names(), key=lambda name: name != self.codec.operating_point)

  # What takes no network.

  def search(self, text=None, like=None, **how):
    """As `Library.search`, where `like` is the id or the name of a photo in the library."""
    searching.check(text, like)
    vector = None
    if like is not None:
      vector = self.library.vector_of(like)
      if vector is None:
        raise Missing(f"expected the id or the name of a photo in the library. Received: {like}")
    return [{"id": hit.id, "name": hit.name, "score": hit.score and round(hit.score, 6), "labels": _labels(*zip(*hit.labels))}
            for hit in self.library.search(text, vector, **how)]

  def photo(self, number):
    """What the library knows of a photo, as a dict for JSON; with its id, a digest. Raises `Missing`."""
    return _record(self._row(number, _COLUMNS))

  def file(self, number):
    """The bytes of a photo's file."""
    return self._row(number, ["data"])["data"]

  def cached(self, key):
    """A picture that `keep` kept for a key, or None."""
    with self._lock:
      if key in self._pictures:
        self._pictures.move_to_end(key)
      return self._pictures.get(key)

  def keep(self, key, data):
    """Keeps a picture's bytes for a while."""
    with self._lock:
      self._pictures[key] = data
      while sum(map(len, self._pictures.values())) > CACHE_BYTES:
        self._pictures.popitem(last=False)

  def _row(self, number, columns):
    found = self._rows(tables.any_of("id", [number]), list(columns))
    if not found:
      raise Missing(f"expected the id of a photo in the library. Received: {number}")
    return found[0]

  def _rows(self, where, columns):
    return self._table.search().where(where).select(columns).to_arrow().to_pylist()

  # What takes networks.

  def add(self, uploaded):
    """Stores photos and files: list of (name, bytes) -> list of dicts as of `photo`, with `new`, once they are in the table.

    A name that another photo has gets the beginning of the photo's id.
    """
    ids = [files.digest_of(data) for _, data in uploaded]
    among = f"{tables.any_of('id', ids)} OR {tables.any_of('name', [name for name, _ in uploaded])}"
    taken = {row["name"]: row["id"] for row in self._rows(among, ["id", "name"])}
    before, todo, errors = set(taken.values()), {}, {}
    for number, (name, data) in zip(ids, uploaded):
      try:
        uploads.check(data, self.max_pixels)
        if taken.setdefault(name, number) != number:
          stem, ending = os.path.splitext(name)
          name = f"{stem}-{number[:8]}{ending}"
        todo.setdefault(number, Done(name, name, data))
      except DeepcompError as error:
        errors[number] = error
    adding = Adding(self._table, self._find_network(), self.codec, self.effort, among=among)
    errors.update({files.digest_of(done.data): done.error for done in adding.run(list(todo.values())) if done.error})
    stored = {row["id"]: _record(row) for row in self._rows(tables.any_of("id", ids), list(_COLUMNS))}
    if self._table.stats()["fragment_stats"]["num_fragments"] > MOST_PARTS:
      self._table.optimize(cleanup_older_than=KEEP_VERSIONS)
    return [{**stored[number], "new": number not in before} if number in stored else
            errors.get(number, DeepcompError("the photo was removed while it was added")) for number in ids]

  def understand(self, uploaded):
    """What networks say of photos and files that are not stored: list of bytes -> list of dicts of labels, vector and network."""
    find = self._find_network()
    return self._by_network(uploaded, lambda fingerprint, group: [
        answer if isinstance(answer, Exception) else
        {"labels": _labels(answer["labels"], answer["probabilities"].tolist()), "network": answer["network"],
         "space": answer["space"], "vector": answer["vector"].astype(float).round(6).tolist()}
        for answer in find(fingerprint).answer(group, "return")])

  def segment(self, uploaded):
    """Masks of photos and files that are not stored: list of bytes -> list of bytes of PNG files of class ids."""
    return self._by_network(uploaded, self._masks)

  def mask(self, stored):
    """As `segment`, of files that are stored."""
    return self._by_network(stored, self._masks)

  def picture(self, wanted):
    """Decoded photos: list of (bytes of a file, width or None, kind of `images.PICTURE_KINDS`) -> list of bytes."""
    pictures = self._by_network([data for data, _, _ in wanted], lambda fingerprint, group: list(
        self._codec(fingerprint, group[0]).decompress_many(group, "return")))
    return [picture if isinstance(picture, Exception) else encode_picture(_scaled(picture, width), kind)
            for picture, (_, width, kind) in zip(pictures, wanted)]

  def look(self, wanted):
    """What the page shows of a photo: list of (operating point, bytes, effort) -> list of dicts. A file has its own point."""
    with self._looks:
      return [looking.show_file(self.looking, data, self.max_pixels) if uploads.is_file(data) else
              looking.show_photo(self.looking, point, data, self.max_pixels, effort) for point, data, effort in wanted]

  def _masks(self, fingerprint, group):
    segmenter = self._find_network()(fingerprint).segmenter
    if segmenter is None:
      raise DeepcompError(f"expected a file of an operating point with a segmenter. Received: one of {fingerprint.hex()}")
    return [mask if isinstance(mask, Exception) else mask_classes.encode_mask(mask, segmenter.classes)
            for mask in segmenter.answer(group, "return")]

  def _by_network(self, uploaded, run):
    """Results for photos, which are compressed first, and files: of run(fingerprint, list of files) for each operating point."""
    results, groups = self._compressed(uploaded), collections.defaultdict(list)
    for number, file in enumerate(results):
      if not isinstance(file, Exception):
        groups[file.header.fingerprint].append(number)
    for fingerprint, numbers in groups.items():
      try:
        answers = run(fingerprint, [results[number] for number in numbers])
      except DeepcompError as error:
        answers = [error] * len(numbers)
      for number, answer in zip(numbers, answers, strict=True):
        results[number] = answer
    return results

  def _compressed(self, uploaded):
    """Photos and files -> list of `Bitstream`s and errors. Of many photos few are in memory at a time."""
    found = {}

    def read(data, admit):
      try:
        return uploads.read(data, self.max_pixels, admit)
      except DeepcompError as error:
        return error

    def images():
      for number, image in enumerate(ordered_map(read, uploaded, cores(), most=PIXELS_AHEAD)):
        if isinstance(image, np.ndarray):
          yield image
        else:
          found[number] = image
          yield DeepcompError("nothing to compress")

    compressed = list(self.codec.compress_many(images(), "return", self.effort))
    return [found.get(number, data if isinstance(data, Exception) else dc.Bitstream(data))
            for number, data in enumerate(compressed)]

  def _codec(self, fingerprint, file):
    return self.codec if fingerprint == self.codec.fingerprint else self.looking.codec(file.operating_point)

  def _find_network(self):
    """As `understanding.by_fingerprint`, for the networks that made the library's vectors, which `reindex` may have changed."""
    return understanding.by_fingerprint([name for name, _ in tables.made_by(self._table).values()] + self._networks,
                                        self.looking.loader)


def _labels(names, probabilities):
  return [{"name": name, "probability": round(probability, 6)} for name, probability in zip(names, probabilities)]


def _record(row):
  """A row as a dict for JSON."""
  labels, shares = _labels(row["labels"], row.pop("probabilities")), row["shares"] or {}
  times = {name: row[name].isoformat() if row[name] else None for name in ("taken", "added")}
  return {**row, **times, "labels": labels, "shares": {name: round(share, 6) for name, share in shares.items() if share}}


def _scaled(picture, width):
  """A picture uint8 `[h, w, 3]`, scaled down to a width where it is wider."""
  if not width or width >= picture.shape[1]:
    return picture
  height = max(1, round(picture.shape[0] * width / picture.shape[1]))
  return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def checked_name(name, data):
  """The name of a photo in the library: as it is asked for, or, of one without, by its content."""
  name = name.replace("\\", "/")
  if not name:
    return f"uploads/{files.digest_of(data)}"
  if not name.isprintable() or os.path.isabs(name) or os.path.normpath(name).startswith(os.pardir):
    raise DeepcompError(f"expected a name such as 2024/cat.jpg. Received: {name!r:.80}")
  return os.path.normpath(name)
