"""Segmentation of compressed files: `Segmenter`."""

from collections.abc import Sequence
import functools
from typing import overload

import numpy as np
from etils import epy
from PIL import Image

from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf import outputs
from deepcomp_tf import threads
from deepcomp_tf.bitstream import FileBytes
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import Errors
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.tasks.base import Task

with epy.lazy_imports():
  import tensorflow as tf
  from deepcomp_tf import models

# Rows of the logits that are upsampled at a time, of one for every 8 pixels.
BAND = 32


class Segmenter(Task):
  """Segments compressed files straight from their bytes.

  Examples:
    >>> segmenter = Segmenter.load(Segmenter.names()[0])
    >>> mask = segmenter.segment(data)             # bytes -> uint8 [H, W] of class ids
    >>> {segmenter.class_names[number] for number in np.unique(mask)}

  Networks know objects of the size that they were trained on: representations of larger photos are halved until they have about
  that size (`tasks.halving`), and the mask is of the photo's size again.

  The ids are those of the set's masks, 0..254, such as 8 for VOC's cat. The network's logits are in the order of `classes`: their
  places there, 0..K-1, are what `predict` gives and measures are taken on; `mask_ids` leads from places to ids.

  Args:
    network: a `models.DeepLab`, or a `models.Graft` of a network that segments.
    inputs, info: see `Task`.
    classes: list of `mask_classes.MaskClass`, in the order of the network's logits.

  `export_saved_model` gives `classes`, uint8 `[batch, 8*h, 8*w]`, places in `classes`. Cut to the photo's height and width, and
  as ids by `mask_ids`, they are what `segment` gives.

  Attributes:
    classes: as given.
    class_names: list of str by id: `class_names[8]` is the class of pixels of id 8. "" for ids that no class has.
    mask_ids: uint8 `[256]`, from the place of a class to its id in masks, 255 (void) for the rest.
  """

  KIND = "segmenter"

  def __init__(self, network, inputs, classes, info=None):
    super().__init__(network, inputs, [known.name for known in classes], info)
    self.classes = list(classes)
    by_id = {known.id: known.name for known in classes}
    self.class_names = [by_id.get(number, "") for number in range(max(by_id) + 1)]
    self.mask_ids = np.full(256, mask_classes.VOID, np.uint8)
    self.mask_ids[:len(classes)] = [known.id for known in classes]

  @functools.cached_property
  def _masks(self):
    """A graph from the network's input, height and width of the photos, and pixels per position, to what `_places` gives."""
    def masks(x, height, width, stride):
      if self.inputs.stride == 1:
        # Whole blocks of 8x8 pixels, since each position of the logits stands for a block.
        x = tf.pad(x, [[0, 0], [0, -tf.shape(x)[1] % STRIDE], [0, -tf.shape(x)[2] % STRIDE], [0, 0]])
      return class_ids(self.forward(x), height, width, stride)

    return tf.function(masks, jit_compile=False, input_signature=[
        tf.TensorSpec([None, None, None, self.inputs.channels], tf.float32), *[tf.TensorSpec([], tf.int32)] * 3])

  @classmethod
  def from_json(cls, info, inputs, network=None):
    count = len(info["class_names"])
    if network is None and "rates" in info:
      network = models.DeepLab(models.from_blueprint(info, None, dilated=True), count, info["rates"])
    elif network is None:
      network = models.from_blueprint(info, count)
    if "classes" in info:
      return cls(network, inputs, mask_classes.check_classes(info["classes"], f"{cls.KIND}.json"), info)
    # Before classes other than VOC's, their names were all that was kept.
    voc = {known.name: known for known in mask_classes.VOC}
    return cls(network, inputs, [voc[name] for name in info["class_names"]], info)

  def to_json(self):
    if isinstance(self.network, models.DeepLab):
      return {**self.network.backbone.blueprint(), "rates": list(self.network.head.rates), **self.labels()}
    return {**self.network.blueprint(), **self.labels()}

  def labels(self):
    return {**super().labels(), "classes": mask_classes.describe_classes(self.classes)}

  def served(self, representation):
    size = STRIDE * tf.shape(representation)
    return {"classes": class_ids(self.network(representation, training=False), size[1], size[2])}

  def served_by_litert(self, representation):
    """At once, not a band of rows at a time: LiteRT has no lists of tensors."""
    upsampled = tf.image.resize(self.network(representation, training=False), STRIDE * tf.shape(representation)[1:3])
    return {"classes": tf.cast(tf.argmax(upsampled, axis=-1), tf.uint8)}

  def predict(self, stored, height, width):
    """Places of the classes of one photo: uint8 `[h, w, channels]` pixels or symbols -> uint8 `[height, width]`."""
    return self._places(stored[np.newaxis], height, width)[0]

  def picture(self, stored, height, width):
    """The photo as the network's input has it: uint8 `[height, width, 3]` of what `predict` takes."""
    return self.codec.decode(stored, height, width) if self.inputs.kind == "representation" else stored

  def places_of(self, class_names):
    """The places of those classes, of these names, that it has."""
    return [self.names_in_order.index(name) for name in class_names if name in self.names_in_order]

  def run(self, stored, height, width):
    return list(self.mask_ids[self._places(stored, height, width)])

  def _places(self, stored, height, width):
    """As `predict`, of photos of one size: uint8 `[batch, h, w, channels]` -> `[batch, height, width]`."""
    threads.check_fork()
    stride = STRIDE << self.halvings(height, width)
    x = self.brought_down(stored, height, width)
    if isinstance(x, np.ndarray):  # without TensorFlow
      return np.stack([_ids(logits, height, width, stride) for logits in self._forward(x)])
    return self._masks(x, height, width, stride).numpy()

  @overload
  def segment(self, data: FileBytes, errors: Errors = ...) -> np.ndarray: ...
  @overload
  def segment(self, data: Sequence[FileBytes], errors: Errors = ...) -> list[np.ndarray]: ...

  def segment(self, data, errors="raise"):
    """The class of every pixel of a compressed file, or of several; arguments and errors as of `Task.answer`.

    Returns:
      uint8 `[H, W]` of class ids, at the photo's full size (`class_names` has their names); or a list of such arrays.
    """
    return self.answer(data, errors)

  def shares(self, mask):
    """(class, share of the pixels) of the classes in a mask of ids, largest first."""
    counts = np.bincount(mask.ravel(), minlength=256)
    found = [(known, counts[known.id] / mask.size) for known in self.classes if counts[known.id]]
    return sorted(found, key=lambda entry: -entry[1])

  HELP = "The class of every pixel of photos, straight from their .deepcomp files."
  WRITES = True

  @classmethod
  def add_arguments(cls, parser):
    parser.add_argument("-o", "--output", required=True, help="PNG file for the mask: ids of classes, with their colours as its "
                        "palette; of several files, or of a folder, a folder for their masks, with its tree. Made if it is "
                        "missing, with the folders it is in. - is standard output.")
    parser.add_argument("--overlay", default="", help="The same for the decoded photo with the mask laid over it.")
    parser.add_argument("--resume", action="store_true", help="Leave outputs that exist alone, and count them as done.")
    parser.add_argument("--overwrite", action="store_true", help="Replace outputs that exist.")

  @classmethod
  def check_arguments(cls, args):
    if args.output == args.overlay:
      raise DeepcompError(f"expected an --overlay other than --output. Received: {args.overlay} for both")
    wanted = filter(None, (args.output, args.overlay))
    args.places = [outputs.places_at(args.files, args.folders, ".png", output) for output in wanted]
    outputs.check((path for places in args.places for path in places.values()), args.overwrite, args.resume)

  @classmethod
  def decodes(cls, args):
    return bool(args.overlay)

  @classmethod
  def existing(cls, args, file):
    paths = [places[file] for places in args.places]
    if args.resume and outputs.STANDARD not in paths and all(map(files.exists, paths)):
      return {"output": paths[0], "before": True}
    return None

  def report(self, args, file, data, answer):
    output, *overlays = (places[file] for places in args.places)
    outputs.write(output, mask_classes.encode_mask(answer, self.classes), args.overwrite or args.resume)
    for overlay in overlays:
      picture = mask_classes.overlay(self.codec.decompress(data), answer, self.classes)
      outputs.write(overlay, encode_png(picture), args.overwrite or args.resume)
    height, width = answer.shape
    shares = self.shares(answer)
    return (f"{file} -> {output}: {width}x{height}; "
            + ", ".join(f"{known.name} {100 * share:.1f} %" for known, share in shares if share >= 0.0005),
            {"output": output, "width": width, "height": height,
             "classes": [{"name": known.name, "id": known.id, "share": round(float(share), 6)} for known, share in shares]})

  def show(self, answer, picture):
    found = [(known, f"{known.name} {100 * share:.0f} %") for known, share in self.shares(answer)
             if known.name != mask_classes.BACKGROUND and share >= 0.005]
    return {"picture": mask_classes.overlay(picture, answer, self.classes),
            "alt": f"mask laid over the photo: {', '.join(text for _, text in found) or 'background only'}",
            "legend": [{"color": known.color, "text": text} for known, text in found] or [{"text": "background only"}]}


