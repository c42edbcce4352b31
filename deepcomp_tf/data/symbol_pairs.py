"""Photos with their symbols at an operating point, to train decoders on: encoded once and kept on local disk."""

import itertools
import os

import numpy as np
from PIL import Image
import tensorflow as tf
import tqdm

from deepcomp_tf import caches
from deepcomp_tf import files
from deepcomp_tf import threads
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import cut
from deepcomp_tf.data import store
from deepcomp_tf.data.damage import Damage
from deepcomp_tf.data.damage import or_error
from deepcomp_tf.data.part import WHOLE
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE

_PIXELS = "pixels.bin"


class SymbolPairs:
  """Photos, and halves, quarters and so on of them, each with the symbols of the whole of it.

  Args:
    paths: of the photos, of which one must be large enough, and enough (`damage.ALLOWED_SHARE`) readable.
    codec: the operating point's `Codec`.
    smallest: shorter side in pixels, below which there is no photo, and no half of one.
    shrunk: paths of photos of which the halves and smaller are taken only, since they were JPEG files of low quality.
    cache_dir: of `caches.cached_folder`.
  """

  def __init__(self, paths, codec, smallest, shrunk=(), cache_dir=None):
    self._codec, self._smallest = codec, smallest
    listed = [(path, 1) for path in paths] + [(path, 2) for path in shrunk]
    made_of = {"photos": [f"{path} {files.size(path)} {factor}" for path, factor in listed], "smallest": smallest,
               "symbols": codec.encoder_identity}
    folder = caches.cached_folder(cache_dir, "symbol_pairs", made_of, lambda new: self._fill(new, listed))
    sizes, = store.read_index(folder, "sizes")
    if not len(sizes):
      raise DeepcompError(f"expected photos with a shorter side of at least {smallest} pixels. Received: {len(listed)} photos "
                          "with none")
    self._symbols = store.Maps.open(folder, store.MAPS, sizes, codec.channels, STRIDE)
    self._pixels = store.Maps.open(folder, _PIXELS, STRIDE * sizes, 3)

  def __len__(self):
    return len(self._symbols)

  def _fill(self, folder, listed):
    damage = Damage("the photos", len(listed))
    photos = threads.ordered_map(lambda item: or_error(self._pairs, *item), listed, threads.cores())
    photos = damage.without_damaged(tqdm.tqdm(photos, desc="encoding", total=len(listed), unit="photo", mininterval=10))
    sizes, _ = store.write_maps(folder, [store.MAPS, _PIXELS], itertools.chain.from_iterable(photos))
    np.savez(os.path.join(folder, store.INDEX), sizes=sizes.astype(np.int64))
    return {"pairs": len(sizes), "damage": damage.messages}

  def _pairs(self, path, factor):
    """(symbols, pixels in whole blocks) of a photo, of its half, and so on."""
    photo, found = Image.fromarray(read_image(path)), []
    while min(photo.size) // factor >= self._smallest:
      width, height = (side // factor for side in photo.size)
      shrunk = np.asarray(photo if factor == 1 else photo.resize((width, height), Image.Resampling.LANCZOS))
      shrunk = np.ascontiguousarray(shrunk[:height // STRIDE * STRIDE, :width // STRIDE * STRIDE])
      found.append((self._codec.encode(shrunk), shrunk))
      factor *= 2
    return found

  def batches(self, crop_size, margin, batch_size, seed, first_step=0, part=WHOLE):
    """Endless data set of crops at random places, and of the windows in them whose pixels count, see `cut.draw_windows`.

    What a decoder sees beyond the window is the photo, or nothing where the photo ends. Crops have 8 k pixels, `smallest` at the
    most, and a `margin`, a multiple of 8, on each side of the window; the rest is as of `data.photos.Photos.batches`.

    Yields:
      symbols uint8 `[batch, k, k, C]`, pixels uint8 `[batch, 8 k, 8 k, 3]`, and where the windows, of 8 k - 2 `margin` pixels,
      begin in the crops: int32 `[batch, 2]` in 0..2 `margin`.
    """
    begin, end = part.of(batch_size)
    size, count = crop_size // STRIDE, end - begin

    def crops(step):
      indices, windows, corners = (array[begin:end] for array in cut.draw_windows(
          seed, int(step), batch_size, self._symbols.sizes, size, margin // STRIDE))
      return (self._symbols.crops(indices, STRIDE * corners, crop_size), self._pixels.crops(indices, STRIDE * corners, crop_size),
              (STRIDE * (windows - corners)).astype(np.int32))

    return cut.batches(crops, [(tf.uint8, [count, size, size, self._symbols.channels]),
                               (tf.uint8, [count, crop_size, crop_size, 3]), (tf.int32, [count, 2])], first_step)
