"""The page of `deepcomp demo`: photos are compressed, shown and understood, by each task, on this machine, in a browser.

It binds to this machine alone, keeps nothing on disk, and its page loads nothing from elsewhere (the header of every answer forbids
it). Flask is needed, which the extra `demo` installs.
"""

import base64
import functools
import importlib.util
import math
import os
import threading
import time

import numpy as np

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf import shipped
from deepcomp_tf import tasks
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.codec.images import stored_size
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.evaluation import baselines
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import metrics

HOST = "127.0.0.1"
PEERS = ("jpeg", "webp")
# So many requests may wait; more are refused.
MOST_WAITING = 4
_PAGE = os.path.join(os.path.dirname(__file__), "page.html")


class Busy(DeepcompError):
  """Too many requests wait."""


class Turns:
  """Context for work that takes all of the machine: one at a time, a few wait, the others are refused."""

  def __init__(self, most_waiting=MOST_WAITING):
    self._most = most_waiting
    self._room, self._turn = threading.BoundedSemaphore(1 + most_waiting), threading.Lock()

  def __enter__(self):
    if not self._room.acquire(blocking=False):
      raise Busy(f"{self._most} others are waiting; try again in a minute")
    self._turn.acquire()

  def __exit__(self, *error):
    self._turn.release()
    self._room.release()


class Networks:
  """Codecs of the shipped operating points, and networks of the tasks with something to show, each loaded when first needed.

  Attributes:
    codec: function of an operating point's name.
    tasks: list of functions of a file, which return the network of a task for it.
  """

  def __init__(self):
    self.codec = functools.lru_cache(maxsize=None)(dc.Codec.load)
    self.tasks = [shipped.by_file(task) for task in map(tasks.find, tasks.names()) if task.shows()]


def show_photo(networks, point, stored, max_pixels, effort=0):
  """What the page shows of a photo at an operating point, as a dict for JSON.

  Args:
    networks: `Networks`.
    point: name of a shipped operating point.
    stored: bytes of the photo's file.
    max_pixels: larger photos are refused.
    effort: see `Codec.encode`.
  """
  if point not in dc.operating_points.names():
    raise DeepcompError(f"expected an operating point, {', '.join(dc.operating_points.names())}. Received: {point}")
  photo = decode_photo(stored, max_pixels)
  codec = networks.codec(point)
  data, seconds = _timed(lambda: codec.compress(photo, effort))
  peers = {}
  for name in PEERS:
    encoded = baselines.encode_at_most(name, photo, len(data))
    decoded = baselines.decode(encoded)
    peers[name] = {"picture": url(encode_png(decoded)), "bytes": len(encoded), **_rounded(metrics.distortion(photo, decoded))}
  shown = show_file(networks, data, max_pixels, original=photo)
  return {**shown, "seconds_compressing": seconds, "peers": peers, "original": url(encode_png(photo)),
          "file": base64.b64encode(data).decode()}


def show_file(networks, data, max_pixels, original=None):
  """What the page shows of a compressed file of a shipped operating point, as a dict for JSON.

  Args:
    networks: `Networks`.
    data: bytes.
    max_pixels: larger files are refused, before anything is decoded.
    original: the photo, uint8 `[h, w, 3]`, to measure against.
  """
  file = dc.Bitstream(data)
  _check_size(file.width, file.height, max_pixels)
  networks_for_file, codec = [find(file) for find in networks.tasks], networks.codec(file.operating_point)
  picture, seconds = _timed(lambda: codec.decompress(data))
  answers, understanding = _timed(lambda: [network.answer(data) for network in networks_for_file])
  understood = [network.show(answer, picture) for network, answer in zip(networks_for_file, answers)]
  for shown in understood:
    if "picture" in shown:
      shown["picture"] = url(encode_png(shown["picture"]))
  return {
      "point": codec.operating_point, "width": file.width, "height": file.height, "bytes": len(file),
      "bits_per_pixel": round(file.bits_per_pixel, 4), "seconds_decompressing": seconds,
      "seconds_understanding": understanding, "picture": url(encode_png(picture)),
      "channels": url(encode_png(mosaic(file.symbols))), "understood": understood,
      **(_rounded(metrics.distortion(original, picture)) if original is not None else {})}


def _timed(work):
  """What a function returns, and the seconds that it took, to hundredths."""
  begin = time.perf_counter()
  return work(), round(time.perf_counter() - begin, 2)


def decode_photo(stored, max_pixels):
  """Bytes of a photo's file -> uint8 `[h, w, 3]`; its size is checked before it is decoded."""
  try:
    size = stored_size("", stored)
  except DeepcompError as error:
    raise DeepcompError(f"expected a photo (JPEG, PNG, WebP and what else Pillow reads). Received: a file that is none ({error})"
                        ) from None
  _check_size(*size, max_pixels)
  return read_image("the photo", stored)


