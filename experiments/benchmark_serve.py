"""Puts `deepcomp serve` under load from this process, kills it during uploads, and sends it what is broken.

  python -m experiments.benchmark_serve --photos=more
  python -m experiments.benchmark_serve --photos=more --seconds=300 --kills=50 --broken=1000

The service has a library of its own in a temporary folder. First --clients ask at once, as fast as they are answered, for
--seconds each: uploads of new photos, which are crops of --photos as JPEG; classes of photos that are not stored; searches by a
word; searches for photos like one; small pictures. Printed are answers a second, percentiles of the seconds that they took, the
answers by their status, and the service's memory. Then come --broken uploads, cut or changed, and it is checked that each is
refused and the library as large as before. Last the service is killed (SIGKILL) during uploads, --kills times, and after each
time it is checked that the library opens, has every photo whose upload was answered, and is whole.
"""

import collections
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from absl import flags
import numpy as np
from PIL import Image

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import list_images
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_string("photos", "", "Folder of photos to cut uploads from; empty: the sample photos.")
flags.DEFINE_integer("image_size", 224, "Edge of the uploads in pixels.", lower_bound=64)
flags.DEFINE_integer("seconds", 20, "Of each measurement.", lower_bound=1)
flags.DEFINE_integer("clients", 16, "Requests at a time.", lower_bound=1)
flags.DEFINE_integer("broken", 200, "Broken uploads.", lower_bound=0)
flags.DEFINE_integer("kills", 3, "Times that the service is killed during uploads.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Of all random choices.")


# Uploads that are answered before the service is killed, at most.
MOST_BEFORE_KILL = 40


class Service:
  """A process of `deepcomp serve`, from when it is ready."""

  def __init__(self, library):
    begin = time.monotonic()
    self._process = subprocess.Popen([sys.executable, "-m", "deepcomp_tf.cli", "serve", library, "--port=0"], text=True,
                                     stdout=subprocess.PIPE)
    line = self._process.stdout.readline()
    if not line.startswith("http://"):
      raise SystemExit("error: the service did not start")
    self.address, self.seconds = urllib.parse.urlsplit(line.split()[0]).netloc, time.monotonic() - begin

  def memory(self):
    """Resident memory in bytes, as the service tells it."""
    _, told = ask(http.client.HTTPConnection(self.address), "GET", "/metrics")
    return float(re.search(r"^process_resident_memory_bytes (\S+)", told.decode(), re.MULTILINE)[1])

  def end(self, number):
    """Sends a signal; returns the exit code."""
    self._process.send_signal(number)
    return self._process.wait()


def main(argv):
  del argv
  with tempfile.TemporaryDirectory() as folder:
    library, photos = os.path.join(folder, "library"), uploads()
    service = Service(library)
    print(f"{measuring.machine()}; {FLAGS.clients} clients, photos of {FLAGS.image_size}x{FLAGS.image_size}; ready after "
          f"{service.seconds:.0f} s, {service.memory() / 2 ** 20:.0f} MiB")
    print(f"{'':<10}{'answers/s':>10}{'median':>8}{'90 %':>8}{'99 %':>8} s  {'MiB':>6}  answers")
    upload = lambda: ("POST", "/photos", next(photos))
    measure(service, "upload", upload)
    ids = [photo.id for photo in dc.Library(library)]
    rng = np.random.default_rng(FLAGS.seed)
    measure(service, "classify", lambda: ("POST", "/classify", next(photos)))
    measure(service, "word", lambda: ("GET", "/search?text=animal", None))
    measure(service, "like", lambda: ("GET", f"/search?like={rng.choice(ids)}", None))
    measure(service, "picture", lambda: ("GET", f"/photos/{rng.choice(ids)}?width=160", None))
    send_broken(service, library, photos)
    for number in range(FLAGS.kills):
      kill(service, library, upload, number)
      service = Service(library)
    code = service.end(signal.SIGTERM)
    print(f"{len(dc.Library(library))} photos at the end, {len(list(dc.Library(library).verify()))} of them not whole; "
          f"exit code after SIGTERM {code}")


