"""Photos into a library: found, compressed, understood and stored, a batch at a time."""

import collections
import contextlib
import datetime
import io
import os
import time
from typing import NamedTuple

from PIL import ExifTags
from PIL import Image

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.codec import container
from deepcomp_tf.codec import formats
from deepcomp_tf.codec.images import PIXELS_AHEAD
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import photo_files
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.library import table as tables
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map

# A batch is stored when it has so many photos, or after so many seconds: what a kill costs at most.
BATCH, SECONDS = 256, 15


class Done(NamedTuple):
  """What became of a photo or file that was to be added.

  path: of it, or what errors call it.
  name: in the library.
  data: its bytes, where they need not be read from the path.
  error: a `DeepcompError`, or None.
  known: whether the library had it already.
  row: dict of the table's columns, of one that is new.
  """
  path: str
  name: str
  data: object = None
  error: object = None
  known: bool = False
  row: object = None


def find(paths):
  """`Done`s without rows for all photos and .deepcomp files in paths, of files and folders,
  and paths of files that are neither."""
  found, others = [], []
  for path in map(os.fspath, paths):
    if not files.isdir(path):
      found.append(Done(path, os.path.basename(path)))
      continue
    of_folder = photo_files.find_in(path)
    root = files.normal(path if files.is_remote(path) else os.path.abspath(path))
    stored = [file for file in files.walk(path) if file.endswith(container.EXTENSION)]
    found += [Done(file, f"{os.path.basename(root)}/{photo_files.below(path, file)}")
              for file in sorted(of_folder.photos + stored)]
    found += [Done(place, place, error=DeepcompError(f"the folder cannot be read: {reason}"))
              for place, reason in of_folder.unreadable.items()]
    others += of_folder.others
  return found, others


