"""Many photos to compressed files: the device is kept busy, reading and entropy coding run beside the network.

A GPU is given batches of images of equal padded size. A CPU is given single images, as many at a time as it has cores: in a
batch, its convolutions add up rows in another order, so that z differs in its last digits and a symbol may differ with it. Single
images give the bytes of `Codec.compress`.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import math
import os
import threading

import numpy as np

from deepcomp_tf.codec import container
from deepcomp_tf.codec import tiling
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.threads import cores

# Images that are encoded together, at most, and the padded pixels that are enough, by which memory is bounded.
BATCH = 32
BATCH_PIXELS = 1 << 21

# An image waits for others of its size while so many pixels wait in all, and so many images have come since.
WAITING_PIXELS = 1 << 24
WAITING_IMAGES = 256

# Seconds without another image, after which those that wait for others to make a batch with are encoded.
PATIENCE = 0.05

# Batches whose symbols wait for the entropy coder, before the network waits for it.
_BATCHES_TO_CODE = 4


def files_of(images, encode, encode_batch, code, fingerprint):
  """Files of images, see `Codec.compress_many`.

  Args:
    images: iterable of uint8 `[H, W, 3]` arrays and `DeepcompError`s.
    encode: from an image of any size to its symbols; called on several threads.
    encode_batch: from a list of padded images of equal size to a list of their symbols; None where single images are better.
    code: from a list of symbols to their payloads.
    fingerprint: of the files.

  Yields:
    the bytes of a file, or the `DeepcompError` of an image that has none, in the order of the images.
  """
  results, waiting, coding = {}, collections.OrderedDict(), collections.deque()
  given = delivered = held = 0

  def finish():
    """Takes the files of the oldest batch from the entropy coder."""
    batch, payloads = coding.popleft()
    for (number, size), payload in zip(batch, payloads.result()):
      try:
        results[number] = container.pack(fingerprint, *size, payload)
      except DeepcompError as error:
        results[number] = error

  def run(kind):
    """Encodes the images of a kind that wait."""
    nonlocal held
    batch = waiting.pop(kind)
    held -= sum(math.prod(_padded_shape(image)) for _, image in batch)
    if encode_batch and len(batch) > 1:
      symbols = encode_batch([tiling.pad(image) for _, image in batch])
    else:
      symbols = list(encoders.map(encode, [image for _, image in batch]))
    coding.append(([(number, image.shape[:2]) for number, image in batch], coder.submit(code, symbols)))
    while len(coding) > _BATCHES_TO_CODE or coding and coding[0][1].done():
      finish()

  with contextlib.closing(_ahead(images)) as parts, concurrent.futures.ThreadPoolExecutor(1, "deepcomp_coding") as coder, \
      concurrent.futures.ThreadPoolExecutor(min(cores(), BATCH), "deepcomp_encoding") as encoders:
    for part in itertools.chain(parts, [()]):
      for image in part:
        number, given = given, given + 1
        try:
          if isinstance(image, DeepcompError):
            raise image
          image = check_image(image)
        except DeepcompError as error:
          results[number] = error
          continue
        kind, pixels = _padded_shape(image) if encode_batch else None, math.prod(_padded_shape(image))
        batch = waiting.setdefault(kind, [])
        batch.append((number, image))
        held += pixels
        tiled = max(image.shape) > tiling.TILE * STRIDE
        if tiled or len(batch) >= BATCH or pixels * len(batch) >= BATCH_PIXELS or not encode_batch and held >= BATCH_PIXELS:
          run(kind)
        while held > WAITING_PIXELS or waiting and given - next(iter(waiting.values()))[0][0] > WAITING_IMAGES:
          run(next(iter(waiting)))  # the kind of the oldest
      if not part:  # the end, or nothing comes: perhaps the source waits for the files of what it gave
        while waiting:
          run(next(iter(waiting)))
        while coding:
          finish()
      while delivered in results:
        yield results.pop(delivered)
        delivered += 1


def check_image(image):
  """An image as an array. Refuses what is no uint8 `[H, W, 3]`, or has more than `container.MAX_PIXELS`."""
  if isinstance(image, (str, bytes, bytearray, memoryview, os.PathLike)):
    given = f"the path {image}" if isinstance(image, (str, os.PathLike)) else "bytes"
    raise DeepcompError("`image` must be a uint8 array of shape [H, W, 3], as deepcomp_tf.codec.images.read_image gives it of a "
                        f"photo's file. Received: {given}")
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
    raise DeepcompError("`image` must be a uint8 array of shape [H, W, 3], H and W at least 1. "
                        f"Received: dtype={image.dtype}, shape={image.shape}")
  container.check_pixels(*image.shape[:2])
  return image


def on_gpu():
  """Whether TensorFlow has a GPU, which encodes batches faster than single images."""
  import tensorflow as tf  # which reading symbols does not need
  return bool(tf.config.list_logical_devices("GPU"))


def _padded_shape(image):
  return tuple(side + -side % STRIDE for side in image.shape[:2])


def _ahead(values):
  """Yields an iterable's values in lists of a batch's pixels, the next of which is read on a thread.

  Where that takes longer than `PATIENCE`, the list is of what there is, and empty where there is nothing.
  """
  values, read, lock = iter(values), [], threading.Lock()

  def take():
    """Reads the next values. Returns whether they are the last, and the error that their source raised behind them, or None."""
    count = pixels = 0
    try:
      for value in values:
        with lock:
          read.append(value)
        shape = getattr(value, "shape", ())
        count += 1
        pixels += shape[0] * shape[1] if len(shape) > 1 else 0
        if pixels >= BATCH_PIXELS or count >= BATCH:
          return False, None
    except BaseException as error:  # raised again by the thread that asks for the values  # pylint: disable=broad-except
      return True, error
    return True, None

  reader = concurrent.futures.ThreadPoolExecutor(1, "deepcomp_reading")
  try:
    coming, ended = reader.submit(take), False
    while not ended:
      taken = concurrent.futures.wait([coming], PATIENCE).done
      with lock:
        part, read[:] = read[:], []
      if taken:
        ended, error = coming.result()
        if not ended:
          coming = reader.submit(take)
      if part or not taken:
        yield part
    if error is not None:
      raise error
  finally:
    reader.shutdown(cancel_futures=True)
    with contextlib.suppress(AttributeError):  # only generators have it
      values.close()
