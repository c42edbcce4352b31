"""The folder of a trained network.

  KIND.json    its network, its classes, its input, how it was trained, and what it reached; written last where the folder
               is remote, so that a folder without it is half written. "operating_point" is the name of a shipped one, or its path
               from this folder, so that both may be moved together
  weights.npz  float16 kernels, or ones of nine bits (`shrink`); biases and what belongs to batch normalization in float32. Some
               may be in another such file instead, which several networks share: "shared_weights" in KIND.json is its path from
               this folder
"""

import contextlib
import os

import numpy as np
from etils import epy

from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf.codec import operating_point as points
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.errors import DeepcompError

with epy.lazy_imports():
  from deepcomp_tf.codec import inputs

WEIGHTS = "weights.npz"

# What stands behind the name of a kernel of nine bits, an int8 array, for the lowest bit of each value, packed, and for the float32
# that the values are multiplied by.
_LOW, _SCALE = "/low", "/scale"


def load(task, name, codec=None):
  """A trained network of a task, a class; `name` and `codec` as of `base.Task.load`."""
  kind, folder = task.KIND, shipped.find(task.KIND, name)
  try:
    info = files.read_json(shipped.info_path(kind, name))
    if info["input"] != "original" and codec is None:
      codec = Codec.load(find_point(kind, folder, info))
    fingerprint = info.get("fingerprint", "of none: original pixels")
    if codec is not None and fingerprint != codec.fingerprint.hex():
      raise DeepcompError(f"the {kind} in {folder} was trained on the operating point {fingerprint}. "
                          f"Received: {codec.fingerprint.hex()} ({codec.operating_point})")
    loaded = task.from_json(info, inputs.NetworkInput(info["input"], codec, pixel_mean=info.get("pixel_mean", "imagenet")))
    weights = read_weights(folder, info)
    for key, variable in loaded.network.named_variables().items():
      variable.assign(weights[key])
  except DeepcompError:
    raise
  except (OSError, KeyError, ValueError) as error:
    raise DeepcompError(f"the {kind} in {folder} is damaged or incomplete ({error})") from None
  loaded.source = shipped.source(kind, name)
  return loaded


def _weight_files(folder, info):
  """Paths of a network's weights, in its folder and where its JSON says that it shares some."""
  return [os.path.join(folder, path) for path in (WEIGHTS, info.get("shared_weights")) if path]


def digest(folder, info):
  """By which networks of other weights are told apart."""
  return files.digest_of(*map(files.read, _weight_files(folder, info)))


def read_weights(folder, info):
  """A network's weights, float32 by their names."""
  arrays = {}
  for path in _weight_files(folder, info):
    arrays.update(files.read_arrays(path))
  return {name: _values(arrays, name) for name in arrays if not name.endswith((_LOW, _SCALE))}


def _values(arrays, name):
  values = arrays[name].astype(np.float32)
  if name + _SCALE in arrays:
    low = np.unpackbits(arrays[name + _LOW], count=values.size).reshape(values.shape)
    values = (2 * values + low) * arrays[name + _SCALE]
  return values


def find_point(kind, folder, info):
  """The operating point that a folder's JSON names: a shipped one, or the folder at that path, seen from the network's.

  Earlier versions kept the path as it was typed, seen from the current folder; it is looked for there, too.
  """
  name, found = info["operating_point"], []
  if name in points.names():
    return name
  beside = os.path.join(folder, name)  # for local paths `..` is left in it, as it may stand behind a link
  for place in [name] if files.is_remote(name) else [files.normal(beside) if files.is_remote(beside) else beside, name]:
    with contextlib.suppress(DeepcompError):
      if points.fingerprint(place).hex() == info["fingerprint"]:
        return place
      found.append(place)
  if found:
    return found[0]  # another operating point, which `load` refuses
  raise DeepcompError(f"expected the operating point of the {kind} in {folder} at {name!r}, seen from there or from the "
                      "current folder. Received: none; say where it is by --operating_point, in Python by the argument `codec`")


