"""A Pillow plugin: after `import deepcomp_tf.pillow`, Pillow opens and saves .deepcomp files.

>>> import deepcomp_tf.pillow
>>> image = Image.open("photo.deepcomp")   # size and mode, from the header
>>> image.load()                           # pixels
>>> image.save("copy.deepcomp", operating_point="bpp0.330", effort=0)

It registers itself when it is imported, as plugins of Pillow do. What reads images through Pillow, such as imageio and
scikit-image, reads .deepcomp files, too. TensorFlow is imported when pixels are first asked for.
"""

from PIL import Image
from PIL import ImageFile

import deepcomp_tf as dc
from deepcomp_tf import shipped
from deepcomp_tf.codec import colors
from deepcomp_tf.codec import container
from deepcomp_tf.codec import operating_point
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError

FORMAT = "DEEPCOMP"

# The codecs that were used: by what they were loaded from, and by their files' fingerprints.
_by_source, _by_fingerprint = {}, {}


class DeepcompImageFile(ImageFile.ImageFile):
  """An image of mode RGB in a .deepcomp file of a shipped operating point, or of one that `codec_of` has loaded.

  `open` reads the header, `verify` checks the checksum of the file, `load` runs the decoder. There is no `draft`: the decoder
  makes pictures of one size, so a thumbnail costs as much as the picture.
  """

  format = FORMAT
  format_description = "Learned compression of deepcomp_tf"

  def _open(self):
    try:
      header = container.peek(self.fp.read(container.MAX_HEADER_BYTES))
    except BitstreamError as error:
      raise SyntaxError(str(error)) from None  # by which Pillow tells a file that is of another format
    self._size, self._mode = (header.width, header.height), "RGB"
    self.tile = [(FORMAT, (0, 0) + self.size, 0, ())]

  def verify(self):
    """Checks that the file is whole, without decoding it; raises an OSError where it is not."""
    if self.fp is None:
      raise RuntimeError("verify must be called directly after open")
    self.fp.seek(0)
    _whole(container.read_header, self.fp.read())
    super().verify()


class _Decoder(ImageFile.PyDecoder):
  _pulls_fd = True

  def decode(self, buffer):
    del buffer
    data = self.fd.read()
    self.set_as_raw(_whole(lambda data: _codec_for(data).decompress(data), data).tobytes())
    return -1, 0


def _whole(read, data):
  """`read(data)`, with the error that Pillow's own formats raise for a damaged file."""
  try:
    return read(data)
  except BitstreamError as error:
    raise OSError(str(error)) from error


def _codec_for(data):
  fingerprint = container.read_header(data).fingerprint
  if fingerprint not in _by_fingerprint:
    _keep(dc.Codec.load_for(data))
  return _by_fingerprint[fingerprint]


def _keep(codec):
  _by_source.setdefault(codec.source, codec)
  shipped_names = operating_point.names()
  # A folder may have a shipped point's tables and another decoder: pictures do not depend on what was loaded first.
  if codec.source in shipped_names or codec.fingerprint not in map(operating_point.fingerprint, shipped_names):
    _by_fingerprint.setdefault(codec.fingerprint, codec)


def codec_of(name):
  """The `Codec` of a name or folder, see `dc.Codec.load`, loaded once. From then on Pillow reads its files; those of shipped
  operating points it always reads, with the shipped decoder."""
  source = shipped.source("operating point", name)
  if source not in _by_source:
    _keep(dc.Codec.load(source))
  return _by_source[source]


def _save(image, file, filename):
  """Writes an image of any mode that `codec.colors.to_rgb` takes. Options: operating_point, a name or folder, and effort."""
  del filename
  options = image.encoderinfo
  codec = codec_of(options.get("operating_point", "bpp0.330"))
  try:
    pixels = colors.to_rgb(image.copy())  # which may change what it is given
  except DeepcompError as error:
    raise OSError(f"cannot write mode {image.mode} as {FORMAT}: {error}") from None
  file.write(codec.compress(pixels, options.get("effort", 0)))


Image.register_open(FORMAT, DeepcompImageFile, lambda prefix: prefix.startswith(container.MAGIC + bytes([container.VERSION])))
Image.register_decoder(FORMAT, _Decoder)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, container.EXTENSION)
