"""Photos to compressed files and back: `Codec`."""

from collections.abc import Iterable, Iterator, Sequence
import functools
import os
from typing import Optional, overload

import numpy as np

from deepcomp_tf.bitstream import Bitstream
from deepcomp_tf.bitstream import FileBytes
from deepcomp_tf.codec import batches
from deepcomp_tf.codec import container
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec import tiling
from deepcomp_tf.codec.reader import Reader
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import Errors
from deepcomp_tf.errors import passed_on
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.threads import check_fork
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map

# The longest search for better symbols, see `Codec.encode`.
MAX_EFFORT = 9

# Whom such a search can be for, see `tasks.aim`.
READERS = ("people", "networks", "both")


class Codec(Reader):
  """Compresses and decompresses with one operating point.

  Examples:
    >>> codec = Codec.load("bpp0.330")
    >>> data = codec.compress(image)        # uint8 [H, W, 3] -> bytes
    >>> codec.decompress(data)              # bytes -> uint8 [H, W, 3]
    >>> codec.symbols(data)                 # bytes -> uint8 [ceil(H/8), ceil(W/8), C], no neural network
    >>> codec.representation(data)          # bytes -> float32 [ceil(H/8), ceil(W/8), C], no neural network

  Pickled, it is its name or folder, and is loaded again where it is unpickled. In a process that was forked after TensorFlow had
  run, reading symbols works, and what needs the networks raises a DeepcompError.

  Attributes:
    operating_point: its name.
    channels: of the representation.
    fingerprint: 3 bytes by which files name the operating point.
    encoder_version: of the encoder that writes. Files do not say it, and need not.
    decoder_version: of the decoder.
    mean: float32 `[C]`, of the representation over training photos.
    deviation: float32 `[C]`, likewise.
    source: what it was loaded by, a name or a folder; None where it was not loaded.
    readers: for whom its searches choose symbols, from `READERS`.
    fingerprints: of the files that it writes, a tuple.

  Args:
    point: an `operating_point.OperatingPoint`.
    aim: what a search for better symbols weighs beside the picture, such as a `tasks.aim.SameAnswers`; see `codec.search`.
  """

  def __init__(self, point, aim=None):
    super().__init__(point)
    self.encoder_version, self.decoder_version = point.encoder_version, point.decoder_version
    self.source, self.info, self.fingerprints = point.source, point.info, (point.fingerprint,)
    self.mean, self.deviation = point.mean, point.deviation
    self._point, self._aim, self.readers = point, aim, aim.readers if aim else READERS[0]

  @property
  def encoder_identity(self) -> str:
    """A name for caches of symbols: codecs that would choose other symbols have other names."""
    return self.fingerprint.hex() + (f"-encoder{self.encoder_version}" if self.encoder_version > 1 else "")

  @property
  def identity(self) -> str:
    """A name for caches of decoded pixels, which depend on the decoder, too."""
    return self.encoder_identity + (f"-decoder{self.decoder_version}" if self.decoder_version > 1 else "")

  @property
  def model(self):
    """The `CompressionModel`, made when it is first asked for, not in a process that was forked after TensorFlow had run."""
    check_fork()
    return self._point.model

  _encode = functools.cached_property(lambda self: tiling.graph(self.model.symbols_of, 3))
  _encode_batch = functools.cached_property(lambda self: tiling.graph(self.model.symbols_of, 3, batch=None))
  _decode = functools.cached_property(lambda self: tiling.graph(self.model.picture_of, self.channels))

  @functools.cached_property
  def _search(self):
    from deepcomp_tf.codec.search import Search  # as in `encode`
    return Search(self.model, self._point.context_model, self._point.bits_per_pixel, self._aim)

  @classmethod
  def load(cls, name: str | os.PathLike, encoder_version: Optional[int] = None, aim=None) -> "Codec":
    """The codec of an operating point.

    Args:
      name: from `dc.operating_points.names()`, or a folder that training wrote.
      encoder_version: of an earlier encoder that shall write files; None for the newest.
      aim: see `Codec`.

    Raises:
      DeepcompError: there is no such operating point, or encoder.
    """
    return cls(operating_point.OperatingPoint.load(name, encoder_version), aim)

  @classmethod
  def load_for(cls, data: FileBytes) -> "Codec":
    """The codec of the shipped operating point that a file was written with; errors are those of `Bitstream.operating_point`."""
    return cls.load(Bitstream(data).operating_point)

  def __reduce__(self):
    if self.source is None:
      raise DeepcompError("expected a codec that was loaded by its name or folder, which is what is pickled. Received: one of "
                          f"the network {self.operating_point} that is not saved")
    return _load_again, (self.source, self.encoder_version, self.fingerprint, self._aim)

  def encode(self, image: np.ndarray, effort: int = 0, rate: float = 1.0) -> np.ndarray:
    """The symbols of an image, as its file holds them.

    Args:
      image: uint8 `[H, W, 3]` RGB, H and W at least 1.
      effort: 0 for those that the encoder chooses; 1..9 for better ones, which are searched for this image (`codec.search`), the
        longer the higher. The same image has the same symbols each time on the same machine.
      rate: with an effort, factor on what the search weighs bits with: above 1 for smaller files.

    Returns:
      uint8 `[ceil(H/8), ceil(W/8), C]`, 0..L-1.

    Raises:
      DeepcompError: the image is no such array, has more than `container.MAX_PIXELS`, or effort or rate are out of range.
    """
    image = batches.check_image(image)
    _check_effort(effort, rate)
    symbols = tiling.apply(self._encode, tiling.pad(image), STRIDE, 1, self.channels)
    return self.improve(image, symbols, effort, rate) if effort else symbols

  def improve(self, image: np.ndarray, symbols: np.ndarray, effort: int, rate: float = 1.0) -> np.ndarray:
    """Better symbols for an image than those given, or these, uint8 `[ceil(H/8), ceil(W/8), C]`.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      symbols: of this image, as `encode` gives them.
      effort: see `encode`; at least 1.
      rate: see `encode`.

    Raises: as `encode`.
    """
    image = batches.check_image(image)
    _check_effort(effort, rate, least=1)
    check_fork()
    from deepcomp_tf.codec import search  # TensorFlow, which reading symbols does not need
    return self._search.improve(image, symbols, search.SWEEPS[effort], rate)

  def compress(self, image: np.ndarray, effort: int = 0, rate: float = 1.0) -> bytes:
    """The bytes of the file of an image, uint8 `[H, W, 3]` RGB. Arguments and errors are those of `encode`."""
    image = batches.check_image(image)
    return self.pack(self.encode(image, effort, rate), *image.shape[:2])

  def compress_many(self, images: Iterable[np.ndarray], errors: Errors = "raise", effort: int = 0,
                    rate: float = 1.0) -> Iterator[bytes]:
    """Images as the bytes of their files.

    While the network runs, the next images are read and those before are entropy coded, on threads. On a CPU the bytes are
    those of `compress`. A GPU is given batches of images of equal padded size, out of some hundred that wait, so that sizes may
    be mixed; there rounding may take another symbol than `compress` does where z lies between two.

    Args:
      images: iterable of uint8 `[H, W, 3]` RGB arrays, read on a thread. `DeepcompError`s, of images that could not be read, may
        be among them. It may wait for the file of an image that it gave.
      errors: "raise" the DeepcompError of such an image, or of what is no image, where its file would come, or "return" it.
      effort: see `encode`. Searches take turns, since each takes all cores.
      rate: see `encode`.

    Returns:
      iterator of bytes, in the order of the images.
    """
    _check_effort(effort, rate)
    return passed_on(self._files_of(images, effort, rate), errors)

  def _files_of(self, images, effort, rate):
    self._encode  # made now, not by several threads  # pylint: disable=pointless-statement
    if effort:
      self._search  # likewise  # pylint: disable=pointless-statement
    encode_batch = ((lambda padded: list(self._encode_batch(np.stack(padded)).numpy()))
                    if batches.on_gpu() and not effort else None)
    encode = functools.partial(self.encode, effort=effort, rate=rate)
    yield from batches.files_of(images, encode, encode_batch, self._coder.encode_batch, self.fingerprint)

  def pack(self, symbols: np.ndarray, height: int, width: int) -> bytes:
    """The bytes of the file of a photo of height x width, whose symbols are uint8 `[ceil(H/8), ceil(W/8), C]`."""
    return container.pack(self.fingerprint, height, width, self.encode_symbols(symbols))

  def encode_symbols(self, symbols: np.ndarray) -> bytes:
    """The payload of a file for symbols as `encode` gives them: uint8 `[h, w, C]` -> bytes."""
    return self._coder.encode(symbols)

  @overload
  def decompress(self, data: FileBytes, errors: Errors = ...) -> np.ndarray: ...
  @overload
  def decompress(self, data: Sequence[FileBytes], errors: Errors = ...) -> list[np.ndarray]: ...

  def decompress(self, data, errors="raise"):
    """The picture in a file, uint8 `[H, W, 3]` RGB, or a list of those in several. Arguments and errors are as of `symbols`."""
    if not container.is_one(data):
      return list(self.decompress_many(container.list_of(data), errors))
    file = self.open(data)
    return self.decode(self.symbols(file), file.height, file.width)

  def decompress_many(self, files: Iterable[FileBytes], errors: Errors = "raise") -> Iterator[np.ndarray]:
    """Pictures of files. While the network runs, the symbols of the next files are decoded on threads.

    Args:
      files: iterable of bytes, or of `Bitstream`s.
      errors: see `symbols`; an error is raised where the picture would come.

    Returns:
      iterator of uint8 `[H, W, 3]` RGB, in the order of the files.
    """
    return passed_on(self._pictures_of(files), errors)

  def _pictures_of(self, files):
    def read(data):
      try:
        file = self.open(data)
        return self.symbols(file), file.height, file.width
      except DeepcompError as error:
        return error

    for found in ordered_map(read, files, cores()):
      yield found if isinstance(found, DeepcompError) else self.decode(*found)

  def decode(self, symbols: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture of symbols as `encode` gives them: uint8 `[ceil(H/8), ceil(W/8), C]` -> `[height, width, 3]`."""
    return np.ascontiguousarray(tiling.apply(self._decode, symbols, 1, STRIDE, 3)[:height, :width])

  reconstruct = decode  # its name until version 0.2


def _load_again(source, encoder_version, fingerprint, aim):
  """The codec of a name or folder, where another process had loaded it."""
  codec = Codec.load(source, encoder_version, aim)
  if codec.fingerprint != fingerprint:
    raise DeepcompError(f"expected the operating point {fingerprint.hex()} in {source}. Received: {codec.fingerprint.hex()}")
  return codec


def _check_effort(effort, rate, least=0):
  if isinstance(effort, bool) or effort not in range(least, MAX_EFFORT + 1):
    raise DeepcompError(f"`effort` must be an integer in {least}..{MAX_EFFORT}. Received: effort={effort!r}")
  if not 0 < rate < float("inf"):
    raise DeepcompError(f"`rate` must be above 0. Received: rate={rate!r}")
