"""What the page shows of one photo at an operating point: beside JPEG and WebP, and as the networks see and understand it."""

import base64
import concurrent.futures
import functools
import math
import time

import numpy as np
from etils import epy

import deepcomp_tf as dc
from deepcomp_tf import tasks
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.serve import uploads
from deepcomp_tf.tasks import quick

with epy.lazy_imports():
  import tensorflow as tf
  from deepcomp_tf import models
  from deepcomp_tf.evaluation import baselines
  from deepcomp_tf.evaluation import figures
  from deepcomp_tf.evaluation import metrics
  from deepcomp_tf.tasks import segment

PEERS = ("jpeg", "webp")

# Seconds without a look, after which networks on pixels are made beside.
QUIET = 4


class Networks:
  """Codecs of the shipped operating points, and networks of the tasks with something to show, each loaded when first needed.

  What the same networks take on decoded pixels is known only once nobody has looked for a while: what is in front of pixels is
  made then, on a thread beside. What LiteRT answers until then is left to TensorFlow from then on, so that both are run by the
  same.

  Args:
    loader: `quick.Loader` of the tasks' networks.

  Attributes:
    codec: function of an operating point's name.
    tasks: list of `tasks.base.Task` classes.
  """

  def __init__(self, loader=None):
    self.loader, self.codec = loader or quick.Loader(allowed=False), functools.lru_cache(maxsize=None)(dc.Codec.load)
    self.tasks = [task for task in map(tasks.find, tasks.names()) if task.shows()]
    self._compared, self._asked, self._open = {}, 0, True
    self._beside = concurrent.futures.ThreadPoolExecutor(1, "deepcomp_pixels")

  def for_file(self, file):
    """Networks for a file, one of each task, and functions of its decoded picture that run the same on pixels, see
    `through_pixels`; None in the place of these until they are made."""
    self._asked, keys = time.monotonic(), [(task, task.find_for(file)) for task in self.tasks]
    compared = [self._compared.get(key) for key in keys]
    if all(made and made.done() for made in compared):
      return tuple(zip(*(made.result() for made in compared)))
    networks = [self.loader.task(*key) for key in keys]
    for key, network in zip(keys, networks):
      if key not in self._compared:
        self._compared[key] = self._beside.submit(self._compare, *key, network, file)
    return networks, None

  def compare(self):
    """Waits for what is made beside."""
    concurrent.futures.wait(self._compared.values())

  def close(self):
    """Makes nothing more beside."""
    self._open = False

  def _compare(self, task, name, network, file):
    """A network, run by TensorFlow, and its `through_pixels`, both traced."""
    while self._open and time.monotonic() < self._asked + QUIET:
      time.sleep(0.1)
    if not self._open:
      return network, None
    if isinstance(network.network, quick.Network):
      network = task.load(name)
      network.answer(file)
    run = through_pixels(network)
    if run:
      run(np.zeros([file.height, file.width, 3], np.uint8))
    return network, run


@functools.lru_cache(maxsize=None)
def _whole(backbone, cut):
  """The network that grafts were cut from, with random weights; of one from a file, pixels go in as they are."""
  return models.Backbone(backbone, cut, preprocessing="none" if backbone.startswith("{") else None)


def through_pixels(task):
  """The same network in front of decoded pixels, a function of uint8 `[h, w, 3]`, to see what it takes; None where there is none.

  What is large is brought down, as representations are. A graft's is the whole network that it was cut from: in place of the
  adapter comes what was there before, with random weights, which take as long as trained ones.
  """
  graft = getattr(task.network, "backbone", task.network)
  if not isinstance(graft, models.Graft):
    return None
  whole = _whole(graft.source, graft.cut)

  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([], tf.int32)], jit_compile=False)
  def run(pixels, shrink):
    size = tf.shape(pixels)
    pixels = tf.image.resize(pixels, -(-size[1:3] // shrink), "area")
    found = graft.behind(whole.maps(pixels - models.compression.PIXEL_MEAN), training=False)
    if graft is task.network:
      return found
    return segment.class_ids(task.network.head(tf.cast(found, tf.float32)), size[1], size[2], shrink * STRIDE)

  traced = run.get_concrete_function()
  return lambda picture: traced(tf.constant(picture[np.newaxis]), tf.constant(1 << task.halvings(*picture.shape[:2]))).numpy()


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
  photo = uploads.read(stored, max_pixels)
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
  uploads.check(data, max_pixels)
  file = dc.Bitstream(data)
  (found, through), codec = networks.for_file(file), networks.codec(file.operating_point)
  picture, seconds = _timed(lambda: codec.decompress(data))
  answers, understanding = _timed(lambda: [network.answer(file) for network in found])  # its symbols once
  understood = [network.show(answer, picture) for network, answer in zip(found, answers)]
  seconds_on_pixels = None
  if through and None not in through:
    seconds_on_pixels = round(seconds + _timed(lambda: [run(picture) for run in through])[1], 2)
  for shown in understood:
    if "picture" in shown:
      shown["picture"] = url(encode_png(shown["picture"]))
  return {
      "point": codec.operating_point, "width": file.width, "height": file.height, "bytes": len(file),
      "bits_per_pixel": round(file.bits_per_pixel, 4), "seconds_decompressing": seconds,
      "seconds_understanding": understanding, "seconds_through_pixels": seconds_on_pixels, "picture": url(encode_png(picture)),
      "channels": url(encode_png(mosaic(file.symbols))), "understood": understood,
      **(_rounded(metrics.distortion(original, picture)) if original is not None else {})}


def _timed(work):
  """What a function returns, and the seconds that it took, to hundredths."""
  begin = time.perf_counter()
  return work(), round(time.perf_counter() - begin, 2)


def _rounded(figures):
  """Figures for JSON, None where they are not finite: PSNR of an exact picture is infinite,
  SSIM of a very small one undefined."""
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
