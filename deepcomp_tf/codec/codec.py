"""Photos to compressed files and back: `Codec`."""

import contextlib
import functools
import os

import numpy as np

from deepcomp_tf.codec import batches
from deepcomp_tf.codec import container
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec import tiling
from deepcomp_tf.codec.entropy_coder import EntropyCoder
from deepcomp_tf.codec.entropy_coder import Job
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.threads import check_fork

# The longest search for better symbols, see `Codec.encode`.
MAX_EFFORT = 9

# Whom such a search can be for, see `inference.aim`.
READERS = ("people", "networks", "both")


class Codec:
  """Compresses and decompresses with one operating point.

  >>> codec = Codec.load("bpp0.330")
  >>> data = codec.compress(image)        # uint8 [H, W, 3] -> bytes
  >>> codec.decompress(data)              # bytes -> uint8 [H, W, 3]
  >>> codec.symbols(data)                 # bytes -> uint8 [ceil(H/8), ceil(W/8), C], no neural network
  >>> codec.representation(data)          # bytes -> float32 [ceil(H/8), ceil(W/8), C], no neural network

  Pickled, it is its name or folder, and is loaded again where it is unpickled. In a process that was forked after TensorFlow had
  run, reading symbols works, and what needs the networks raises a DeepcompError.

  Attributes:
    operating_point: name of the operating point.
    encoder_version: of the encoder that writes files, see `load`; files do not tell, and need not, which one wrote them.
    decoder_version: of its decoder, which may be trained further without any change of files; 1 is the first.
    readers: for whom its searches choose, of `READERS`; that of its `aim`.
    channels: C.
    fingerprint: 3 bytes that files of this operating point bear.
    fingerprints: of the files that it writes: this one.
    mean, deviation: float32 `[C]`, statistics of the representation, see `operating_point.OperatingPoint`.
    source: the name or the absolute path that it was loaded from; None where it was not.

  Args:
    point: an `operating_point.OperatingPoint`.
    aim: what a search for better symbols weighs (`encode`, with an effort): None for the picture alone, or for example an
      `inference.aim.SameAnswers`; see `codec.search`.
  """

  def __init__(self, point, aim=None):
    self.operating_point = point.name
    self.encoder_version, self.decoder_version = point.encoder_version, point.decoder_version
    self.fingerprint, self.source = point.fingerprint, point.source
    self.fingerprints = (point.fingerprint,)
    self.channels = point.channels
    self.info = point.info
    self.mean, self.deviation = point.mean, point.deviation
    self._point, self._aim, self.readers = point, aim, aim.readers if aim else READERS[0]
    self._coder = EntropyCoder(point.context_model)

  @property
  def encoder_identity(self):
    """A text for names of caches: that of another codec that would choose other symbols differs."""
    return self.fingerprint.hex() + (f"-encoder{self.encoder_version}" if self.encoder_version > 1 else "")

  @property
  def identity(self):
    """The same, also where another codec would decode symbols to other pixels."""
    return self.encoder_identity + (f"-decoder{self.decoder_version}" if self.decoder_version > 1 else "")

  @property
  def model(self):
    """The `CompressionModel`, made when it is first asked for: reading symbols does not need it.

    Raises:
      DeepcompError: the process was forked after TensorFlow had run.
    """
    check_fork()
    return self._point.model

  @functools.cached_property
  def _encode(self):
    return _graph(self.model.symbols_of, 3)

  @functools.cached_property
  def _encode_batch(self):
    return _graph(self.model.symbols_of, 3, batch=None)

  @functools.cached_property
  def _search(self):
    from deepcomp_tf.codec.search import Search  # as in `encode`
    return Search(self.model, self._point.context_model, self._point.bits_per_pixel, self._aim)

  @functools.cached_property
  def _decode(self):
    return _graph(self.model.picture_of, self.channels)

  @classmethod
  def load(cls, name, encoder_version=None, aim=None):
    """The codec of an operating point.

    Args:
      name: one of `dc.operating_points.names()`, or a folder that training wrote.
      encoder_version: of the encoder, where files shall be written as an earlier one wrote them; None for the newest.
      aim: of `Codec`.

    Raises:
      DeepcompError: there is no such operating point, or encoder of it.
    """
    return cls(operating_point.OperatingPoint.load(name, encoder_version), aim)

  @classmethod
  def load_for(cls, data):
    """The codec of the shipped operating point that a file was written with.

    Raises:
      BitstreamError: the file is damaged, or of an operating point that is not shipped.
    """
    fingerprint = container.read_header(data).fingerprint
    for name in operating_point.names():
      if operating_point.fingerprint(name) == fingerprint:
        return cls.load(name)
    raise BitstreamError(
        f"of an unknown operating point {fingerprint.hex()}: expected one of {_known_fingerprints()}")

  def __reduce__(self):
    if self.source is None:
      raise DeepcompError("expected a codec that was loaded by its name or folder, which is what is pickled. Received: one of "
                          f"the network {self.operating_point} that is not saved")
    return _load_again, (self.source, self.encoder_version, self.fingerprint, self._aim)

  def encode(self, image, effort=0, rate=1.0):
    """The symbols of an image, as its file holds them.

    Args:
      image: uint8 `[H, W, 3]` RGB, H and W at least 1.
      effort: 0 for those that the encoder chooses; 1..9 for better ones, which are searched for this image (`codec.search`), the
        longer the higher. They are the same ones for the same image on the same machine.
      rate: with an effort, factor on what the search weighs bits with: above 1 for smaller files.

    Returns:
      uint8 `[ceil(H/8), ceil(W/8), C]`, 0..L-1.

    Raises:
      DeepcompError: the image is no such array, has more than `container.MAX_PIXELS`, or effort or rate are out of range.
    """
    image = _check_image(image)
    _check_effort(effort, rate)
    padded = tiling.pad(image)
    symbols = np.empty([side // STRIDE for side in padded.shape[:2]] + [self.channels], np.uint8)
    tiling.apply(self._encode, padded, symbols, STRIDE, 1)
    return self.improve(image, symbols, effort, rate) if effort else symbols

  def improve(self, image, symbols, effort, rate=1.0):
    """Better symbols for an image than those that are given, or these.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      symbols: of this image, as `encode` gives them.
      effort: 1..9, see `encode`.
      rate: of `encode`.

    Returns:
      uint8 `[ceil(H/8), ceil(W/8), C]`.

    Raises:
      DeepcompError: as `encode`.
    """
    image = _check_image(image)
    _check_effort(effort, rate, least=1)
    check_fork()
    from deepcomp_tf.codec import search  # TensorFlow, which reading symbols does not need
    return self._search.improve(image, symbols, search.SWEEPS[effort], rate)

  def compress(self, image, effort=0, rate=1.0):
    """An image as the bytes of a file.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      effort, rate: of `encode`.

    Raises:
      DeepcompError: as `encode`.
    """
    image = _check_image(image)
    return container.pack(self.fingerprint, *image.shape[:2], self.encode_symbols(self.encode(image, effort, rate)))

  def compress_many(self, images, errors="raise", effort=0, rate=1.0):
    """Images as the bytes of their files.

    While the network runs, the next images are read and those before are entropy coded, on threads. On a CPU the bytes are
    those of `compress`; several images are encoded at a time, each by itself. A GPU is given batches of images of equal padded
    size, of up to some hundred that wait, so that sizes may be mixed; there rounding may take another symbol than `compress`
    does where z lies between two.

    >>> for data in codec.compress_many(images):

    Args:
      images: iterable of uint8 `[H, W, 3]` RGB arrays, read on a thread. It may hold `DeepcompError`s, of images that could
        not be read, which are treated as those of other images. It may wait for the file of an image that it gave.
      errors: what becomes of an image that is no such array: "raise" its DeepcompError, where its file would come, or "return"
        that in place of the file.
      effort, rate: of `encode`. Searches take turns, since each takes all cores.

    Yields:
      bytes, in the order of the images.

    Raises:
      DeepcompError: see `errors`; or effort or rate are out of range.
    """
    if errors not in ("raise", "return"):
      raise DeepcompError(f"`errors` must be raise or return. Received: errors={errors!r}")
    _check_effort(effort, rate)
    return self._compress_many(images, errors, effort, rate)

  def _compress_many(self, images, errors, effort, rate):
    self._encode  # made now, not by several threads  # pylint: disable=pointless-statement
    if effort:
      self._search  # likewise  # pylint: disable=pointless-statement
    encode_batch = (lambda padded: list(self._encode_batch(np.stack(padded)).numpy())) if _on_gpu() and not effort else None
    encode = functools.partial(self.encode, effort=effort, rate=rate)
    with contextlib.closing(batches.compress(images, _check_image, encode, encode_batch, self._coder.encode_batch,
                                             self.fingerprint)) as files:
      for data in files:
        if isinstance(data, DeepcompError) and errors == "raise":
          raise data
        yield data

  def encode_symbols(self, symbols):
    """The payload of a file for symbols as `encode` gives them: uint8 `[h, w, C]` -> bytes."""
    return self._coder.encode(symbols)

  def symbols(self, data):
    """The symbols in a file: bytes -> uint8 `[ceil(H/8), ceil(W/8), C]`. Runs no neural network.

    Raises:
      BitstreamError: the file is damaged, of another operating point, or larger than `container.MAX_PIXELS`.
      DeepcompError: what is given is not the bytes of a file, but a path for example.
    """
    header = self._read(data)
    return self._coder.decode(container.bytes_of(data)[header.size:], *_map_size(header))

  def symbols_of(self, files, threads=None):
    """The symbols in several files, decoded on several threads.

    Args:
      files: list of bytes.
      threads: at most so many; None for as many as there are cores.

    Returns:
      list of uint8 `[ceil(H/8), ceil(W/8), C]`, and a dict from places in the list to the `BitstreamError`s of the files
      that are damaged, where the list holds None.

    Raises:
      DeepcompError: what is given is no list, or not of bytes.
    """
    files = container.list_of(files)
    opened, errors = self._open(files)
    jobs, end = [], 0
    for payload, rows, columns in opened.values():
      jobs.append(Job(payload, rows, columns, 0, 0, rows, columns, end))
      end += rows * columns * self.channels
    symbols, result = np.empty(end, np.uint8), [None] * len(files)
    for number, job, error in zip(opened, jobs, self._coder.decode_batch(jobs, symbols, threads)):
      if error:
        errors[number] = error
      else:
        size = job.rows * job.columns * self.channels
        result[number] = symbols[job.begin:job.begin + size].reshape(job.rows, job.columns, self.channels)
    return result, errors

  def crops_of(self, files, size, places=None, threads=None):
    """Crops of the symbols in several files, decoded on several threads straight into a batch.

    Args:
      files: list of bytes.
      size: edge of the crops in positions, of 8x8 pixels.
      places: float `[n, 2]` in [0, 1), where each crop lies between the map's top and bottom, and left and right; None for
        the center.
      threads: at most so many; None for as many as there are cores.

    Returns:
      uint8 `[n, size, size, C]`, and a dict from places in the list to the errors of the files that have no crop:
      `BitstreamError` where one is damaged, `DeepcompError` where it is smaller. Their crops are 0.
    """
    files = container.list_of(files)
    symbols = np.zeros([len(files), size, size, self.channels], np.uint8)
    places = None if places is None else np.asarray(places).tolist()
    opened, errors = self._open(files)
    jobs = {}
    for number, (payload, rows, columns) in opened.items():
      if min(rows, columns) < size:
        errors[number] = DeepcompError(f"expected a file of at least {STRIDE * size} pixels in both directions. Received: "
                                       f"one of {STRIDE * min(rows, columns)}")
        continue
      if places is None:
        top, left = (rows - size) // 2, (columns - size) // 2
      else:
        top, left = (int(place * (side - size + 1)) for place, side in zip(places[number], (rows, columns)))
      jobs[number] = Job(payload, rows, columns, top, left, size, size, number * symbols[0].size)
    for number, error in zip(jobs, self._coder.decode_batch(list(jobs.values()), symbols, threads)):
      if error:
        errors[number], symbols[number] = error, 0
    return symbols, errors

  def _open(self, files):
    """(payload, rows, columns) of the files that may hold symbols, and the errors of the others, by their places."""
    opened, errors = {}, {}
    for number, data in enumerate(files):
      try:
        header = self._read(data)
        payload = container.bytes_of(data)[header.size:]
        rows, columns = _map_size(header)
        self._coder.check(payload, rows, columns)
        opened[number] = payload, rows, columns
      except BitstreamError as error:
        errors[number] = error
    return opened, errors

  def representation(self, data):
    """The quantized representation in a file: bytes -> float32 `[ceil(H/8), ceil(W/8), C]`, no neural network.

    Raises: as `symbols`.
    """
    return self._point.centers[self.symbols(data)]

  def decompress(self, data):
    """The picture in a file: bytes -> uint8 `[H, W, 3]` RGB.

    Raises: as `symbols`.
    """
    header = self._read(data)
    return self.reconstruct(self.symbols(data), header.height, header.width)

  def reconstruct(self, symbols, height, width):
    """The picture of symbols as `encode` gives them, cropped to height x width."""
    image = np.empty([symbols.shape[0] * STRIDE, symbols.shape[1] * STRIDE, 3], np.uint8)
    tiling.apply(self._decode, symbols, image, 1, STRIDE)
    return np.ascontiguousarray(image[:height, :width])

  def estimated_bits(self, symbols):
    """Bits that the paper's measure gives: symbols times the entropy of their own pooled histogram."""
    counts = np.bincount(symbols.ravel())
    p = counts[counts > 0] / symbols.size
    return float(-(p * np.log2(p)).sum() * symbols.size)

  def _read(self, data):
    header = container.read_header(data)
    if header.fingerprint != self.fingerprint:
      raise BitstreamError(
          f"of another operating point: expected {self.fingerprint.hex()} ({self.operating_point}), the file says "
          f"{header.fingerprint.hex()} (known are {_known_fingerprints()})")
    try:
      container.check_pixels(header.height, header.width)
    except DeepcompError as error:
      raise BitstreamError(str(error)) from None
    return header


def _load_again(source, encoder_version, fingerprint, aim):
  """The codec of a name or folder, where another process had loaded it."""
  codec = Codec.load(source, encoder_version, aim)
  if codec.fingerprint != fingerprint:
    raise DeepcompError(f"expected the operating point {fingerprint.hex()} in {source}. Received: {codec.fingerprint.hex()}")
  return codec


def _map_size(header):
  """Rows and columns of the symbols in a file."""
  return -(-header.height // STRIDE), -(-header.width // STRIDE)


def _known_fingerprints():
  return ", ".join(f"{operating_point.fingerprint(name).hex()} ({name})" for name in operating_point.names())


def _on_gpu():
  import tensorflow as tf  # as in `_graph`
  return bool(tf.config.list_logical_devices("GPU"))


def _graph(function, channels, batch=1):
  """A function of uint8 images `[batch, h, w, channels]` of any size as a TensorFlow graph, not after a fork."""
  import tensorflow as tf  # slow to import, and reading symbols does not need it
  graph = tf.function(function, input_signature=[tf.TensorSpec([batch, None, None, channels], tf.uint8)], jit_compile=False)

  def run(images):
    check_fork()
    return graph(images)
  return run


def _check_effort(effort, rate, least=0):
  if isinstance(effort, bool) or effort not in range(least, MAX_EFFORT + 1):
    raise DeepcompError(f"`effort` must be an integer in {least}..{MAX_EFFORT}. Received: effort={effort!r}")
  if not 0 < rate < float("inf"):
    raise DeepcompError(f"`rate` must be above 0. Received: rate={rate!r}")


def _check_image(image):
  if isinstance(image, (str, bytes, bytearray, memoryview, os.PathLike)):
    given = f"the path {image}" if isinstance(image, (str, os.PathLike)) else "bytes"
    raise DeepcompError("`image` must be a uint8 array of shape [H, W, 3], as deepcomp_tf.codec.images.read_image gives it of a "
                        f"photo's file. Received: {given}")
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
    raise DeepcompError("`image` must be a uint8 array of shape [H, W, 3], H and W at least 1. "
                        f"Received: dtype={image.dtype}, shape={image.shape}")
  container.check_pixels(*image.shape[:2])
  return image
