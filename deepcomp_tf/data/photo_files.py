"""Plain photos to files: which output belongs to which photo, and writing them many at a time, whole or not at all.

The `deepcomp compress` command and `experiments.compress_photos` share it. Photos and outputs may lie on any file system that
TensorFlow reaches.
"""

import codecs
import collections
import os
from typing import NamedTuple

from absl import logging

from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf import threads
from deepcomp_tf.codec import container
from deepcomp_tf.codec import images
from deepcomp_tf.data import chunks
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line


class Task(NamedTuple):
  """The paths of a photo and of its output."""
  photo: str
  output: str


class Done(NamedTuple):
  """What became of a task: its photo's size (0 where it was not read), the output's bytes, and perhaps a `DeepcompError`.

  `skipped` says that the output was there already.
  """
  task: Task
  error: object = None
  skipped: bool = False
  height: int = 0
  width: int = 0
  size: int = 0


class Found(NamedTuple):
  """What there is in a folder and the folders in it, sorted.

  photos: paths of photos.
  unreadable: dict from folders that cannot be read to what the system says.
  others: paths of files that are no photos, nor compressed ones.
  """
  photos: list
  unreadable: dict
  others: list


def find_in(folder):
  """The `Found` of a folder."""
  unreadable, photos, others = {}, [], []
  paths = [path for path in files.walk(folder, lambda error: unreadable.update({error.filename: error.strerror}))
           if not path.endswith(container.EXTENSION)]
  for path, photo in zip(paths, threads.ordered_map(images.is_photo, paths, threads.cores())):
    (photos if photo else others).append(path)
  return Found(photos, unreadable, others)


def list_photos(folder):
  """Sorted paths of all photos in a folder and the folders in it, also in those that are linked there; none is an error."""
  found = find_in(folder)
  for place, reason in found.unreadable.items():
    raise DeepcompError(f"expected a folder that can be read. Received: {place} ({reason})")
  if not found.photos:
    raise DeepcompError(f"expected a folder with images in it, or in the folders in it. Received: {folder}"
                        + (f", with {describe_others(found.others)}" if found.others else ""))
  if found.others:
    logging.info("%s: %s", folder, describe_others(found.others))
  return found.photos


def describe_others(paths, most=20):
  """Says which files are no photos, the first of them by name."""
  names = ", ".join(map(files.printable, paths[:most]))
  return (f"{len(paths)} files that are no photos: " if len(paths) > 1 else "1 file that is no photo: ") + names + (
      f" and {len(paths) - most} more" if len(paths) > most else "")


def find_photos(where):
  """Sorted paths of the photos that a text file (.txt) lists, that a pattern matches, or that are in a folder; none is an error.

  The list has a path in each line, or, since names may have line ends in them, behind each a NUL as `find -print0` writes.
  """
  if files.isdir(where):
    return list_photos(where)
  if where.endswith(".txt"):
    try:
      listed = files.read(where).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
      raise DeepcompError(f"expected a text file of paths. Received: {where} ({one_line(error)})") from None
    if listed.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
      raise DeepcompError(f"expected a text file of paths in UTF-8. Received: {where}, which is in UTF-16")
    lines = listed.split(b"\0") if b"\0" in listed else listed.splitlines()
    paths = [os.fsdecode(line) for line in lines if line.strip()]
    if paths:
      return sorted(set(paths))
    raise DeepcompError(f"expected a text file with a path in each line. Received: {where}, which has none")
  return images.list_images(where)


def common_root(photos):
  """The deepest folder that all photos lie in."""
  return os.path.commonprefix([os.path.dirname(photo) + "/" for photo in (min(photos), max(photos))]).rpartition("/")[0]


def below(root, path):
  """A path without the root it lies below."""
  root = root.rstrip("/")
  return (path[len(root):] if path.startswith(f"{root}/") else path).lstrip("/")


def tasks_of(photos, root=None, output_dir=None):
  """Tasks of photos, and the `Done`s of those whose output would be another's.

  Outputs lie in `output_dir`, or without it beside the photos, and keep the tree of the folder `root`; with None all lie in one.
  """
  tasks, taken, refused = [], {}, []
  for photo in photos:
    stem = os.path.splitext(photo)[0]
    if output_dir:
      stem = os.path.join(output_dir, below(root, stem) if root is not None else os.path.basename(stem))
    task = Task(photo, stem + container.EXTENSION)
    first = taken.setdefault(task.output, photo)
    if first == photo:
      tasks.append(task)
    else:
      refused.append(_refused(task, first))
  return tasks, refused