def uploads():
  """Endless JPEG files, each of another crop or quality, for several threads."""
  found = [read_image(path) for path in list_images(FLAGS.photos)] if FLAGS.photos else list(samples.photos().values())
  rng, size, lock = np.random.default_rng(FLAGS.seed), FLAGS.image_size, threading.Lock()

  def make():
    while True:
      photo = found[rng.integers(len(found))]
      edge = int(rng.integers(min(photo.shape[:2]) // 2, min(photo.shape[:2]) + 1))
      top, left = (rng.integers(0, whole - edge + 1) for whole in photo.shape[:2])
      buffer = io.BytesIO()
      crop = Image.fromarray(photo[top:top + edge, left:left + edge]).resize((size, size))
      crop.save(buffer, "JPEG", quality=int(rng.integers(80, 96)))
      yield buffer.getvalue()

  class Shared:
    """One generator for all threads."""
    _made = make()

    def __iter__(self):
      return self

    def __next__(self):
      with lock:
        return next(self._made)

  return Shared()


def ask(connection, method, place, body=None):
  """(status, body) of an answer."""
  connection.request(method, place, body)
  answer = connection.getresponse()
  return answer.status, answer.read()


def in_parallel(service, request, go_on, seen):
  """Sends what `request` gives, by all clients at once, while go_on(); calls seen(status, body, seconds) for each answer."""
  def work():
    connection = http.client.HTTPConnection(service.address, timeout=120)
    while go_on():
      wanted, begin = request(), time.monotonic()
      try:
        status, body = ask(connection, *wanted)
      except (OSError, http.client.HTTPException):
        connection.close()
        status, body = "none", b""
        time.sleep(0.1)
      seen(status, body, time.monotonic() - begin)

  threads = [threading.Thread(target=work) for _ in range(FLAGS.clients)]
  for thread in threads:
    thread.start()
  return threads


def measure(service, name, request):
  """Prints what a kind of request costs under load."""
  statuses, times, begin = collections.Counter(), [], time.monotonic()

  def seen(status, body, seconds):
    del body
    statuses[status] += 1
    if status in (200, 201):
      times.append(seconds)

  for thread in in_parallel(service, request, lambda: time.monotonic() < begin + FLAGS.seconds, seen):
    thread.join()
  seconds = time.monotonic() - begin
  percentiles = np.percentile(times or [np.nan], [50, 90, 99])
  print(f"{name:<10}{len(times) / seconds:>10.1f}{''.join(f'{value:>8.3f}' for value in percentiles)}    "
        f"{service.memory() / 2 ** 20:>6.0f}  "
        + ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items(), key=str)), flush=True)


def send_broken(service, library, photos):
  """Sends damaged photos and files; each must be refused, and none kept."""
  rng, before, statuses = np.random.default_rng(FLAGS.seed), len(dc.Library(library)), collections.Counter()
  file = next(iter(dc.Library(library))).data
  connection = http.client.HTTPConnection(service.address)
  for number in range(FLAGS.broken):
    if number % 4 == 0:
      photo = next(photos)
      body = photo[:rng.integers(len(photo) - 2)]
    elif number % 4 == 1:
      body = rng.bytes(rng.integers(5000))
    elif number % 4 == 2:
      body = bytes(file[:rng.integers(len(file))])
    else:
      changed = bytearray(file)
      changed[rng.integers(len(file))] ^= 1 << rng.integers(8)
      body = bytes(changed)
    status, answer = ask(connection, "POST", "/photos", body)
    statuses[status] += 1
    if status not in (400, 413) or "error" not in json.loads(answer):
      raise SystemExit(f"error: expected a broken upload to be refused. Received: {status}, {answer[:200]!r}")
  print(f"{FLAGS.broken} broken uploads: " + ", ".join(f"{status}: {count}" for status, count in statuses.items())
        + f"; {len(dc.Library(library)) - before} kept", flush=True)


def kill(service, library, upload, number):
  """Kills the service during uploads and looks for those that it had answered."""
  acknowledged, stop = set(), threading.Event()

  def seen(status, body, seconds):
    del seconds
    if status in (200, 201):
      acknowledged.add(json.loads(body)["id"])

  before = len(dc.Library(library))
  threads = in_parallel(service, upload, lambda: not stop.is_set(), seen)
  rng = np.random.default_rng(FLAGS.seed + number)
  enough = rng.integers(1, MOST_BEFORE_KILL)
  while len(acknowledged) < enough:
    time.sleep(0.001)
  time.sleep(rng.uniform(0, 1))
  service.end(signal.SIGKILL)
  stop.set()
  for thread in threads:
    thread.join()
  photos = dc.Library(library)
  lost, wrong = acknowledged - {photo.id for photo in photos}, list(photos.verify())
  print(f"kill {number + 1}: {len(acknowledged)} acknowledged, {len(photos) - before} stored, {len(lost)} lost, "
        f"{len(wrong)} not whole", flush=True)
  if lost or wrong:
    raise SystemExit("error: expected every acknowledged photo to be there, and whole")


if __name__ == "__main__":
  training_flags.main(main)
