"""What people send: the bytes of a photo or of a .deepcomp file, whose size is checked before anything is decoded."""

import deepcomp_tf as dc
from deepcomp_tf.codec import container
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.codec.images import stored_size
from deepcomp_tf.errors import DeepcompError


def is_file(data):
  """Whether bytes are those of a .deepcomp file."""
  return data.startswith(container.MAGIC)


def check(data, max_pixels):
  """Refuses, by a DeepcompError, what is neither a photo nor a file that is whole, and what has more pixels."""
  if is_file(data):
    file = dc.Bitstream(data)
    width, height = file.width, file.height
  else:
    try:
      width, height = stored_size("", data)
    except DeepcompError as error:
      raise DeepcompError("expected a photo (JPEG, PNG, WebP and what else Pillow reads) or a .deepcomp file. Received: a file "
                          f"that is neither ({error})") from None
  if width * height > max_pixels:
    raise DeepcompError(f"expected at most {max_pixels / 1e6:g} megapixels here. Received: {width}x{height}, "
                        f"{width * height / 1e6:.1f} megapixels")


def read(data, max_pixels, admit=None):
  """Bytes of a photo -> uint8 `[h, w, 3]`, of a .deepcomp file -> a `Bitstream`. `admit` is as of `images.read_image`; errors are
  those of `check` and of damaged photos."""
  check(data, max_pixels)
  return dc.Bitstream(data) if is_file(data) else read_image("the photo", data, admit)