def compress(codec, tasks, jobs=1, resume=False, overwrite=False, effort=0, sides=images.Sides()):
  """Compresses photos to their outputs.

  Args:
    codec: a `Codec`, or a `target.ToSize`.
    tasks: iterable of `Task`s.
    jobs: threads that read and decode photos. The network takes all cores.
    resume: outputs that are there are left alone and count as done, if they are whole, of this operating point, and of a photo
      of that size. Of remote outputs only the header is read, since they are written whole or not at all.
    overwrite: outputs that are there are replaced. With neither, they are errors.
    effort: of `Codec.encode`.
    sides: what larger photos are brought down to.

  Yields:
    a `Done` for each task, in their order.
  """
  prepared = collections.deque()  # the `Done`s of the tasks that are being compressed, oldest first

  def read(task, admit):
    """(Done, image), the image None where there is nothing to do or an error."""
    try:
      if not overwrite and files.exists(task.output):
        return _of_existing(codec, task, resume, sides), None
      image = sides.bring_down(images.read_image(task.photo, admit=admit))
    except (DeepcompError, OSError) as error:
      return Done(task, error if isinstance(error, DeepcompError) else DeepcompError(one_line(error))), None
    return Done(task, height=image.shape[0], width=image.shape[1]), image

  def photos():
    for done, image in threads.ordered_map(read, tasks, jobs, most=images.PIXELS_AHEAD):
      prepared.append(done)
      yield DeepcompError("nothing to compress") if image is None else image

  for data in codec.compress_many(photos(), "return", effort):
    done = prepared.popleft()
    if done.error or done.skipped:
      yield done
    elif isinstance(data, DeepcompError):
      yield done._replace(error=data)
    else:
      yield _write(codec, done, data, resume, overwrite, sides)


def _write(codec, done, data, resume, overwrite, sides):
  try:
    files.makedirs(os.path.dirname(done.task.output) or ".")
    try:
      files.write_file(done.task.output, data, overwrite)
    except files.ExistsError:  # another process was faster
      return _of_existing(codec, done.task, resume, sides)
  except (DeepcompError, OSError) as error:
    return done._replace(error=DeepcompError(f"expected an output that can be written: {one_line(error)}"))
  return done._replace(size=len(data))


def _of_existing(codec, task, resume, sides):
  outputs.check_new(task.output, False, resume)
  try:
    header = (container.peek(files.read(task.output, container.MAX_HEADER_BYTES)) if files.is_remote(task.output) else
              container.read_header(files.read(task.output)))
  except BitstreamError as error:
    raise DeepcompError(f"{task.output} exists and is no whole file ({error}); give --overwrite to replace it") from None
  if header.fingerprint not in codec.fingerprints:
    raise DeepcompError(f"{task.output} exists and is not of {codec.operating_point}; give --overwrite to replace it")
  size = sides.size_of(*images.stored_size(task.photo))
  if sorted(size) != sorted((header.width, header.height)):
    raise DeepcompError(f"{task.output} exists and is of another photo, of {header.width}x{header.height} pixels; "
                        f"{task.photo} would have {size[0]}x{size[1]}; give --overwrite to replace it")
  return Done(task, skipped=True)


def report(all_done):
  """What became of tasks: dict of photos, before (outputs that were there), pixels, bytes and failed (messages)."""
  result = {"photos": 0, "before": 0, "pixels": 0, "bytes": 0, "failed": []}
  for done in all_done:
    result["photos"] += 1
    result["before"] += done.skipped
    if done.error:
      result["failed"].append(f"{done.task.photo}: {done.error}")
    else:
      result["pixels"] += done.height * done.width
      result["bytes"] += done.size
  return result


def add_reports(reports):
  """The sum of dicts as `report` returns them."""
  return chunks.add(reports, report([]))


def on_beam(where, root, output_dir, load_codec, overwrite, report_path, effort=0):
  """A Beam transform from a pipeline that compresses photos to files; outputs that are there are done, unless `overwrite`.

  Args:
    where: as of `find_photos`, which a worker calls.
    root, output_dir: as of `tasks_of`.
    load_codec, effort: as of `chunks.compress`.
    overwrite: whether outputs that are there are replaced.
    report_path: JSON file that the pipeline writes the `report` of all to.
  """
  import apache_beam as beam  # an extra of the package

  def expand(pipeline):
    # Grouped by output, so that photos of the same output are found, and spread over the workers on the way.
    grouped = (pipeline | "where" >> beam.Create([where]) | "find" >> beam.FlatMap(_outputs_of, root, output_dir)
               | "by output" >> beam.GroupByKey())
    compressed = (grouped | "first" >> beam.MapTuple(lambda output, photos: Task(min(photos), output))
                  | "batch" >> beam.BatchElements(min_batch_size=64, max_batch_size=256)
                  | "compress" >> beam.Map(_compress_on_beam, load_codec, overwrite, effort))
    refused = grouped | "refuse" >> beam.MapTuple(_refuse)
    return chunks.write_sum((compressed, refused) | "all" >> beam.Flatten(), add_reports, report_path)

  return beam.ptransform_fn(expand)()


def _outputs_of(where, root, output_dir):
  photos = find_photos(where)
  root = common_root(photos) if root is None else root
  for photo in photos:
    task, = tasks_of([photo], root, output_dir)[0]
    yield task.output, photo


def _refused(task, first):
  """The `Done` of a task whose output would be that of another photo."""
  return Done(task, DeepcompError(f"its output would be that of {first}, {task.output}"))


def _refuse(output, photos):
  first, *others = sorted(photos)
  return report(_refused(Task(photo, output), first) for photo in others)


def _compress_on_beam(tasks, load_codec, overwrite, effort):
  tasks = [Task(*task) for task in tasks]
  return report(compress(load_codec(), tasks, threads.cores(), not overwrite, overwrite, effort))
