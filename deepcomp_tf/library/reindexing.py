"""What is known of a library's photos, made anew from their stored bytes while searches go on by what was known before."""

from deepcomp_tf.codec import container
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.library import table as tables
from deepcomp_tf.library import understanding

# Photos that are stored together.
BATCH = 256


def reindex(table, connection, networks, progress):
  """See `Library.reindex`. What is finished lies in a table of its own until all is, and then replaces the old at a stroke.

  Args:
    table, connection: LanceDB's.
    networks, progress: as there.
  """
  columns, find, spaces = ("id", *tables.UNDERSTOOD), understanding.by_fingerprint(networks), {}
  made = tables.open_table(connection, tables.STAGING, make=True, columns=columns)
  finished = dict(zip(*made.search().select(["id", "network"]).to_arrow().to_pydict().values()))
  seen = set()
  while not set(table.search().select(["id"]).to_arrow()["id"].to_pylist()) <= seen:  # photos may be added meanwhile
    for point in tables.made_by(table):
      query = table.search().where(tables.any_of("operating_point", [point])).select(
          ["id", "name", "data", "segmenter", "shares"])
      for rows in (batch.to_pylist() for batch in query.to_batches(BATCH)):
        network = find(container.peek(rows[0]["data"]).fingerprint)
        spaces[network.source] = network.space
        if len(set(spaces.values())) > 1:
          raise DeepcompError(f"expected networks whose vectors can be compared. Received: {', '.join(spaces)}")
        todo = [row for row in rows if finished.get(row["id"]) != network.source]
        answers = network.understand([row["data"] for row in todo], todo)
        for row, answer in zip(todo, answers):
          if isinstance(answer, DeepcompError):
            raise DeepcompError(f"{row['name']}: {answer}; remove it, then reindex again")
        if todo:
          made.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(
              tables.rows_of([{"id": row["id"], **answer} for row, answer in zip(todo, answers)], columns))
        seen.update(row["id"] for row in rows)
        count = table.count_rows()
        for row in rows:
          progress(row["name"], count)
    table.merge_insert("id").when_matched_update_all().execute(made.to_arrow())
  connection.drop_table(tables.STAGING)
