"""Image files: finding them, and reading them as 8-bit RGB.

All photos are read by `read_image`, from folders, TFDS sets and uploads alike, so that a photo has the same pixels everywhere.
TensorFlow's faster decoder is asked only for files of which `is_plain_jpeg` proves that it makes the same of them.
"""

import contextlib
import io
import os
import struct
import threading
from typing import NamedTuple, Optional
import warnings

import numpy as np
from PIL import Image
from PIL import UnidentifiedImageError

from deepcomp_tf import files
from deepcomp_tf.codec import colors
from deepcomp_tf.codec import container
from deepcomp_tf.codec import formats
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.errors import UnreadableError

# Endings of photos. A file with another ending is a photo if its content is.
EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".heic", ".heif", ".hif", ".jxl", ".bmp", ".dib",
    ".gif", ".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".psd", ".qoi")

# Pillow finds a small preview in some of these, which is not the photo.
_RAW_EXTENSIONS = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw")

# Pillow's formats that the first bytes tell for certain.
_TOLD_BY_CONTENT = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "PSD", "QOI")

_BEGINNING = 1 << 16  # bytes in which most photos tell their size

# What pictures are written as: endings, and Pillow's names of the formats.
PICTURE_KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
DEFAULT_QUALITY = 90

# Decoded pixels that wait for a network, at most, however many threads decode.
PIXELS_AHEAD = 1 << 26

# The warnings' filters are those of all threads.
_opening = threading.Lock()


class Sides(NamedTuple):
  """The most pixels that the sides of a photo may have; None: any number. Photos are made smaller, never larger."""
  longer: Optional[int] = None
  shorter: Optional[int] = None

  def size_of(self, width, height):
    """(width, height) that a photo of such a size gets."""
    sides = ((self.longer, max(width, height)), (self.shorter, min(width, height)))
    factor = min([1.0, *(most / side for most, side in sides if most)])
    return tuple(max(1, round(factor * side)) for side in (width, height))

  def bring_down(self, image):
    """The photo, uint8 `[h, w, 3]`, made smaller where it is too large."""
    size = self.size_of(image.shape[1], image.shape[0])
    return image if size == image.shape[1::-1] else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


class _TooLarge(Exception):
  """A photo has more pixels than files may have."""


def list_images(pattern):
  """Sorted paths of the image files in a folder (without its subfolders) or matching a glob pattern; none is a DeepcompError."""
  in_folder = files.isdir(pattern)
  paths = [os.path.join(pattern, name) for name in files.listdir(pattern)] if in_folder else files.glob(pattern)
  paths = [path for path in paths if not files.isdir(path) and (not in_folder or is_photo(path))]
  if not paths:
    raise DeepcompError(f"expected a folder with images or a pattern that matches some. Received: {pattern}")
  return paths


