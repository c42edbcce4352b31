"""What a large library takes: reading all of it anew for a newer network, and searches.

  python -m experiments.benchmark_library --photos=FOLDER --files=100000

Squares of photos are compressed, and their symbols shifted round and mirrored until there are --files different files, of which
the library says what the photos' own networks say. Then all are re-indexed, which reads every file and gives it labels and a
vector (`Library.reindex`; masks' shares stay, since their segmenter is the same); searched by a word and by likeness in this
process; and searched by the command, in processes of their own, the first of which keeps what later ones read. Beside it, in
turns: labels and vectors of some files, and decoding these and giving the pictures to the whole network, with random weights.
"""

import datetime
import os
import subprocess
import sys
import tempfile
import time

from absl import flags
import numpy as np
import tensorflow as tf
import tqdm

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import samples
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import photo_files
from deepcomp_tf.data.answers import square
from deepcomp_tf.library import table as tables
from deepcomp_tf.library import understanding
from deepcomp_tf.models import pretrained
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map
from deepcomp_tf.training import flags as training_flags
from . import measuring

FLAGS = flags.FLAGS
flags.DEFINE_string("photos", "", "Folder of photos; empty: the sample photos.")
flags.DEFINE_integer("files", 100_000, "Files of the library.", lower_bound=100)
flags.DEFINE_string("operating_point", "bpp0.330", "Name of a shipped one.")
flags.DEFINE_integer("image_size", 224, "Edge of the squares in pixels, a multiple of 8.", lower_bound=32)
flags.DEFINE_string("word", "dog", "A word to search for.")

# Different photos, at most; rows that are stored together; files that go through networks in turns; searches that are timed.
PHOTOS, ROWS, IN_TURNS, SEARCHES = 500, 5000, 256, 20


def main(argv):
  del argv
  entropy_coder.warm_up()
  codec = dc.Codec.load(FLAGS.operating_point)
  paths = photo_files.find_in(FLAGS.photos).photos[:PHOTOS] if FLAGS.photos else []
  photos = [square(photo, FLAGS.image_size) for photo in (map(read_image, paths) if paths else samples.photos().values())]
  originals = [dc.Bitstream(data) for data in codec.compress_many(photos)]
  network = understanding.by_fingerprint([])(codec.fingerprint)
  with tempfile.TemporaryDirectory() as folder:
    library = dc.Library(os.path.join(folder, "library"))
    fill(library, codec, originals, network.understand(originals))
    print(f"{measuring.machine()}; {len(library)} files of {FLAGS.image_size}x{FLAGS.image_size} pixels at {FLAGS.operating_point} "
          f"made of {len(photos)} photos, {library.info()['bytes'] / 1e6:.0f} MB", flush=True)
    compare(codec, network, originals)
    begin = time.perf_counter()
    with tqdm.tqdm(total=len(library), unit="photo", mininterval=10) as bar:
      library.reindex(progress=lambda name, count: bar.update())
    seconds = time.perf_counter() - begin
    print(f"re-indexed in {seconds / 60:.1f} min, {len(library) / seconds:.0f} files a second", flush=True)
    vector = library.vector_of("0")
    for name, search in (("a word", lambda: library.search(FLAGS.word)), ("likeness", lambda: library.search(like=vector))):
      seconds = measuring.in_turns({name: search}, SEARCHES)[name][:, 0]
      print(f"search by {name}: {1000 * np.median(seconds):.0f} ms in this process, as a median", flush=True)
    like = os.path.join(folder, "like.deepcomp")
    files.write_file(like, bytes(originals[0]))
    for name, asked in (("a word", FLAGS.word), ("likeness to a file", f"--like={like}")):
      seconds = [search_by_command(library.path, asked, folder) for _ in range(4)]
      print(f"search by {name}: {seconds[0]:.2f} s by the command, the first time, {np.median(seconds[1:]):.2f} s later",
            flush=True)


def fill(library, codec, originals, said):
  """Makes the library's rows of what networks say of the originals."""
  symbols, table = list(map(codec.symbols, originals)), library.make()

  def row(number):
    place, rng = number % len(symbols), np.random.default_rng(number)
    changed = np.roll(symbols[place], rng.integers(0, symbols[place].shape[:2]), axis=(0, 1))[:, ::rng.choice([-1, 1])]
    data = codec.pack(np.ascontiguousarray(changed), FLAGS.image_size, FLAGS.image_size)
    return {**said[place], "id": f"{number:032x}", "name": str(number), "data": data, "operating_point": codec.operating_point,
            "network": "an earlier one", "width": FLAGS.image_size, "height": FLAGS.image_size, "bytes": len(data),
            "added": datetime.datetime(2026, 1, 1)}

  rows = ordered_map(row, range(FLAGS.files), cores(), ahead=ROWS)
  for begin in tqdm.tqdm(range(0, FLAGS.files, ROWS), unit="part", mininterval=10):
    table.add(tables.rows_of([next(rows) for _ in range(min(ROWS, FLAGS.files - begin))]))


def compare(codec, network, originals):
  """Prints the speed of labels and vectors from files, and that of the whole network on decoded pictures."""
  some = [bytes(originals[number % len(originals)]) for number in range(IN_TURNS)]
  whole = pretrained.make_backbone("EfficientNet-Lite0", 1000)
  run = tf.function(lambda pixels: whole(tf.cast(pixels, tf.float32) / 127 - 1, training=False), jit_compile=False)

  def through_pixels():
    pictures = [square(picture, 224) for picture in codec.decompress_many(some)]
    return [run(np.stack(pictures[begin:begin + 32])).numpy() for begin in range(0, IN_TURNS, 32)]

  times = measuring.in_turns({"bytes": lambda: network.answer(some), "pixels": through_pixels}, 5)
  bytes_, pixels = (IN_TURNS / np.median(times[name][:, 0]) for name in ("bytes", "pixels"))
  print(f"labels and vectors straight from files: {bytes_:.0f} a second; with decoding, and the whole network: {pixels:.0f} a "
        f"second, {bytes_ / pixels:.1f} times as fast without", flush=True)


def search_by_command(library, asked, caches):
  """Seconds of `deepcomp library search`, which keeps what it read in a folder of its own."""
  begin = time.perf_counter()
  subprocess.run([sys.executable, "-m", "deepcomp_tf.cli", "library", "search", library, asked], check=True,
                 stdout=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": caches})
  return time.perf_counter() - begin


if __name__ == "__main__":
  training_flags.main(main)
