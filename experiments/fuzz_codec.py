"""Damages files at random and reads them with the compiled kernels: each must be refused, or give symbols within range.

  python -m experiments.fuzz_codec
  NUMBA_BOUNDSCHECK=1 python -m experiments.fuzz_codec --count=20000

The second form has every access of the kernels to an array checked. Files of random sizes are made from random crops of
the sample photos. Of each file, something damaged is read: the file with bits flipped, or cut short, as it is or with a
checksum that is right; a payload of random, constant or repeated words with a right checksum; another size with a right
checksum. One of --compare_every files is also read by the numpy form, which must come to the same symbols, or refuse it, too.
"""

import collections
import os
import time

from absl import flags
import numpy as np

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec import container
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec.operating_point import OperatingPoint
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("count", 100_000, "Damaged files.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of all random choices.")
flags.DEFINE_integer("compare_every", 100, "1 of so many is also read by the numpy form.", lower_bound=1)

BATCH = 256
# Pixels of the largest file, and intact files that are damaged, for each operating point.
LARGEST_SIDE = 160
INTACT = 200


def main(argv):
  del argv
  entropy_coder.warm_up()
  rng = np.random.default_rng(FLAGS.seed)
  photos = list(samples.photos().values())
  points = [OperatingPoint.load(name) for name in dc.operating_points.names()]
  codecs = [dc.Codec(point) for point in points]
  references = [entropy_coder.EntropyCoder(point.context_model, compiled=False) for point in points]
  intact = [[codec.compress(crop(rng, photos)) for _ in range(INTACT)] for codec in codecs]
  outcomes, compared, slowest = collections.Counter(), 0, 0.0
  for begin in range(0, FLAGS.count, BATCH):
    which = int(rng.integers(len(codecs)))
    codec = codecs[which]
    damages = [damage(rng, intact[which], codec.fingerprint) for _ in range(min(BATCH, FLAGS.count - begin))]
    started = time.perf_counter()
    results, errors = codec.symbols_of([data for _, data in damages])
    slowest = max(slowest, time.perf_counter() - started)
    for number, ((kind, data), symbols) in enumerate(zip(damages, results)):
      if symbols is None:
        if not isinstance(errors[number], dc.BitstreamError):
          raise AssertionError(f"expected a BitstreamError. Received: {errors[number]!r}")
      elif symbols.max() >= codec.model.quantizer.num_centers:
        raise AssertionError(f"expected symbols within range. Received: {symbols.max()}")
      outcomes[kind, "refused" if symbols is None else "symbols"] += 1
      if (begin + number) % FLAGS.compare_every == 0:
        compare(references[which], codec.fingerprint, data, symbols)
        compared += 1
  checks = "on" if os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0") else "off"
  print(f"{FLAGS.count} damaged files, seed {FLAGS.seed}, bounds checks {checks}: all refused or within range; {compared} read "
        f"by numpy with the same outcome; the slowest batch of {BATCH} took {slowest:.2f} s")
  for kind in dict.fromkeys(kind for kind, _ in sorted(outcomes)):
    print(f"  {kind}: {outcomes[kind, 'refused']} refused, {outcomes[kind, 'symbols']} gave symbols")


def crop(rng, photos):
  """A part of a photo, of any size."""
  photo = photos[rng.integers(len(photos))]
  height, width = rng.integers(1, LARGEST_SIDE + 1, 2)
  top, left = (rng.integers(0, whole - part + 1) for whole, part in zip(photo.shape, (height, width)))
  return photo[top:top + height, left:left + width]


def damage(rng, intact, fingerprint):
  """(kind, bytes) of a damaged file."""
  data = dc.Bitstream(intact[rng.integers(len(intact))])
  payload, size = data.payload, (data.height, data.width)
  kind = ("bits flipped", "cut short", "bits flipped, right checksum", "cut short, right checksum",
          "made-up payload, right checksum", "another size, right checksum")[rng.integers(6)]
  if kind.startswith("bits flipped"):
    damaged = bytearray(data if kind == "bits flipped" else payload)
    for at in rng.integers(0, 8 * len(damaged), rng.integers(1, 20)):
      damaged[at // 8] ^= 1 << at % 8
    payload = bytes(damaged)
  elif kind.startswith("cut short"):
    payload = data[:rng.integers(len(data))] if kind == "cut short" else payload[:rng.integers(len(payload))]
  elif kind.startswith("made-up"):
    words = rng.integers(0, len(payload) // 4 + 3)
    payload = (rng.bytes(4 * words), b"\xff" * 4 * words, b"\0" * 4 * words, rng.bytes(4) * words)[rng.integers(4)]
  else:
    size = rng.integers(1, LARGEST_SIDE + 1, 2).tolist()
  return kind, container.pack(fingerprint, *size, payload) if "right" in kind else payload


def compare(coder, fingerprint, data, symbols):
  """Raises where the numpy form makes something else of a file than the kernels did."""
  try:
    file = dc.Bitstream(data)
    if file.header.fingerprint != fingerprint:
      raise dc.BitstreamError("of another operating point")
    expected = coder.decode(file.payload, *file.map_size)
  except dc.BitstreamError:
    expected = None
  if (expected is None) != (symbols is None) or (symbols is not None and (symbols != expected).any()):
    raise AssertionError("the two forms of the coder come to different symbols")


if __name__ == "__main__":
  training_flags.main(main)
