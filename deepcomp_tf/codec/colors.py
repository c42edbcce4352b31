"""Images of any mode, with or without a colour profile, as 8-bit sRGB."""

import functools
import io

import numpy as np
from PIL import Image
from PIL import ImageCms

from deepcomp_tf.errors import DeepcompError

# Modes whose samples have more than 8 bits; Pillow's conversion to RGB would clip them to white.
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_rgb(image):
  """An image of any mode, converted to RGB."""
  profile, transparent = image.info.get("icc_profile"), None
  if image.mode in _DEEP_MODES:
    image, transparent = _eight_bits(image)
  elif image.mode in ("P", "PA"):
    image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
  elif "transparency" in image.info and image.mode in ("1", "L", "RGB"):
    color = image.info["transparency"]
    if isinstance(color, tuple) and max(color) > 255:  # of 16 bits, of whose samples Pillow keeps the upper 8
      image.info["transparency"] = tuple(sample >> 8 for sample in color)
    image = image.convert("RGBA" if image.mode == "RGB" else "LA")
  elif image.mode in ("La", "RGBa"):
    image = image.convert(image.mode.upper())
  if image.mode in ("LA", "RGBA"):
    transparent = image.getchannel("A")
    image = image.convert("L" if image.mode == "LA" else "RGB")
  image = _to_srgb(image, profile)
  if transparent is not None:
    image.putalpha(transparent)
    image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
  return image


def _eight_bits(image):
  """(image of mode L, its opacity or None) from an image with deeper samples."""
  samples = np.asarray(image).astype(np.float64)
  if image.mode == "F":
    raise DeepcompError("expected integer samples. Received: an image of floating-point samples")
  if samples.min(initial=0) < 0 or samples.max(initial=0) > 65535:
    raise DeepcompError("expected samples of at most 16 bits. Received: an image of 32-bit samples")
  gray = Image.fromarray(np.floor(samples / 257.0 + 0.5).astype(np.uint8))
  transparent = image.info.get("transparency")
  if not isinstance(transparent, int):
    return gray, None
  return gray, Image.fromarray(np.where(samples == transparent, 0, 255).astype(np.uint8))


def _to_srgb(image, profile):
  """An image of a mode without transparency, converted to RGB with the colours of sRGB."""
  if image.mode == "1":
    image = image.convert("L")
  elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
    image = image.convert("RGB")
  if image.mode == "L" and profile and _converter(profile, "L") is None and _converter(profile, "RGB") is not None:
    image = image.convert("RGB")  # gray in a colour photo's profile
  converter = _converter(profile, image.mode) if profile or image.mode == "LAB" else None
  return image.convert("RGB") if converter is None else ImageCms.applyTransform(image, converter)


@functools.lru_cache(maxsize=64)
def _converter(profile, mode):
  """A transform to sRGB from the bytes of an ICC profile, for images of mode L, RGB or CMYK, or from Lab, without a profile, for
  LAB; None where there is nothing to convert."""
  try:
    source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB") if mode == "LAB" else io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != {"L": "GRAY", "LAB": "Lab"}.get(mode, mode):
      return None
    converter = ImageCms.buildTransform(source, SRGB, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    if mode in ("L", "RGB"):
      # Six levels of each channel: another sRGB profile differs in rounding only, and pixels are left as they are.
      levels = np.arange(0, 256, 51, np.uint8)
      colors = levels[np.newaxis] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(6, 36, 3)
      color_image = Image.fromarray(colors)
      converted = np.asarray(ImageCms.applyTransform(color_image, converter), np.int32)
      if np.abs(converted - np.asarray(color_image.convert("RGB"))).max() <= 1:
        return None
    return converter
  except Exception:  # a broken profile counts as none  # pylint: disable=broad-except
    return None


def is_srgb(profile):
  """Whether images with these bytes as their profile keep their pixels: it is sRGB's, or cannot be used."""
  return _converter(profile, "RGB") is None and _converter(profile, "L") is None