def _check_size(width, height, max_pixels):
  if width * height > max_pixels:
    raise DeepcompError(f"expected at most {max_pixels / 1e6:g} megapixels here. Received: {width}x{height}, "
                        f"{width * height / 1e6:.1f} megapixels")


def _rounded(figures):
  """Figures for JSON, None where they are not finite: PSNR of an exact picture is infinite, SSIM of a very small one undefined."""
  return {name: round(value, 4) if math.isfinite(value) else None for name, value in figures.items()}


def mosaic(symbols):
  """The four channels of highest entropy of a representation, two by two, uint8 `[H, W, 3]`, each from black to white."""
  height, width, channels = symbols.shape
  entropies = np.array([figures.channel_entropy(symbols[..., number]) for number in range(channels)])
  canvas = np.full([2 * height + 1, 2 * width + 1], 255, np.uint8)
  for place, number in enumerate(np.argsort(-entropies, kind="stable")[:4]):
    channel = symbols[..., number].astype(np.float32)
    top, left = place // 2 * (height + 1), place % 2 * (width + 1)
    canvas[top:top + height, left:left + width] = np.round(255 * (channel - channel.min()) / max(1.0, np.ptp(channel)))
  return np.repeat(canvas[..., np.newaxis], 3, axis=-1)


def url(png):
  """A data URL of a PNG file."""
  return "data:image/png;base64," + base64.b64encode(png).decode()


def make_app(max_megapixels=4.0):
  """The Flask application, which refuses photos and files with more pixels. A DeepcompError says that Flask is not installed."""
  if importlib.util.find_spec("flask") is None:
    raise DeepcompError("the page needs Flask: pip install -c constraints.txt -e '.[demo]'")
  import flask
  import werkzeug.exceptions

  app = flask.Flask(__name__, static_folder=None)
  max_pixels = round(max_megapixels * 1e6)
  app.config["MAX_CONTENT_LENGTH"] = 16 * max_pixels + 2 ** 20  # no photo of that size takes more
  networks, turns = Networks(), Turns()

  @app.after_request
  def stay_here(response):
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'")
    response.headers["Cache-Control"] = "no-store"
    return response

  @app.errorhandler(DeepcompError)
  def refuse(error):
    return {"error": str(error)}, 503 if isinstance(error, Busy) else 400

  @app.errorhandler(werkzeug.exceptions.HTTPException)
  def refuse_request(error):
    line = (f"expected at most {app.config['MAX_CONTENT_LENGTH'] / 2 ** 20:.0f} MB. Received: more" if error.code == 413 else
            error.description)
    return {"error": line}, error.code

  @app.before_request
  def same_machine():
    # Pages of other origins may not use this one: their requests name another host, or say where they come from.
    host = flask.request.host.rsplit(":", 1)[0]
    if host not in (HOST, "localhost") or flask.request.headers.get("Origin", f"http://{flask.request.host}") != (
        f"http://{flask.request.host}"):
      flask.abort(403, "expected a request of this machine's own page")

  @app.get("/")
  def page():
    with open(_PAGE, encoding="utf-8") as file:
      return flask.render_template_string(file.read(), photos=list(samples.photos()), points=dc.operating_points.names(),
                                          efforts=range(MAX_EFFORT + 1), most=f"{max_megapixels:g}")

  @app.get("/sample/<name>")
  def sample(name):
    photos = samples.photos()
    if name not in photos:
      flask.abort(404, f"expected a sample photo, {', '.join(photos)}. Received: {name}")
    return flask.Response(encode_png(photos[name]), mimetype="image/png")

  @app.post("/compress/<point>")
  def compress_photo(point):
    effort = flask.request.args.get("effort", "0")
    if not effort.isdecimal():
      raise DeepcompError(f"expected an effort in 0..{MAX_EFFORT}. Received: {effort:.20}")
    with turns:
      return show_photo(networks, point, flask.request.get_data(), max_pixels, int(effort))

  @app.post("/open")
  def open_file():
    with turns:
      return show_file(networks, flask.request.get_data(), max_pixels)

  return app


def serve(port, max_megapixels):
  """Serves the page on this machine until it is interrupted. A DeepcompError says that Flask is missing, or the port taken."""
  from werkzeug import serving
  app = make_app(max_megapixels)
  try:
    server = serving.make_server(HOST, port, app, threaded=True)
  except (OSError, SystemExit):
    raise DeepcompError(f"expected a free port. Received: --port={port}, which is taken") from None
  print(f"http://{HOST}:{server.port}/ (Ctrl-C ends it)", flush=True)
  try:
    server.serve_forever()
  finally:
    server.server_close()
