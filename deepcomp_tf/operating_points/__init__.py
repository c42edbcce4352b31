"""Trained compression networks that come with the package, and their format on disk.

An operating point is a folder:
  operating_point.json  its name, its architecture, how it was trained, on what, what it reached, and the statistics
                        of its representation
  weights.npz           float16 weights of encoder and decoder, float32 centers
  context.npz           the integer tables and coefficients of the entropy coder
"""

import hashlib
import json
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deepcomp_tf.codec.context import ContextModel
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.models.compression import CompressionModel

_HERE = os.path.dirname(__file__)
_INFO, _WEIGHTS, _CONTEXT = "operating_point.json", "weights.npz", "context.npz"


class OperatingPoint(NamedTuple):
  """What a folder holds.

  fingerprint: 3 bytes made of the centers and the context model.
  mean, deviation: float32 `[C]`, of the quantized representation's channels over the training photos. Classifiers
    see it centered and scaled by them.
  """
  name: str
  model: CompressionModel
  context_model: ContextModel
  fingerprint: bytes
  info: dict
  mean: np.ndarray
  deviation: np.ndarray


def names():
  """Names of the shipped operating points, in order of their rate."""
  return sorted(name for name in os.listdir(_HERE) if os.path.exists(os.path.join(_HERE, name, _INFO)))


def load(name):
  """The trained `CompressionModel` of an operating point.

  Its `encoder` and `decoder` can be used alone, and with `trainable = False` inside other models.

  Args:
    name: one of `names()`, or a folder that training wrote.

  Raises:
    DeepcompError: there is no such operating point.
  """
  return open_point(name).model


def open_point(name):
  """All that belongs to an operating point, as an `OperatingPoint`."""
  folder = _folder(name)
  info = read_info(folder)
  try:
    with np.load(os.path.join(folder, _CONTEXT)) as arrays:
      arrays = dict(arrays)
    with np.load(os.path.join(folder, _WEIGHTS)) as weights:
      weights = dict(weights)
    context_model = ContextModel.from_arrays(arrays)
    model = CompressionModel(info["channels"], info["num_centers"], name="compression")
    model(tf.zeros([1, 16, 16, 3]))
    for key, variable in named_variables(model).items():
      variable.assign(weights[key].astype(np.float32))
    mean, deviation = (np.asarray(info["representation"][key], np.float32) for key in ("mean", "deviation"))
  except (OSError, KeyError, ValueError) as error:
    raise DeepcompError(f"the operating point in {folder} is damaged or incomplete ({error})") from None
  return OperatingPoint(info["name"], model, context_model, _fingerprint(weights["quantizer/centers"], arrays), info,
                        mean, deviation)


def fingerprint(name):
  """The 3 bytes that mark files of an operating point, without building its networks."""
  return bytes.fromhex(read_info(name)["fingerprint"])


def read_info(name):
  """What an operating point's JSON file says: how it was trained, on what, and what it reached."""
  with open(os.path.join(_folder(name), _INFO)) as file:
    return json.load(file)


def save(folder, model, context_model, info, mean, deviation):
  """Writes an operating point.

  Args:
    folder: made where it is missing.
    model: a `CompressionModel` whose centers ascend.
    context_model: a `ContextModel` of its symbols.
    info: dict for people: name, how it was trained, what it reached.
    mean, deviation: `[C]`, see `OperatingPoint`.
  """
  centers = model.quantizer.centers.numpy()
  if (np.diff(centers) <= 0).any():
    raise DeepcompError("centers must ascend, so that symbols of neighbouring values are neighbours")
  os.makedirs(folder, exist_ok=True)
  arrays = context_model.to_arrays()
  weights = {key: variable.numpy().astype(np.float32 if key == "quantizer/centers" else np.float16)
             for key, variable in named_variables(model).items()}
  info = {**info, "channels": model.channels, "num_centers": len(centers),
          "fingerprint": _fingerprint(weights["quantizer/centers"], arrays).hex(),
          "representation": {"mean": np.asarray(mean, np.float32).tolist(),
                             "deviation": np.asarray(deviation, np.float32).tolist()}}
  np.savez_compressed(os.path.join(folder, _WEIGHTS), **weights)
  np.savez_compressed(os.path.join(folder, _CONTEXT), **arrays)
  with open(os.path.join(folder, _INFO), "w") as file:
    json.dump(info, file, indent=1)
    file.write("\n")


def round_weights(model):
  """Rounds a model's weights to the float16 that `save` keeps, so that what is measured is what is shipped."""
  for key, variable in named_variables(model).items():
    if key != "quantizer/centers":
      variable.assign(variable.numpy().astype(np.float16).astype(np.float32))


def named_variables(model):
  """The variables that an operating point keeps, by names such as `encoder/unit1/conv2/kernel`."""
  named = {"quantizer/centers": model.quantizer.centers}
  for part in (model.encoder, model.decoder):
    layers = {layer.name: layer for layer in part.layers}
    for unit in part.units:
      layers[f"{unit.name}/conv1"], layers[f"{unit.name}/conv2"] = unit.conv1, unit.conv2
      del layers[unit.name]
    for name, layer in layers.items():
      named[f"{part.name}/{name}/kernel"], named[f"{part.name}/{name}/bias"] = layer.kernel, layer.bias
  return named


def _folder(name):
  for folder in (os.path.join(_HERE, name), name):
    if os.path.exists(os.path.join(folder, _INFO)):
      return folder
  raise DeepcompError(f"no operating point {name!r}: expected one of {', '.join(names()) or '(none)'}, or a folder "
                      f"with {_INFO}")


def _fingerprint(centers, arrays):
  digest = hashlib.sha256(centers.astype("<f4").tobytes())
  for key in sorted(arrays):
    digest.update(key.encode() + arrays[key].astype("<i4").tobytes())
  return digest.digest()[:3]
