"""Image files: finding them, and reading them as 8-bit RGB."""

import io
import os
import threading
import warnings

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from deepcomp_tf import files
from deepcomp_tf.errors import DeepcompError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jp2", ".avif")

# Modes whose samples have more than 8 bits; Pillow's own conversion to RGB would clip them to white.
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")

# The warnings' filters are those of all threads.
_opening = threading.Lock()


def list_images(pattern):
  """Sorted paths of the image files in a folder (without its subfolders) or matching a glob pattern.

  Raises:
    DeepcompError: there is no such folder, or no image file in it.
  """
  if files.isdir(pattern):
    paths = [os.path.join(pattern, name) for name in files.listdir(pattern)
             if name.lower().endswith(EXTENSIONS)]
  else:
    paths = [path for path in files.glob(pattern) if not files.isdir(path)]
  if not paths:
    raise DeepcompError(f"expected a folder with images or a pattern that matches some. Received: {pattern}")
  return paths


def split_images(paths, held_out):
  """Splits paths into (training, validation), the validation part being `held_out` of them, evenly spread."""
  if not 0 <= held_out < len(paths):
    raise DeepcompError(
        f"photos held out for validation must be fewer than the {len(paths)} there are. Received: {held_out}")
  chosen = {int((i + 0.5) * len(paths) / held_out) for i in range(held_out)} if held_out else set()
  return ([path for i, path in enumerate(paths) if i not in chosen],
          [path for i, path in enumerate(paths) if i in chosen])


def read_image(path, data=None):
  """Reads an image file as uint8 `[h, w, 3]` RGB.

  Args:
    path: of the file, or what errors call it.
    data: its bytes, where they are read already.

  JPEG, PNG, WebP and whatever else Pillow reads. An EXIF orientation is applied, palettes and grayscale become
  RGB, transparent pixels are laid over white, 16-bit samples are rounded to 8, of an animation the first frame is
  taken. CMYK is converted by Pillow without a colour profile.

  Raises:
    DeepcompError: the file is missing, is no image, is damaged or has more pixels than Pillow's limit
      (`PIL.Image.MAX_IMAGE_PIXELS`).
  """
  try:
    with files.open_file(path) if data is None else io.BytesIO(data) as file:
      with _opening, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(file)  # reads the header only
      with image:
        return _to_rgb(ImageOps.exif_transpose(image))
  except FileNotFoundError:
    raise DeepcompError(f"expected an image file. There is none at: {path}") from None
  except (Image.DecompressionBombWarning, Image.DecompressionBombError):
    raise DeepcompError(
        f"expected an image of at most {Image.MAX_IMAGE_PIXELS} pixels (PIL.Image.MAX_IMAGE_PIXELS): {path}"
    ) from None
  except UnidentifiedImageError:
    raise DeepcompError(f"expected an image file that Pillow can read. Received: {path}") from None
  except (OSError, SyntaxError, ValueError, EOFError) as error:
    raise DeepcompError(f"expected an image file that Pillow can read. Received: {path} ({error})") from None


def upright(data, pixels):
  """Pixels `[h, w, 3]` that were decoded from the bytes of an image file, turned as its EXIF orientation says."""
  with Image.open(io.BytesIO(data)) as image:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  # EXIF's eight orientations: whether rows and columns change places, and which of them then run backwards.
  swapped, down, right = {2: (0, 0, 1), 3: (0, 1, 1), 4: (0, 1, 0), 5: (1, 0, 0), 6: (1, 0, 1), 7: (1, 1, 1),
                          8: (1, 1, 0)}.get(orientation, (0, 0, 0))
  pixels = pixels.transpose(1, 0, 2) if swapped else pixels
  return np.ascontiguousarray(pixels[::-1 if down else 1, ::-1 if right else 1])


def _to_rgb(image):
  if image.mode in _DEEP_MODES:
    samples = np.asarray(image).astype(np.float64)
    if image.mode == "F":
      raise DeepcompError("expected integer samples. Received: an image of floating-point samples")
    if samples.min(initial=0) < 0 or samples.max(initial=0) > 65535:
      raise DeepcompError("expected samples of at most 16 bits. Received: an image of 32-bit samples")
    gray = np.floor(samples / 257.0 + 0.5).astype(np.uint8)
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
  if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    image = Image.alpha_composite(white, image)
  return np.array(image.convert("RGB"))


def encode_png(image):
  """uint8 `[h, w, 3]` -> the bytes of a PNG file."""
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "png")
  return buffer.getvalue()