def _ids(logits, height, width, stride):
  """As `class_ids`, of one array of logits `[h, w, K]` -> uint8 `[height, width]`."""
  rows, columns, count = logits.shape
  ids, most = np.zeros([height, width], np.uint8), np.full([height, width], -np.inf, np.float32)
  for k in range(count):
    large = Image.fromarray(logits[:, :, k]).resize((stride * columns, stride * rows), Image.Resampling.BILINEAR)
    values = np.asarray(large)[:height, :width]
    better = values > most
    ids[better], most[better] = k, values[better]
  return ids


def class_ids(logits, height, width, stride=STRIDE):
  """Logits `[batch, h, w, K]`, a position for every 8x8 pixels, or stride x stride -> uint8 class ids `[batch, height, width]`.

  The logits are upsampled bilinearly, then cut to the photo; a band of rows at a time, since those of all classes at the size
  of a large photo take gigabytes.
  """
  shape, count = tf.shape(logits), tf.maximum(1, BAND * STRIDE // stride)

  def band(first):
    # A row more on either side, and the edge's again where there is none, as the upsampling itself would have it.
    rows = tf.clip_by_value(tf.range(first - 1, first + count + 1), 0, shape[1] - 1)
    upsampled = tf.image.resize(tf.gather(logits, rows, axis=1), [stride * (count + 2), stride * shape[2]])
    return tf.cast(tf.argmax(upsampled[:, stride:-stride, :width], axis=-1), tf.uint8)

  bands = tf.map_fn(band, tf.range(0, shape[1], count), fn_output_signature=tf.uint8, parallel_iterations=1)
  ids = tf.reshape(tf.transpose(bands, [1, 0, 2, 3]), [shape[0], -1, tf.shape(bands)[-1]])
  return ids[:, :height]