class Adding:
  """What is added to a table in one call of `Library.add`.

  Args:
    table: LanceDB's.
    find_network: of `understanding.by_fingerprint`.
    codec: `Codec` of photos.
    effort: of `Codec.encode`.
    keep_location: whether GPS coordinates are kept.
    overwrite: whether another photo of the same name is replaced.
    among: SQL expression of the rows with which what is added could have its content or name in common; all, if empty.
  """

  def __init__(self, table, find_network, codec, effort=0, keep_location=False, overwrite=False, among=""):
    self._table, self._find_network, self._codec, self._effort = table, find_network, codec, effort
    self._keep_location, self._overwrite = keep_location, overwrite
    rows = (table.search().where(among) if among else table.search()).select(["id", "name"]).to_arrow().to_pydict()
    self._known, self._names = set(rows["id"]), dict(zip(rows["name"], rows["id"]))
    self._made_by, self._taken = tables.made_by(table), set()

  def run(self, found):
    """Yields a `Done` for each of those that `find` found, once it is stored or known to fail."""
    batch, begin = [], time.monotonic()
    for done in self._files(found):
      if done.row is None:
        yield done
        continue
      batch.append(done)
      if len(batch) >= BATCH or time.monotonic() > begin + SECONDS:
        yield from self._store(batch)
        batch, begin = [], time.monotonic()
    yield from self._store(batch)

  def _files(self, found):
    """`Done`s with rows of bytes and what they and EXIF tell."""
    prepared = collections.deque()

    def images():
      for done, image in ordered_map(self._read, found, cores(), most=PIXELS_AHEAD):
        done = self._claim(done)
        prepared.append(done)
        yield DeepcompError("nothing to compress") if done.row is None or image is None else image

    for data in self._codec.compress_many(images(), "return", self._effort):
      done = prepared.popleft()
      if done.row is not None and "data" not in done.row:
        if isinstance(data, DeepcompError):
          done = done._replace(row=None, error=data)
        else:
          done.row.update(self._columns(data))
      yield done

  def _read(self, done, admit):
    """(`Done` with the beginnings of its row, image) of a file; the image is None where there is nothing to compress."""
    if done.error:
      return done, None
    try:
      data = files.read(done.path) if done.data is None else done.data
      row = {"id": files.digest_of(data), "name": done.name}
      if row["id"] in self._known:
        return done._replace(known=True), None
      if done.path.endswith(container.EXTENSION) if done.data is None else data.startswith(container.MAGIC):
        return done._replace(row={**row, **self._columns(data)}), None
      image = read_image(done.path, data, admit)
      return done._replace(row={**row, **_exif(data, self._keep_location)}), image
    except (DeepcompError, OSError) as error:
      error = error if isinstance(error, DeepcompError) else DeepcompError(f"cannot be read: {one_line(error)}")
      return done._replace(error=error), None

  def _columns(self, data):
    """What the bytes of a .deepcomp file tell, as columns of the table."""
    file = dc.Bitstream(data)
    return {"data": bytes(file), "width": file.width, "height": file.height, "bytes": len(file),
            "operating_point": self._codec.source if file.header.fingerprint == self._codec.fingerprint else file.operating_point,
            "added": datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)}

  def _claim(self, done):
    """A `Done` whose content and name are the library's from now on; if they are already, one that says so."""
    if done.row is None:
      return done
    if done.row["id"] in self._known:
      return done._replace(row=None, known=True)
    if done.name in self._taken or done.name in self._names and not self._overwrite:
      return done._replace(row=None, error=DeepcompError(
          f"expected a name that no other photo of the library has. Received: {done.name}; --overwrite replaces it"))
    self._known.add(done.row["id"])
    self._taken.add(done.name)
    return done

  def _store(self, batch):
    """Understands a batch and adds it to the table at a stroke. Returns its `Done`s."""
    by_point = {}
    for number, done in enumerate(batch):
      by_point.setdefault(dc.Bitstream(done.row["data"]).header.fingerprint, []).append(number)
    for fingerprint, numbers in by_point.items():
      try:
        answers = self._understand(fingerprint, [batch[number].row for number in numbers])
      except DeepcompError as error:
        answers = [error] * len(numbers)
      for number, answer in zip(numbers, answers):
        if isinstance(answer, DeepcompError):
          self._known.discard(batch[number].row["id"])
          batch[number] = batch[number]._replace(row=None, error=answer)
        else:
          batch[number].row.update(answer)
    rows = {done.row["name"]: done.row for done in batch if done.row}
    if rows:
      self._table.merge_insert("id").when_not_matched_insert_all().execute(tables.rows_of(list(rows.values())))
      replaced = [self._names[name] for name in rows if name in self._names]
      tables.delete(self._table, "id", replaced)
      self._names.update((name, row["id"]) for name, row in rows.items())
    return batch

  def _understand(self, fingerprint, rows):
    network, point = self._find_network(fingerprint), rows[0]["operating_point"]
    made_by = network.source, network.space
    for before in self._made_by.values():
      if before[1] != network.space or self._made_by.get(point, made_by) != made_by:
        raise DeepcompError(
            f"expected a network whose vectors can be compared with the library's, by {before[0]}. Received: {network.source}; "
            "deepcomp library reindex --network makes all vectors anew")
    self._made_by[point] = made_by
    return network.understand([row["data"] for row in rows])


def _exif(data, keep_location):
  """When and how a photo was taken, as far as its EXIF says, as columns of the table."""
  columns = {}
  with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:  # cameras write what nobody can read
    columns["orientation"] = formats.orientation(image)
    exif = image.getexif()
    taken = exif.get_ifd(ExifTags.IFD.Exif)
    taken = taken.get(ExifTags.Base.DateTimeOriginal) or taken.get(ExifTags.Base.DateTimeDigitized)
    place = exif.get_ifd(ExifTags.IFD.GPSInfo) if keep_location else {}
    if ExifTags.GPS.GPSLatitude in place:
      columns["latitude"] = _degrees(place[ExifTags.GPS.GPSLatitude], place.get(ExifTags.GPS.GPSLatitudeRef) == "S")
      columns["longitude"] = _degrees(place[ExifTags.GPS.GPSLongitude], place.get(ExifTags.GPS.GPSLongitudeRef) == "W")
    columns["taken"] = datetime.datetime.strptime(taken, "%Y:%m:%d %H:%M:%S") if taken else None
  return columns


def _degrees(parts, negative):
  degrees, minutes, seconds = map(float, parts)
  return (degrees + minutes / 60 + seconds / 3600) * (-1 if negative else 1)