def split_images(paths, held_out):
  """Splits paths into (training, validation), the validation part being `held_out` of them, evenly spread.

  It is at most a tenth of them, and one where that is less than one.
  """
  if held_out < 0 or held_out and len(paths) < 2:
    raise DeepcompError("expected two photos at least, of which some are held out for validation. "
                        f"Received: {len(paths)}, {held_out} to be held out")
  held_out = min(held_out, max(1, len(paths) // 10))
  chosen = [int((i + 0.5) * len(paths) / held_out) for i in range(held_out)]
  held = set(chosen)
  return [path for i, path in enumerate(paths) if i not in held], [paths[i] for i in chosen]


def is_photo(path):
  """Whether a file is a photo, by its ending, or by its first bytes where that says nothing.

  Photos that cannot be read, for want of a plugin or since they are damaged, are photos all the same.
  """
  ending = os.path.splitext(path)[1].lower()
  if ending in EXTENSIONS or ending in _RAW_EXTENSIONS:
    # A computer with macOS keeps what it knows of a file beside it, under the same ending.
    return not os.path.basename(path).startswith("._")
  if ending == ".deepcomp":
    return False
  try:
    head = files.read(path, formats.HEAD)
    if formats.plugin_for(head):
      return True
    with files.open_file(path) as file:
      Image.open(file, formats=_TOLD_BY_CONTENT).close()
    return True
  except Exception:  # whatever Pillow raises for what is no image  # pylint: disable=broad-except
    return False


def read_image(path, data=None, admit=None):
  """Reads an image file as uint8 `[h, w, 3]` RGB.

  Args:
    path: of the file.
    data: its bytes, where they are read already. Then `path` is what errors call it, or empty.
    admit: called with the number of pixels before they are decoded; it may wait until there is memory for them.

  JPEG, PNG, WebP and whatever else Pillow reads; HEIC and JPEG XL with the extra `formats`. The photo is turned as EXIF or XMP
  says. Colours are brought from the file's colour profile to sRGB, relative colorimetric; without a profile, or with a broken
  one, they are taken as sRGB, CMYK by Pillow's formula. Palettes and grayscale become RGB, transparent pixels are laid over
  white, 16-bit grayscale is rounded to 8, of an animation or of several pictures the first is taken.

  Raises:
    UnreadableError: the file is missing or cannot be read.
    DeepcompError: it is no image, is damaged or has more than `container.MAX_PIXELS`.
  """
  if os.path.splitext(path)[1].lower() in _RAW_EXTENSIONS:
    raise DeepcompError(f"expected a photo that was developed from a camera's raw file. Received: {path}")
  if data is None:
    data = _stored(path)
  try:
    try:
      return _decoded(data, admit)
    except ValueError:
      if not data.startswith(b"\x89PNG"):
        raise
      return _decoded(formats.without_texts(data), admit)  # Pillow refuses the whole picture for a text that is too long
  except Exception as error:  # decoders raise everything for damaged files  # pylint: disable=broad-except
    raise _refusal(error, path) from None


def _refusal(error, path):
  """The `DeepcompError` of a file that cannot be decoded."""
  reason, expected = f" ({one_line(error)})", "an image file that Pillow can read"
  if isinstance(error, (_TooLarge, Image.DecompressionBombError)):
    expected = f"an image of at most {container.MAX_PIXELS} pixels (deepcomp_tf.codec.container.MAX_PIXELS)"
  elif isinstance(error, formats.NoPlugin):
    reason, expected = "", str(error)
  elif isinstance(error, UnidentifiedImageError):
    reason = ""
  return DeepcompError(f"expected {expected}{f'. Received: {path}' if path else ''}{reason}")


def stored_size(path, data=None):
  """(width, height) of the photo in a file as it is stored, before it is turned, from its header. Arguments and errors are those
  of `read_image`."""
  try:
    if data is None:
      with contextlib.suppress(Exception):  # of some formats the header is behind this, or all of the file is needed
        with _open(files.read(path, _BEGINNING)) as image:
          return image.size
    with _open(_stored(path) if data is None else data) as image:
      return image.size
  except Exception as error:  # as in `read_image`  # pylint: disable=broad-except
    raise error if isinstance(error, DeepcompError) else _refusal(error, path) from None


def is_plain_jpeg(data):
  """Whether TensorFlow's JPEG decoder, asked for three channels, gives the pixels that `read_image` does.

  That is so for whole baseline and progressive files of 8 bits, of one component or three, that need not be turned and have no
  colour profile but sRGB's. Where in doubt, the answer is no. `data` are the bytes of a file.
  """
  if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
    return False
  at, plain = 2, False
  while data[at:at + 1] == b"\xff" and at + 4 <= len(data):
    marker, length = struct.unpack_from(">xBH", data, at)
    segment = data[at + 4:at + 2 + length]
    if marker == 0xda:  # the pixels follow
      return plain
    if marker in (0xc0, 0xc1, 0xc2):
      if len(segment) < 6:
        return False
      precision, height, width, components = struct.unpack_from(">BHHB", segment)
      plain = precision == 8 and components in (1, 3) and 0 < height * width <= container.MAX_PIXELS
    elif marker in range(0xc3, 0xd0) and marker not in (0xc4, 0xc8):  # other ways of coding
      return False
    elif marker == 0xe1 and not formats.is_upright(segment) or marker == 0xe2 and segment.startswith(b"MPF\0"):  # more pictures
      return False
    elif marker == 0xe2 and segment.startswith(b"ICC_PROFILE\0") and not (
        segment[12:14] == b"\1\1" and colors.is_srgb(segment[14:])):  # part of a profile, or another than sRGB's
      return False
    at += 2 + length
  return False


def _stored(path):
  try:
    return files.read(path)
  except FileNotFoundError:
    raise UnreadableError(f"expected an image file. There is none at: {path}") from None
  except OSError as error:
    raise UnreadableError(f"expected an image file that can be read. Received: {path} ({error.strerror or error})") from None


def _open(data):
  """The image in a file's bytes, of which only the header is read."""
  plugin = formats.plugin_for(data[:formats.HEAD])
  if plugin:
    formats.load_plugin(*plugin)
  with _opening, warnings.catch_warnings():
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    image = Image.open(io.BytesIO(data))
  if image.width * image.height > container.MAX_PIXELS:
    image.close()
    raise _TooLarge(f"{image.width}x{image.height} pixels")
  return image


def _decoded(data, admit):
  with _open(data) as image:
    if admit:
      admit(image.width * image.height)
    image.load()
    turn = formats.TURNS.get(formats.orientation(image))
    pixels = colors.to_rgb(image)
    return np.array(pixels if turn is None else pixels.transpose(turn))


def encode_png(image):
  """uint8 `[h, w, 3]` -> the bytes of a PNG file."""
  return encode_picture(image, "png")


def encode_picture(image, kind, quality=None):
  """An image, uint8 `[h, w, 3]` RGB, as the bytes of a file that other programs read.

  Args:
    image: see above.
    kind: from `PICTURE_KINDS`.
    quality: 1..100 for jpg and webp, by default DEFAULT_QUALITY; None for png, which loses nothing.

  Raises:
    DeepcompError: the quality is something else, or such a file cannot hold an image of this size.
  """
  if kind == "png" and quality is not None:
    raise DeepcompError(f"`quality` is for jpg and webp; png loses nothing. Received: quality={quality!r} for png")
  if quality is not None and quality not in range(1, 101):
    raise DeepcompError(f"`quality` must be an integer in 1..100. Received: quality={quality!r}")
  options = {} if kind == "png" else {"quality": DEFAULT_QUALITY if quality is None else quality}
  buffer = io.BytesIO()
  try:
    Image.fromarray(image).save(buffer, PICTURE_KINDS[kind], **options)
  except (OSError, ValueError) as error:
    height, width = image.shape[:2]
    raise DeepcompError(f"expected a picture that a {kind} file can hold. Received: one of {width}x{height} pixels "
                        f"({one_line(error)})") from None
  return buffer.getvalue()
