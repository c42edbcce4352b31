"""A photo's pixels are the same whether the command, a set or training reads it."""

import io
import struct

import numpy as np
from PIL import Image
from PIL import ImageCms
import pytest
import tensorflow as tf

from deepcomp_tf import samples
from deepcomp_tf.codec import images
from deepcomp_tf.data import sources
import icc

PHOTO = samples.photos()["chelsea"][:45, :58]
P3, SRGB = icc.rgb(icc.DISPLAY_P3, 2.2), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _file(form, mode="RGB", orientation=None, **options):
  image = Image.fromarray(PHOTO)
  if mode in ("LA", "RGBA", "PA"):
    image.putalpha(Image.fromarray(PHOTO[..., 1]))
  if mode == "I;16":
    image = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 201)
  elif mode != "RGBA":
    image = image.convert(mode)
  if orientation:
    options["exif"] = Image.Exif()
    options["exif"][0x0112] = orientation
  buffer = io.BytesIO()
  image.save(buffer, form, **options)
  return buffer.getvalue()


def _segment(marker, data):
  return bytes([255, marker]) + struct.pack(">H", 2 + len(data)) + data


def _with_segment(first, orientation=6):
  """A JPEG file with a segment between JFIF's and EXIF's."""
  plain, exif = _file("jpeg"), Image.Exif()
  exif[0x0112] = orientation
  return plain[:20] + first + _segment(0xe1, exif.tobytes()) + plain[20:]


XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf tiff:Orientation=\"3\"/></x:xmpmeta>"
JPEGS = {
    "jpeg": _file("jpeg"), "4:4:4": _file("jpeg", subsampling=0), "progressive": _file("jpeg", progressive=True),
    "gray": _file("jpeg", "L"), "restarts": _file("jpeg", restart_marker_blocks=2), "upright": _file("jpeg", orientation=1),
    "sRGB": _file("jpeg", icc_profile=SRGB), "comment": _file("jpeg", comment=b"by hand"),
}
OTHERS = {
    **{f"jpeg turned {number}": _file("jpeg", orientation=number) for number in range(2, 9)},
    "jpeg CMYK": _file("jpeg", "CMYK"), "jpeg P3": _file("jpeg", icc_profile=P3),
    "jpeg gray profile": _file("jpeg", "L", icc_profile=icc.gray(1.0)),
    "XMP first": _with_segment(_segment(0xe1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(1000))),
    "comment first": _with_segment(_segment(0xfe, b"CREATOR")),
    "ICC first": _with_segment(_segment(0xe2, b"ICC_PROFILE\0\1\1" + bytes(128))),
    "turned by XMP": JPEGS["jpeg"][:20] + _segment(0xe1, XMP) + JPEGS["jpeg"][20:], "behind the end": JPEGS["jpeg"] + b"more",
    **{f"png {mode}": _file("png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "png turned": _file("png", orientation=5), "png P3": _file("png", icc_profile=P3),
    "png one colour": _file("png", transparency=tuple(PHOTO[0, 0].tolist())), "png palette": _file("png", "P", transparency=3),
    "webp": _file("webp"), "webp RGBA": _file("webp", "RGBA", orientation=8), "bmp palette": _file("bmp", "P"),
    "gif": _file("gif", "P", transparency=0),
    "gif moving": _file("gif", "P", save_all=True, append_images=[Image.new("P", (58, 45))]),
    "tiff CMYK": _file("tiff", "CMYK"), "tiff Lab": _file("tiff", "LAB"), "tiff turned": _file("tiff", orientation=7),
    "ppm": _file("ppm"), "tga": _file("tga"), "jpeg2000": _file("jpeg2000"), "avif": _file("avif", quality=90),
    "mpo": _file("mpo", save_all=True, append_images=[Image.new("RGB", (58, 45))]),
}


@pytest.fixture(name="decode", scope="module")
def fixture_decode():
  return tf.function(sources.decode_image, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("name", [*JPEGS, *OTHERS])
def test_a_set_reads_what_the_command_reads(decode, name):
  data = {**JPEGS, **OTHERS}[name]
  expected = images.read_image(name, data)
  np.testing.assert_array_equal(decode(data).numpy(), expected)
  np.testing.assert_array_equal(sources.decode_or_error(data), expected)
  assert images.is_plain_jpeg(data) == (name in JPEGS)
  turned = any(name.endswith(f" {number}") for number in (5, 6, 7, 8)) or name in (
      "XMP first", "comment first", "ICC first", "png turned", "webp RGBA", "tiff turned")
  assert expected.shape == ((58, 45, 3) if turned else (45, 58, 3))


def test_only_whole_jpeg_files_are_plain():
  data = JPEGS["progressive"]
  for end in range(0, len(data), 7):
    assert not images.is_plain_jpeg(data[:end])
  for marker in (0xc3, 0xc9, 0xcc):  # lossless, arithmetic coding
    place = data.index(b"\xff\xc2")
    assert not images.is_plain_jpeg(data[:place + 1] + bytes([marker]) + data[place + 2:])


def test_damaged_files_are_errors_everywhere(decode):
  for data in (b"", b"no image", JPEGS["jpeg"][:-100], OTHERS["png RGB"][:-30], OTHERS["webp"][:60]):
    assert "expected an image file that Pillow can read" in str(sources.decode_or_error(data))
    with pytest.raises(tf.errors.OpError):
      decode(data)
