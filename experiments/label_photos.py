"""Masks of photos by a pretrained segmentation network: a set for `experiments.train_segmentation` where masks are few.

  python -m experiments.label_photos --model=deeplabv3_mnv2_pascal_quant.tflite --photos=FOLDER,FOLDER --output_dir=SET

The model is a TensorFlow Lite file that takes a photo of 8-bit RGB and gives class ids, such as the DeepLab of
google-coral/test_data (Apache-2.0). Photos are laid into its size with their aspect kept. Its answers for a photo
and for the mirrored photo have to agree; where they do not, the mask is void. Photos with less than --min_share of objects are
left out. SET/images/SPLIT and SET/masks/SPLIT are what --dataset takes; masks of people may lie beside.
A run that was stopped goes on where it was.
"""

import os
import sys
import threading

from absl import flags
import numpy as np
from PIL import Image
import tensorflow as tf
import tqdm

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.codec.images import read_image
from deepcomp_tf.data import photo_files
from deepcomp_tf.errors import one_line
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", None, "TensorFlow Lite file: uint8 [1, h, w, 3] RGB in, ids of VOC's classes [1, h, w] out.",
                    required=True)
flags.DEFINE_list("photos", None, "Folders of photos, which are gone through with the folders in them, and lists of paths "
                  "(.txt).", required=True)
flags.DEFINE_string("output_dir", None, "Folder of the set.", required=True)
flags.DEFINE_string("split", "train", "Its split.")
flags.DEFINE_float("min_share", 0.02, "Share of a photo's pixels that show objects.", lower_bound=0.0, upper_bound=1.0)

_PADDING = 127


def main(argv):
  del argv
  photos = [path for name in FLAGS.photos for path in photo_files.find_photos(name)]
  masks = Masks(FLAGS.model)
  tasks = {}
  for path in photos:
    # With the folder's name, since other folders may have photos of the same name.
    name = os.path.splitext("_".join(os.path.normpath(path).split(os.sep)[-2:]))[0]
    if tasks.setdefault(name, path) != path:
      raise dc.DeepcompError("expected photos that differ in the names of their folders or in their own. Received: "
                             f"{tasks[name]} and {path}")
  images, mask_folder = (os.path.join(FLAGS.output_dir, kind, FLAGS.split) for kind in ("images", "masks"))
  files.makedirs(images)
  files.makedirs(mask_folder)
  left_out = os.path.join(FLAGS.output_dir, f"left_out_{FLAGS.split}.txt")
  known = set(files.read(left_out).decode().splitlines()) if files.exists(left_out) else set()
  todo = [name for name in tasks if name not in known and not files.exists(os.path.join(mask_folder, f"{name}.png"))]

  def label(name):
    try:
      photo = read_image(tasks[name])
    except dc.DeepcompError as error:
      return name, str(error)
    mask = masks.of(photo)
    if ((mask != 0) & (mask != mask_classes.VOID)).mean() < FLAGS.min_share:
      return name, None
    files.write_file(os.path.join(images, f"{name}.png"), encode_png(photo), overwrite=True)
    # Written last: it says that the photo is done.
    files.write_file(os.path.join(mask_folder, f"{name}.png"), mask_classes.encode_mask(mask, mask_classes.VOC), overwrite=True)
    return name, mask

  written = 0
  with tqdm.tqdm(total=len(todo), unit="photo", mininterval=1 if sys.stderr.isatty() else 30) as bar:
    for name, result in ordered_map(label, todo, threads=cores()):
      bar.update()
      written += isinstance(result, np.ndarray)
      if isinstance(result, str):
        tqdm.tqdm.write(f"error: {result}", file=sys.stderr)
      elif result is None:
        files.append_line(left_out, name)
  print(f"{len(tasks)} photos, {len(tasks) - len(todo)} of them before; {written} masks written to {mask_folder}")


class Masks:
  """Class ids by the TensorFlow Lite model at a path, on any number of threads.

  Raises:
    DeepcompError: it is not a model, or takes or gives something else.
  """

  def __init__(self, path):
    try:
      self._model, self._local = files.read(path), threading.local()
      model = self._interpreter()
    except (OSError, ValueError) as error:
      raise dc.DeepcompError(f"expected a TensorFlow Lite model. Received: {path} ({one_line(error)})") from None
    (given,), (found,) = model.get_input_details(), model.get_output_details()
    self._size = tuple(given["shape"][1:3])
    if given["dtype"] != np.uint8 or len(given["shape"]) != 4 or tuple(found["shape"][:3]) != (1, *self._size):
      raise dc.DeepcompError(f"expected a model that takes uint8 [1, h, w, 3] and gives ids [1, h, w]. Received: {path}, from "
                             f"{given['dtype'].__name__} {given['shape'].tolist()} to {found['shape'].tolist()}")

  def _interpreter(self):
    if not hasattr(self._local, "model"):
      self._local.model = tf.lite.Interpreter(model_content=self._model, num_threads=1)
      self._local.model.allocate_tensors()
    return self._local.model

  def of(self, photo):
    """uint8 `[H, W, 3]` -> uint8 `[H, W]`: ids, void where the mirrored photo gets another."""
    ids, mirrored = self._predict(photo), self._predict(photo[:, ::-1])[:, ::-1]
    return np.where(ids == mirrored, ids, mask_classes.VOID).astype(np.uint8)

  def _predict(self, photo):
    height, width = photo.shape[:2]
    scale = min(self._size[0] / height, self._size[1] / width)
    inner = max(1, round(scale * height)), max(1, round(scale * width))
    laid = np.full([1, *self._size, 3], _PADDING, np.uint8)
    laid[0, :inner[0], :inner[1]] = Image.fromarray(np.ascontiguousarray(photo)).resize(inner[::-1], Image.Resampling.BILINEAR)
    model = self._interpreter()
    model.set_tensor(model.get_input_details()[0]["index"], laid)
    model.invoke()
    ids = model.get_tensor(model.get_output_details()[0]["index"])[0].reshape(self._size).astype(np.uint8)
    return np.asarray(Image.fromarray(ids[:inner[0], :inner[1]]).resize((width, height), Image.Resampling.NEAREST))


if __name__ == "__main__":
  training_flags.main(main)
