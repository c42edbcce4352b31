"""The first batches of every reader are those that runs were begun with: a run that is continued sees the same crops."""

import types
import zlib

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import deepcomp_tf as dc
from deepcomp_tf.codec import container
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data import answers
from deepcomp_tf.data import classification
from deepcomp_tf.data import photos
from deepcomp_tf.data import segmentation
from deepcomp_tf.data import sources
from deepcomp_tf.data.crops import Crops
from deepcomp_tf.data.part import Part
from deepcomp_tf.data.store import Store
from deepcomp_tf.data.symbol_pairs import SymbolPairs

SIZES = [(48, 64), (40, 40), (50, 35), (64, 72), (56, 57)]


class _Networks:
  """In place of networks, whose last digit depends on the processor: symbols and maps are pixels' remainders."""

  channels, stride, kind, effort, identity, class_names, segments = 3, 8, "representation", 0, "t", ["a", "b", "c"], False
  codec = types.SimpleNamespace(
      channels=3, encoder_identity="e", encode=lambda pixels: np.ascontiguousarray(pixels[::8, ::8] % 7))

  def encode(self, pixels):
    return tf.constant(pixels[:, ::8, ::8] % 7)

  def channels_at(self, cut):
    return len(cut)

  def answers(self, cut):
    return lambda pixels: (tf.cast(pixels[:, ::8, ::8, :len(cut)], tf.float32) / 9, tf.cast(pixels[:, 0, 0], tf.float32) / 7)


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  """photos/train/class/*.png, and a segmentation set of the same pixels."""
  root, rng = tmp_path_factory.mktemp("golden"), np.random.default_rng(0)
  for number, size in enumerate(SIZES):
    photo = Image.fromarray(rng.integers(0, 256, [*size, 3], np.uint8))
    mask = Image.fromarray(rng.choice([0, 1, 2, 255], size).astype(np.uint8), "P")
    mask.putpalette(list(range(256)) * 3)
    for folder, image in ((f"photos/train/{number % 2}", photo), ("set/images/train", photo), ("set/masks/train", mask)):
      (root / folder).mkdir(parents=True, exist_ok=True)
      image.save(root / folder / f"{number}.png")
  return root


def _photos(folder):
  return [str(path) for path in sorted(folder.glob("photos/train/*/*.png"))]


def _from_photos(resize, **cache):
  def batches(folder, tmp_path):
    inputs = NetworkInput("original")
    examples = classification.open_examples(str(folder / "photos"), "train", inputs, cache_dir=str(tmp_path), **cache)
    return Crops(inputs, False, 32, resize=resize).training_batches(examples, 2, seed=5, epoch=1)
  return batches


def _from_bitstreams(kind, store):
  def batches(folder, tmp_path):
    del folder
    codec, rng = dc.Codec.load("bpp0.0983"), np.random.default_rng(0)
    maps = [np.clip(np.round(rng.normal(40, 2, [height // 8, width // 8, codec.channels])), 0, 80).astype(np.uint8)
            for height, width in SIZES + SIZES]
    files = [container.pack(codec.fingerprint, 8 * m.shape[0], 8 * m.shape[1], codec.encode_symbols(m)) for m in maps]
    files[3] = files[3][:-1]
    stored = tf.data.Dataset.from_tensor_slices((files, np.arange(len(files), dtype=np.int64)))
    source = sources.Source("test", [str(n) for n in range(len(files))], len(files), True, None, "files", lambda: "files", str,
                            lambda begin, end: stored.skip(begin).take(end - begin),
                            lambda seed: stored.shuffle(len(files), seed=seed))
    examples = classification.Examples(source, codec)
    examples = Store.open(str(tmp_path), examples) if store else examples
    return Crops(NetworkInput(kind, codec), True, 32).training_batches(examples, 4, seed=5, epoch=1)
  return batches


def _segmentation(**arguments):
  def batches(folder, tmp_path):
    builder = segmentation.open_builder(str(folder / "set"), str(tmp_path / "sets"))
    examples = segmentation.SegmentationExamples(builder, "train", NetworkInput("original"), [0, 2, 1],
                                                 cache_dir=str(tmp_path), **arguments)
    return examples.training_batches(48, 2, seed=5, first_step=1)
  return batches


def _answers(folder, tmp_path):
  examples = answers.Answers(answers.Squares([str(folder / "photos")], 40), _Networks(), _Networks(), "ab", str(tmp_path))
  return examples.training_batches(2, 24, seed=5, epoch=1)


def _symbol_pairs(folder, tmp_path):
  paths = _photos(folder)
  return SymbolPairs(paths[:3], _Networks.codec, 24, paths[3:], str(tmp_path)).batches(24, 8, 3, seed=5, first_step=1)


def _tfds_crops(folder, tmp_path):
  builder = segmentation.open_builder(str(folder / "set"), str(tmp_path))
  return photos.tfds_crops("photos", "train", None, 44, 3, seed=5, first_step=1, builder=builder)


READERS = {
    "photos": (lambda folder, _: photos.Photos(_photos(folder)[:3], _photos(folder)[3:]).batches(44, 3, seed=5, first_step=1),
               0xc9453f93),
    "photos, part": (lambda folder, _: photos.Photos(_photos(folder)).batches(32, 3, seed=5, part=Part(1, 3)), 0xd05cb201),
    "classification": (_from_photos(None), 0x65681a1b),
    "classification, resized": (_from_photos((40, 60)), 0xe859d637),
    "classification, stored": (_from_photos(None, cache="decoded"), 0xce12bf67),
    "bitstreams": (_from_bitstreams("representation", False), 0xde04b131),
    "bitstreams, stored": (_from_bitstreams("representation", True), 0x11b1e704),
    "bitstreams, decoded": (_from_bitstreams("decoded", False), 0xf6661b53),
    "segmentation": (_segmentation(), 0x41cd036c),
    "segmentation, scaled": (_segmentation(random_scale=(0.5, 1.5)), 0x789db2f2),
    "segmentation, stored": (_segmentation(cache="decoded"), 0xed022aa6),
    "tfds crops": (_tfds_crops, 0x40e8bf8a),
    "answers": (_answers, 0xb42f1c7a),
    "symbol pairs": (_symbol_pairs, 0x31420254),
}


def _digest(batches):
  digest = 0
  for batch in batches.take(3).as_numpy_iterator():
    for array in tf.nest.flatten(batch):
      digest = zlib.crc32(f"{array.dtype} {array.shape}".encode() + array.tobytes(), digest)
  return digest


@pytest.fixture(name="unseeded")
def fixture_unseeded(monkeypatch):
  """TensorFlow without a seed of the whole program, which a test before may have set; there is no public call that takes it back."""
  monkeypatch.setattr(context.context(), "_seed", None)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.usefixtures("unseeded")
def test_first_batches(name, folder, tmp_path):
  make, expected = READERS[name]
  found = _digest(make(folder, tmp_path))
  assert found == expected, f"{found:#010x}"
