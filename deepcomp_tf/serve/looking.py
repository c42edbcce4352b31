"""What the page shows of one photo at an operating point: beside JPEG and WebP, and as the networks see and understand it."""

import base64
import functools
import math
import time

import numpy as np
from etils import epy

import deepcomp_tf as dc
from deepcomp_tf import shipped
from deepcomp_tf import tasks
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.serve import uploads

with epy.lazy_imports():
  import tensorflow as tf
  from deepcomp_tf import models
  from deepcomp_tf.evaluation import baselines
  from deepcomp_tf.evaluation import figures
  from deepcomp_tf.evaluation import metrics
  from deepcomp_tf.tasks import segment

PEERS = ("jpeg", "webp")


class Networks:
  """Codecs of the shipped operating points, and networks of the tasks with something to show, each loaded when first needed.

  Attributes:
    codec: function of an operating point's name.
    tasks: list of functions of a file, which return the network of a task for it.
    through_pixels: function of such a network, see there.
  """

  def __init__(self):
    self.codec = functools.lru_cache(maxsize=None)(dc.Codec.load)
    self.tasks = [shipped.by_file(task) for task in map(tasks.find, tasks.names()) if task.shows()]
    self.through_pixels = functools.lru_cache(maxsize=None)(through_pixels)


@functools.lru_cache(maxsize=None)
def _whole(backbone, cut):
  """The network that grafts were cut from, with random weights."""
  return models.Backbone(backbone, cut)


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
  networks_for_file, codec = [find(file) for find in networks.tasks], networks.codec(file.operating_point)
  picture, seconds = _timed(lambda: codec.decompress(data))
  answers, understanding = _timed(lambda: [network.answer(file) for network in networks_for_file])  # its symbols once
  understood = [network.show(answer, picture) for network, answer in zip(networks_for_file, answers)]
  whole = [networks.through_pixels(network) for network in networks_for_file]
  for shown in understood:
    if "picture" in shown:
      shown["picture"] = url(encode_png(shown["picture"]))
  return {
      "point": codec.operating_point, "width": file.width, "height": file.height, "bytes": len(file),
      "bits_per_pixel": round(file.bits_per_pixel, 4), "seconds_decompressing": seconds,
      "seconds_understanding": understanding, "seconds_through_pixels": None if None in whole else round(
          seconds + _timed(lambda: [run(picture) for run in whole])[1], 2), "picture": url(encode_png(picture)),
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
