"""The table that a library is: its columns, and opening it with LanceDB.

A row is a photo: the bytes of its file and what is known of it. LanceDB keeps versions, so that a reader sees all of a change or
none of it, and a process that is killed leaves the last whole version.
"""

import datetime
import os
import time

from deepcomp_tf import file_systems
from deepcomp_tf import mask_classes
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.errors import to_install

TABLE = "photos"
# What `reindex` has finished so far, until it takes the place of what the photos have.
STAGING = "reindexed"

# Numbers of a vector; see `understanding`.
VECTOR_SIZE = 256

# Columns that a network fills in, which `reindex` fills in anew.
UNDERSTOOD = ("network", "space", "labels", "probabilities", "segmenter", "shares", "vector")
# Of VOC's classes, each with its share of the pixels.
SHARES = tuple(known.name for known in mask_classes.VOC)


def schema(columns=None):
  """The Arrow schema of the table, or of some of its columns.

    id               digest of what was added, the bytes of a photo or of a .deepcomp file: by it photos are told apart
    name             unique; the path below the folder that was added, with that folder's name before it
    data             the .deepcomp file
    operating_point  its name, or the folder that it was loaded from
    width, height    pixels
    bytes            of data
    added, taken     times; when the photo was taken in the camera's own time, null where it does not say
    orientation      EXIF's, 1 to 8, of the photo that was added; the file holds it upright
    latitude, longitude  degrees, null unless they were to be kept
    network          classifier that made the columns that follow
    space            digest of its last layer; vectors of equal space may be compared
    labels, probabilities  the first classes, most probable first
    segmenter        digest of the weights of the network that made the shares; null where it is not known
    shares           of VOC's classes, 0..1; null where no segmenter is shipped for the operating point
    vector           float16, length 1
  """
  import pyarrow as pa

  fields = [
      # With it LanceDB sees when two processes add one photo at once; one of them then does it again and finds it there.
      pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}),
      pa.field("name", pa.string()), pa.field("data", pa.large_binary()), pa.field("operating_point", pa.string()),
      *(pa.field(name, pa.int32()) for name in ("width", "height", "bytes")),
      pa.field("added", pa.timestamp("s")), pa.field("taken", pa.timestamp("s")), pa.field("orientation", pa.int8()),
      pa.field("latitude", pa.float64()), pa.field("longitude", pa.float64()),
      pa.field("network", pa.string()), pa.field("space", pa.string()),
      pa.field("labels", pa.list_(pa.string())), pa.field("probabilities", pa.list_(pa.float32())),
      pa.field("segmenter", pa.string()),
      pa.field("shares", pa.struct([(name, pa.float32()) for name in SHARES])),
      pa.field("vector", pa.list_(pa.float16(), VECTOR_SIZE))]
  return pa.schema([field for field in fields if columns is None or field.name in columns])


def connect(path):
  """LanceDB's connection to a folder, which need not exist.

  Raises:
    DeepcompError: LanceDB is not installed, or the folder cannot be reached.
  """
  os.environ.setdefault("LANCE_LOG", "error")
  try:
    import lancedb
  except ImportError as error:
    raise DeepcompError(f"a library needs LanceDB: {to_install('library')} ({one_line(error)})") from None
  path = os.fspath(path)
  try:
    return lancedb.connect(path if file_systems.is_remote(path) else os.path.abspath(path),
                           read_consistency_interval=datetime.timedelta(0))
  except Exception as error:  # LanceDB's errors have no class in common  # pylint: disable=broad-except
    raise DeepcompError(f"expected a folder for a library. Received: {path} ({one_line(error)})") from None


def open_table(connection, name, make=False, columns=None):
  """A table of a connection, or None where there is none and it is not to be made. One that is to be written to gets the columns
  that tables had not before.

  Of processes that make it at once, some meet LanceDB's error and find it a moment later. One may make it over another's, within
  milliseconds; nobody has stored rows by then.
  """
  for wait in (0, 0.1, 0.5, 2):
    time.sleep(wait)
    try:
      if name in connection.list_tables().tables:
        found = connection.open_table(name)
        missing = [field for field in schema(columns) if field.name not in found.schema.names] if make else []
        if missing:
          found.add_columns(missing)
        return found
      return connection.create_table(name, schema=schema(columns)) if make else None
    except (RuntimeError, ValueError) as error:
      failed = error
  raise failed


def rows_of(records, columns=None):
  """Dicts of a row each, as an Arrow table. Columns that a record does not have are null."""
  import pyarrow as pa
  return pa.Table.from_pylist(records, schema=schema(columns))


def quoted(text):
  """A text in an SQL expression."""
  return "'" + text.replace("'", "''") + "'"


def any_of(column, values):
  """The SQL expression that a column has one of several texts."""
  return f"{column} IN ({', '.join(map(quoted, values))})"


def delete(table, column, values):
  """Deletes the rows that have one of several texts in a column."""
  values = list(values)
  for begin in range(0, len(values), 1000):
    table.delete(any_of(column, values[begin:begin + 1000]))


def made_by(table):
  """The networks of the table's vectors: dict from operating points to (network, space)."""
  columns = ["operating_point", "network", "space"]
  rows = table.search().select(columns).to_arrow().group_by(columns).aggregate([]).to_pylist()
  return {row["operating_point"]: (row["network"], row["space"]) for row in rows}
