"""What formats of photos need besides Pillow: plugins, the way that a photo is turned, and PNG files with long texts."""

import functools
import importlib
import struct

from PIL import ExifTags
from PIL import Image
from PIL import PngImagePlugin

from deepcomp_tf.errors import to_install

# Formats that plugins of Pillow read, by their first bytes: a format's name, the plugin's module, and whether a file begins so.
_PLUGINS = (
    ("HEIC", "pillow_heif", lambda head: head[4:8] == b"ftyp" and head[8:12] in (
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")),
    ("JPEG XL", "pillow_jxl", lambda head: head[:2] == b"\xff\x0a" or head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n"),
)
HEAD = 32  # bytes that tell a format

# What undoes each of EXIF's orientations.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}

# Pillow refuses PNG files with more than this in a profile, and has 1 MiB, which profiles of printers exceed.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, 16 << 20)


class NoPlugin(Exception):
  """A format takes a plugin that is not installed."""


def plugin_for(head):
  """(format, module) of the plugin that reads files that begin so, or None."""
  return next(((name, module) for name, module, begins in _PLUGINS if begins(head)), None)


@functools.lru_cache(maxsize=None)
def load_plugin(name, module):
  """Registers a plugin with Pillow. Raises `NoPlugin` where it is not installed."""
  try:
    plugin = importlib.import_module(module)
  except ImportError:
    raise NoPlugin("an image file that Pillow can read, or the extra formats, which "
                   f"{name} takes: {to_install('formats')}") from None
  if hasattr(plugin, "register_heif_opener"):
    plugin.register_heif_opener()


def orientation(image):
  """EXIF's orientation, or XMP's: 1 to 8, and 1 where it cannot be read, as in all viewers."""
  if image.format == "JXL" and not getattr(image, "jpeg", False):
    return 1  # what the format says counts, and the decoder has undone it, except in a repacked JPEG file
  try:
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in TURNS else 1
  except Exception:  # cameras write what nobody can read  # pylint: disable=broad-except
    return 1


def is_upright(segment):
  """Whether an APP1 segment of a JPEG file does not turn the photo."""
  if not segment.startswith(b"Exif"):
    return b"tiff:Orientation" not in segment
  try:
    exif = Image.Exif()
    exif.load(segment)
    return exif.get(ExifTags.Base.Orientation, 1) == 1
  except Exception:  # as in `orientation`  # pylint: disable=broad-except
    return False


def without_texts(data):
  """A PNG file's bytes without its texts, except those in which EXIF and XMP may be."""
  kept, at = [data[:8]], 8
  while at + 12 <= len(data):
    length, name = struct.unpack_from(">I4s", data, at)
    body = data[at + 8:at + 8 + length]
    if name not in (b"tEXt", b"zTXt", b"iTXt") or body.startswith((b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")):
      kept.append(data[at:at + 12 + length])
    at += 12 + length
  return b"".join(kept)
