"""`Bitstream`: bytes that know what is in them; and the one convention for errors in lists of files."""

import pickle

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.codec import container
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec.inputs import NetworkInput

PHOTO = samples.photos()["chelsea"][100:161, 120:195]


@pytest.fixture(name="codec", scope="module")
def fixture_codec():
  return dc.Codec.load("bpp0.0983")


@pytest.fixture(name="data", scope="module")
def fixture_data(codec):
  return codec.compress(PHOTO)


def test_it_is_bytes_that_say_what_they_are(codec, data):
  file = dc.Bitstream(bytearray(data))
  assert file == data and isinstance(file, bytes) and dc.Bitstream(file) is file and pickle.loads(pickle.dumps(file)) == file
  assert (file.height, file.width, file.operating_point) == (61, 75, "bpp0.0983")
  assert file.header.fingerprint == codec.fingerprint and file.map_size == (8, 10)
  assert file.bits_per_pixel == 8 * len(data) / 61 / 75
  np.testing.assert_array_equal(file.symbols, codec.symbols(data))


def test_its_symbols_are_decoded_once(codec, data, monkeypatch):
  decoded = []
  decode_batch = entropy_coder.EntropyCoder.decode_batch
  monkeypatch.setattr(entropy_coder.EntropyCoder, "decode_batch",
                      lambda self, jobs, *args: decoded.extend(jobs) or decode_batch(self, jobs, *args))
  file, other = dc.Bitstream(data), dc.Bitstream(data)
  symbols = codec.symbols([file, data, other])
  picture = codec.decompress(file)
  assert len(decoded) == 3 and file.symbols is symbols[0] and codec.symbols(file) is symbols[0]
  np.testing.assert_array_equal(picture, codec.decode(symbols[1], 61, 75))
  with pytest.raises(ValueError, match="read-only"):
    symbols[0][0, 0, 0] = 1
  symbols[1][0, 0, 0] = 1  # those of plain bytes are the caller's


def test_what_is_wrong_is_said_when_it_is_read(data):
  damaged = dc.Bitstream(data[:-1])
  for read in ("header", "height", "operating_point", "symbols"):
    with pytest.raises(dc.BitstreamError, match="checksum"):
      getattr(damaged, read)
  with pytest.raises(dc.BitstreamError, match="unknown operating point 83716c: expected one of"):
    dc.Bitstream(container.pack(b"\x83\x71\x6c", 1, 1, b"")).operating_point  # pylint: disable=expression-not-assigned
  with pytest.raises(dc.DeepcompError, match="Received: the path x.deepcomp"):
    dc.Bitstream("x.deepcomp")


def test_pictures_of_many_files(codec, data):
  files = [data, dc.Bitstream(data), codec.compress(PHOTO[:16, :16])]
  pictures = list(codec.decompress_many(iter(files)))
  assert [picture.shape for picture in pictures] == [(61, 75, 3), (61, 75, 3), (16, 16, 3)]
  for picture, one in zip(pictures, files):
    np.testing.assert_array_equal(picture, codec.decompress(one))


@pytest.mark.parametrize("read", ["codec.symbols", "codec.decompress", "codec.decompress_many", "classify", "segment", "embed"])
def test_errors_of_several_files(codec, data, read, networks):
  """Everything that takes several files either raises the error of a bad one, or gives it in its place."""
  function = {**networks, "codec.symbols": codec.symbols, "codec.decompress": codec.decompress,
              "codec.decompress_many": lambda *args: list(codec.decompress_many(*args))}[read]
  other = dc.Codec.load("bpp0.330").compress(PHOTO[:8, :8])
  first, cut, unlike, path, last = function([data, data[:-1], other, "x.deepcomp", dc.Bitstream(data)], "return")
  assert type(first) is type(last) and not isinstance(first, dc.DeepcompError)
  for error, said in ((cut, "checksum"), (unlike, "another operating point"), (path, "the path x.deepcomp")):
    assert isinstance(error, dc.DeepcompError) and said in str(error)
  with pytest.raises(dc.BitstreamError, match="checksum"):
    function([data, data[:-1]])
  with pytest.raises(dc.DeepcompError, match="`errors` must be raise or return. Received: errors='ignore'"):
    function([data], "ignore")


@pytest.fixture(name="networks", scope="module")
def fixture_networks(codec):
  """Methods of small untrained networks."""
  inputs, features = NetworkInput("representation", codec), dc.models.CResNet(12, None, width=0.01, dilated=True)
  return {"classify": dc.Classifier(dc.models.CResNet(12, 2, width=0.01), inputs, ["cup", "cat"]).classify,
          "segment": dc.Segmenter(dc.models.DeepLab(features, 2), inputs, mask_classes.VOC[:2]).segment,
          "embed": dc.Embedder(dc.models.CResNet(12, None, width=0.01), inputs).embed}