def shipped_for(kind, fingerprint):
  """Name of the shipped network that reads an operating point; of several, the one that knows most classes.

  Where none is shipped, the path of one in `shipped.search_path`.
  """
  infos = {name: files.read_json(shipped.info_path(kind, name)) for name in shipped.all_names(kind)}
  own = lambda name: name not in shipped.names(kind)
  order = sorted(infos.items(), key=lambda item: (not own(item[0]), len(item[1]["class_names"])))
  known = {info["fingerprint"]: name for name, info in order if "fingerprint" in info}  # others are of original pixels
  if fingerprint not in known:
    raise DeepcompError(f"no {kind} is shipped for the operating point {fingerprint}: expected one of "
                        f"{', '.join(f'{key} ({name})' for key, name in known.items()) or '(none)'}")
  return known[fingerprint]


def save(task, folder, operating_point=None):
  """Writes a network's folder; see `base.Task.save`."""
  weights = {key: variable.numpy().astype(np.float16 if key.endswith("kernel") else np.float32)
             for key, variable in task.network.named_variables().items()}
  info = {**task.info, **task.to_json(), "input": task.inputs.kind}
  info.pop("shared_weights", None)  # all are in the folder
  if task.inputs.kind != "representation":
    info["pixel_mean"] = task.inputs.pixel_mean
  if task.codec is not None:
    place = shipped.source(points.KIND, operating_point) if operating_point else task.codec.source
    info["operating_point"] = (task.operating_point if place is None else place if place in points.names() else
                               shipped.seen_from(folder, place))
    info["fingerprint"] = task.codec.fingerprint.hex()
  told_by = shipped.json_of(task.KIND)
  with files.whole_folder(folder, last=told_by) as new:
    np.savez_compressed(os.path.join(new, WEIGHTS), **weights)
    files.write_json(os.path.join(new, told_by), info)


def share_weights(kind, folders, path, prefix=""):
  """Moves the arrays that networks have alike out of their folders into a file that all of them name.

  Args:
    kind: "classifier" or "segmenter".
    folders: of the networks, on this machine.
    path: npz file, beside these folders.
    prefix: with which the names of the arrays begin; there must be one that is the same in all.
  """
  arrays = [files.read_arrays(os.path.join(folder, WEIGHTS)) for folder in folders]
  alike = {name: array for name, array in arrays[0].items()
           if name.startswith(prefix) and all(name in others and np.array_equal(array, others[name]) for others in arrays[1:])}
  if not alike:
    raise DeepcompError(f"expected networks with arrays {prefix}* that are the same. Received: {', '.join(folders)}")
  np.savez_compressed(path, **alike)
  for folder, of_folder in zip(folders, arrays):
    info = os.path.join(folder, shipped.json_of(kind))
    files.write_json(info, {**files.read_json(info), "shared_weights": os.path.relpath(path, folder)})
    np.savez_compressed(os.path.join(folder, WEIGHTS), **{name: array for name, array in of_folder.items() if name not in alike})


def shrink(folder):
  """Rounds a network's kernels to nine bits, each output channel with a scale of its own: three fifths of the bytes. Depthwise
  kernels, of few bytes, stay as they are, and so does what is shared. The folder is on this machine; done again, it changes
  nothing."""
  arrays = files.read_arrays(os.path.join(folder, WEIGHTS))
  for name, array in list(arrays.items()):
    if name.endswith("kernel") and name + _SCALE not in arrays and array.shape[-1] > 1:
      array = array.astype(np.float32)
      scale = np.maximum(np.abs(array).max(axis=tuple(range(array.ndim - 1))), 1e-12) / 255
      values = np.round(array / scale).astype(np.int16)
      arrays.update({name: (values >> 1).astype(np.int8), name + _LOW: np.packbits(values & 1), name + _SCALE: scale})
  np.savez_compressed(os.path.join(folder, WEIGHTS), **arrays)
