"""The codec with the shipped operating points: exactness, robustness, old files."""

import os
import shutil

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf import shipped
from deepcomp_tf.codec import container
from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec import tiling
from deepcomp_tf.codec.operating_point import newest_encoder
from deepcomp_tf.codec.operating_point import OperatingPoint

NAMES = ("bpp0.0983", "bpp0.330", "bpp0.635")
GOLDEN = os.path.join(os.path.dirname(__file__), "golden")


@pytest.fixture(scope="module")
def codecs():
  return {name: dc.Codec.load(name) for name in NAMES}


@pytest.fixture(scope="module")
def photo():
  return samples.photos()["coffee"]


def test_names():
  assert dc.operating_points.names() == list(NAMES)


@pytest.mark.slow
def test_symbols_of_the_file_are_the_encoders(codecs, photo):
  """On a hundred random sizes, against the Keras model called directly."""
  rng = np.random.default_rng(0)
  for i in range(100):
    codec = codecs[NAMES[i % 3]]
    height, width = rng.integers(1, 120, 2)
    top, left = rng.integers(0, photo.shape[0] - height), rng.integers(0, photo.shape[1] - width)
    image = photo[top:top + height, left:left + width]
    symbols = codec.symbols(codec.compress(image))
    assert symbols.shape == (-(-height // 8), -(-width // 8), codec.channels) and symbols.dtype == np.uint8
    padded = np.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="reflect")
    direct = codec.model.quantizer.symbols(codec.model.encoder(padded[np.newaxis]))[0]
    np.testing.assert_array_equal(symbols, direct)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tiles_change_nothing(codecs, photo, name, monkeypatch):
  codec = codecs[name]
  whole = codec.encode(photo)
  picture = codec.reconstruct(whole, *photo.shape[:2])
  monkeypatch.setattr(tiling, "TILE", 17)
  np.testing.assert_array_equal(codec.encode(photo), whole)
  difference = codec.reconstruct(whole, *photo.shape[:2]).astype(int) - picture
  # A pixel at .5 may round either way; nothing else may differ.
  assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_representation_is_the_symbols_centers(codecs, photo, name):
  codec = codecs[name]
  data = codec.compress(photo)
  centers = codec.model.quantizer.centers.numpy()
  representation = codec.representation(data)
  np.testing.assert_array_equal(representation, centers[codec.symbols(data)])
  z = codec.model.encoder(photo[np.newaxis, :, :])[0].numpy() if photo.shape[0] % 8 == photo.shape[1] % 8 == 0 else None
  if z is not None:
    inside = (z > centers[0]) & (z < centers[-1])
    assert np.abs(z - representation)[inside].max() <= np.diff(centers).max() / 2 + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_rate_and_quality(codecs, name):
  """The middles of the sample photos: near the rate of the name, far better than the means of 8x8 blocks."""
  codec = codecs[name]
  errors, block_errors = [], []
  for image in samples.photos().values():
    top, left = ((side - 224) // 2 for side in image.shape[:2])
    image = image[top:top + 221, left:left + 224]
    data = codec.compress(image)
    pixels = image.shape[0] * image.shape[1]
    assert 0.2 < 8 * len(data) / pixels / float(name[3:]) < 2.5
    # Contexts beat the paper's pooled histogram by a fifth.
    symbols = codec.symbols(data)
    assert 8 * len(data) < 0.8 * codec.estimated_bits(symbols)
    padded = tiling.pad(image).astype(float)
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8, 3)
    block_errors.append(np.square(blocks - blocks.mean(axis=(1, 3), keepdims=True)).mean())
    errors.append(np.square(codec.reconstruct(symbols, *image.shape[:2]).astype(float) - image).mean())
  assert np.mean(errors) < 0.6 * np.mean(block_errors)


@pytest.mark.parametrize("name", NAMES)
def test_golden_files_keep_their_symbols(codecs, name):
  """Files of earlier versions; made by `codec.compress(samples.photos()["chelsea"][:120, :150])`."""
  with open(os.path.join(GOLDEN, f"{name}.deepcomp"), "rb") as file:
    symbols = codecs[name].symbols(file.read())
  with np.load(os.path.join(GOLDEN, "symbols.npz")) as expected:
    np.testing.assert_array_equal(symbols, expected[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_first_encoder_writes_golden_files_as_it_did(codecs, name):
  """Where rounding is another on some machine, a symbol or two may differ."""
  first, photo = dc.Codec.load(name, encoder_version=1), samples.photos()["chelsea"][:120, :150]
  assert first.encoder_version == 1 and first.fingerprint == codecs[name].fingerprint
  with open(os.path.join(GOLDEN, f"{name}.deepcomp"), "rb") as file:
    golden = file.read()
  data = first.compress(photo)
  assert data == golden or (first.symbols(data) != first.symbols(golden)).mean() < 1e-3
  # The newest encoder and decoder read them, too.
  assert codecs[name].encoder_version == newest_encoder(codecs[name].info)
  np.testing.assert_array_equal(codecs[name].decompress(golden), first.decompress(golden))


def test_an_encoder_that_there_is_not():
  with pytest.raises(dc.DeepcompError,
                     match=r"`encoder_version` must be in 1\.\..* for bpp0\.330\. Received: encoder_version=77"):
    dc.Codec.load("bpp0.330", encoder_version=77)
  with pytest.raises(dc.DeepcompError, match="Received: encoder_version=0"):
    dc.Codec.load("bpp0.330", encoder_version=0)


@pytest.mark.slow
def test_earlier_encoders_are_kept_beside_the_newest(codecs, tmp_path, photo):
  """As training keeps them: a second encoder that halves the representation, and a third that quarters it."""
  start, photo = OperatingPoint.load("bpp0.0983", encoder_version=1), photo[:40, :48]
  written = [dc.Codec(start).compress(photo)]
  folder, info = str(tmp_path / "point"), {key: value for key, value in start.info.items() if key != "encoder"}
  operating_point.save(folder, start.model, start.context_model, info, start.mean, start.deviation)
  for version in (2, 3):
    before = OperatingPoint.load(folder)
    earlier = {**operating_point.earlier_encoders(folder), before.encoder_version: operating_point.encoder_weights(before.model)}
    for variable in before.model.encoder.named_variables()["conv3/kernel"], before.model.encoder.named_variables()["conv3/bias"]:
      variable.assign(0.5 * variable)
    operating_point.round_weights(before.model)
    written.append(dc.Codec(before).compress(photo))
    operating_point.save(folder, before.model, start.context_model, {**info, "encoder": {"version": version}}, start.mean,
                         start.deviation, earlier)
  assert len({*written}) == 3
  for version, data in enumerate(written, start=1):
    codec = dc.Codec.load(folder, encoder_version=version)
    assert codec.encoder_version == version and codec.compress(photo) == data and codec.fingerprint == start.fingerprint
    # Caches of one encoder's symbols are not taken for another's; those of the first keep their names.
    assert codec.encoder_identity == start.fingerprint.hex() + ("" if version == 1 else f"-encoder{version}")
  assert dc.Codec.load(folder).compress(photo) == written[2]


def test_tiny_images(codecs):
  for shape in ((1, 1), (1, 40), (3, 2), (8, 8), (9, 8)):
    image = np.full([*shape, 3], 200, np.uint8)
    for codec in codecs.values():
      decoded = codec.decompress(codec.compress(image))
      assert decoded.shape == image.shape and np.abs(decoded.astype(int) - 200).mean() < 40


@pytest.mark.parametrize("image", [
    np.zeros([4, 4], np.uint8), np.zeros([4, 4, 4], np.uint8), np.zeros([4, 4, 3], np.float32),
    np.zeros([0, 4, 3], np.uint8), np.zeros([1, 4, 4, 3], np.uint8)])
def test_bad_arrays(codecs, image):
  with pytest.raises(dc.DeepcompError, match="uint8 array of shape"):
    codecs["bpp0.330"].compress(image)


def test_unknown_operating_point():
  with pytest.raises(dc.DeepcompError, match="bpp0.0983, bpp0.330, bpp0.635"):
    dc.Codec.load("bpp0.5")
  for given in (0.33, None, b"dc"):
    with pytest.raises(dc.DeepcompError, match=f"expected the name or folder of .* Received: {given}"):
      dc.Codec.load(given)


def test_a_path_is_not_taken_for_bytes_or_an_image(codecs, tmp_path):
  """A file that is there, so that nobody reads it either."""
  codec, path = codecs["bpp0.0983"], tmp_path / "x.deepcomp"
  path.write_bytes(codec.compress(np.zeros([16, 16, 3], np.uint8)))
  for given in (path, str(path)):
    for function in (codec.decompress, codec.symbols, codec.representation, dc.Codec.load_for,
                     lambda path: codec.symbols_of([path]), lambda path: codec.crops_of([path], 1)):
      with pytest.raises(dc.DeepcompError, match="expected the bytes of a file, such as .* Received: the path /.*x.deepcomp"):
        function(given)
    for function in (codec.symbols_of, lambda path: codec.crops_of(path, 1)):
      with pytest.raises(dc.DeepcompError, match="expected a list of the bytes of files. Received: the path"):
        function(given)
    for function in (codec.compress, codec.encode, lambda path: list(codec.compress_many([path]))):
      with pytest.raises(dc.DeepcompError, match="uint8 array of shape .*read_image gives it .* Received: the path"):
        function(given)
  data = path.read_bytes()
  with pytest.raises(dc.DeepcompError, match="list of the bytes of files. Received: a value of the type bytes"):
    codec.symbols_of(data)
  with pytest.raises(dc.DeepcompError, match="read_image gives it .* Received: bytes"):
    codec.compress(data)
  symbols, = codec.symbols_of((np.frombuffer(data, np.uint8),))[0]
  np.testing.assert_array_equal(symbols, codec.symbols(memoryview(data)))


def test_wrong_operating_point_is_named(codecs, photo):
  data = codecs["bpp0.330"].compress(photo[:32, :32])
  with pytest.raises(dc.BitstreamError, match="another operating point.*bpp0.635"):
    codecs["bpp0.635"].decompress(data)
  assert dc.Codec.load_for(data).operating_point == "bpp0.330"
  unknown = container.pack(b"\0\0\0", 8, 8, b"")
  with pytest.raises(dc.BitstreamError, match="unknown operating point"):
    dc.Codec.load_for(unknown)


def test_ten_thousand_corruptions(codecs, photo):
  """Each ends in BitstreamError, with a checksum that is right or wrong."""
  rng = np.random.default_rng(1)
  data = {name: codec.compress(photo[:64, :72]) for name, codec in codecs.items()}
  refused = 0
  for i in range(10_000):
    name = NAMES[rng.integers(3)]
    valid = data[name]
    kind = i % 5
    if kind == 0:  # flipped bits
      broken = bytearray(valid)
      for _ in range(rng.integers(1, 9)):
        bit = rng.integers(8 * len(valid))
        broken[bit // 8] ^= 1 << int(bit % 8)
    elif kind == 1:
      broken = valid[:rng.integers(len(valid))]
    elif kind == 2:
      broken = valid + rng.bytes(rng.integers(1, 50))
    elif kind == 3:  # another file's header
      other = data[NAMES[(NAMES.index(name) + 1) % 3]]
      cut = rng.integers(4, 13)
      broken = other[:cut] + valid[cut:]
    else:
      broken = rng.bytes(rng.integers(0, 200))
    if bytes(broken) == valid:
      continue
    with pytest.raises(dc.BitstreamError):
      codecs[name].symbols(bytes(broken))
    refused += 1
  assert refused > 9_990


def test_payloads_with_a_right_checksum(codecs, photo):
  """Somebody who knows the format can make any payload: it decodes to symbols in range or is refused."""
  rng = np.random.default_rng(2)
  codec = codecs["bpp0.330"]
  for _ in range(60):
    data = container.pack(codec.fingerprint, 64, 64, rng.bytes(4 * int(rng.integers(0, 40))))
    try:
      assert codec.symbols(data).max() < codec.model.quantizer.num_centers
    except dc.BitstreamError:
      pass


def test_claims_are_refused_before_anything_is_allocated(codecs, monkeypatch):
  import tracemalloc
  codec = codecs["bpp0.0983"]
  huge = container.pack(codec.fingerprint, 2**16, 2**15, b"12345678" * 3)
  large = container.pack(codec.fingerprint, 10_000, 10_000, b"12345678" * 3)
  tracemalloc.start()
  with pytest.raises(dc.BitstreamError, match="at most 178956970 pixels"):
    codec.symbols(huge)
  with pytest.raises(dc.BitstreamError, match="cannot hold"):
    codec.symbols(large)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 100_000
  good, larger = (np.zeros([rows, 10, 3], np.uint8) for rows in (10, 11))
  data = codec.compress(larger)
  monkeypatch.setattr(container, "MAX_PIXELS", 100)
  with pytest.raises(dc.BitstreamError, match="at most 100 pixels .*container.MAX_PIXELS.*Received: 10x11"):
    codec.symbols(data)
  # What is written can be read: the limit is the same.
  with pytest.raises(dc.DeepcompError, match="at most 100 pixels .*container.MAX_PIXELS.*Received: 10x11"):
    codec.compress(larger)
  files = list(codec.compress_many([larger, good], errors="return"))
  assert isinstance(files[0], dc.DeepcompError) and codec.symbols(files[1]).shape == (2, 2, codec.channels)


@pytest.mark.parametrize("name", ["weights.npz", "context.npz", "operating_point.json"])
@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: b"",
                                    lambda data: data[:200] + b"\0" * 200 + data[400:]])
def test_damaged_operating_points_are_told_in_a_line(tmp_path, name, damage):
  folder = tmp_path / "point"
  shutil.copytree(shipped.find("operating point", "bpp0.0983"), folder)
  (folder / name).write_bytes(damage((folder / name).read_bytes()))
  with pytest.raises(dc.DeepcompError, match=f"the operating point in {folder} is damaged or incomplete"):
    dc.Codec.load(folder)
