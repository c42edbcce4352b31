"""Segmentation of compressed files: `Segmenter`."""

import numpy as np
import tensorflow as tf

from deepcomp_tf import mask_classes
from deepcomp_tf import models
from deepcomp_tf import threads
from deepcomp_tf.codec import container
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.inference.stored import batches_of
from deepcomp_tf.inference.stored import StoredNetwork
from deepcomp_tf.representation import STRIDE

# Rows of the logits that are upsampled at a time.
BAND = 32


class Segmenter(StoredNetwork):
  """Segments compressed files straight from their bytes.

  >>> segmenter = Segmenter.load(Segmenter.names()[0])
  >>> segmenter.segment(data)           # bytes -> uint8 [H, W] of class ids; segmenter.class_names

  Args:
    network: a `models.DeepLab`.
    inputs, info: see `StoredNetwork`.
    classes: list of `mask_classes.MaskClass`, in the order of the network's logits.

  `export_saved_model` gives `classes`, uint8 `[batch, 8*h, 8*w]`, indices into `classes`; cut to the photo's height and width
  they are what `segment` gives.

  Attributes:
    classes: as given; `class_names` are their names.
    mask_ids: uint8 `[256]`, from the place of a class to its id in masks, 255 (void) for the rest.
  """

  KIND = "segmenter"

  def __init__(self, network, inputs, classes, info=None):
    super().__init__(network, inputs, [one.name for one in classes], info)
    self.classes = list(classes)
    self.mask_ids = np.full(256, mask_classes.VOID, np.uint8)
    self.mask_ids[:len(classes)] = [one.id for one in classes]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, inputs.channels], tf.uint8),
                                  tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)], jit_compile=False)
    def forward(stored, height, width):
      x = inputs(stored)
      if inputs.stride == 1:
        # Whole blocks of 8x8 pixels, so that every position of the logits stands for one.
        x = tf.pad(x, [[0, 0], [0, -tf.shape(x)[1] % STRIDE], [0, -tf.shape(x)[2] % STRIDE], [0, 0]])
      return class_ids(network(x, training=False), height, width)

    self._forward = forward

  @classmethod
  def _make(cls, info):
    return models.DeepLab(models.from_blueprint(info, None, dilated=True), len(info["class_names"]), info["rates"])

  @classmethod
  def _of(cls, network, inputs, info):
    if "classes" in info:
      return cls(network, inputs, mask_classes.check_classes(info["classes"], f"{cls.KIND}.json"), info)
    # Before classes other than VOC's, their names were all that was kept.
    voc = {one.name: one for one in mask_classes.VOC}
    return cls(network, inputs, [voc[name] for name in info["class_names"]], info)

  def _classes(self):
    return {**super()._classes(), "classes": mask_classes.describe_classes(self.classes)}

  def _architecture(self):
    return {**self.network.backbone.blueprint(), "rates": list(self.network.head.rates)}

  def _served(self, representation):
    size = STRIDE * tf.shape(representation)
    return {"classes": class_ids(self.network(representation, training=False), size[1], size[2])}

  def predict(self, stored, height, width):
    """Class ids of one photo: uint8 `[h, w, channels]` pixels or symbols -> uint8 `[height, width]`."""
    threads.check_fork()
    return self._forward(stored[np.newaxis], height, width)[0].numpy()

  def picture(self, stored, height, width):
    """The photo as the network's input has it: uint8 `[height, width, 3]` of what `predict` takes."""
    return self.codec.reconstruct(stored, height, width) if self.inputs.kind == "representation" else stored

  def places_of(self, class_names):
    """The places among its classes of those of these names that it has."""
    return [self.class_names.index(name) for name in class_names if name in self.class_names]

  def segment(self, data):
    """Class ids of every pixel of a compressed file, or of several.

    Args:
      data: bytes of a file, or a list of them.

    Returns:
      uint8 `[H, W]`, indices into `classes`, at the photo's full size (`mask_ids` makes ids of them); or a list of such
      arrays.

    Raises:
      BitstreamError: a file is damaged, or of another operating point.
      DeepcompError: what is given is not bytes, but a path for example.
    """
    if container.is_one(data):
      return self.segment([data])[0]
    if self.codec is None:
      raise DeepcompError("this segmenter takes original pixels, which a compressed file does not have")
    data = container.list_of(data)
    threads.check_fork()
    stored, masks = self.read(data), [None] * len(data)
    headers = map(container.read_header, data)
    for (height, width), numbers in batches_of([(header.height, header.width) for header in headers]):
      found = self._forward(np.stack([stored[number] for number in numbers]), height, width).numpy()
      for number, mask in zip(numbers, found):
        masks[number] = mask
    return masks


def class_ids(logits, height, width):
  """Logits `[batch, h, w, K]`, a position for every 8x8 pixels -> uint8 class ids `[batch, height, width]`.

  The logits are upsampled bilinearly, then cut to the photo; a band of rows at a time, since those of all classes at the size
  of a large photo take gigabytes.
  """
  shape = tf.shape(logits)

  def band(first):
    # A row more on either side, and the edge's again where there is none, as the upsampling itself would have it.
    rows = tf.clip_by_value(tf.range(first - 1, first + BAND + 1), 0, shape[1] - 1)
    upsampled = tf.image.resize(tf.gather(logits, rows, axis=1), [STRIDE * (BAND + 2), STRIDE * shape[2]])
    return tf.cast(tf.argmax(upsampled[:, STRIDE:-STRIDE, :width], axis=-1), tf.uint8)

  bands = tf.map_fn(band, tf.range(0, shape[1], BAND), fn_output_signature=tf.uint8, parallel_iterations=1)
  ids = tf.reshape(tf.transpose(bands, [1, 0, 2, 3]), [shape[0], -1, tf.shape(bands)[-1]])
  return ids[:, :height]
