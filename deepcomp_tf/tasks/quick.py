"""Networks of tasks without TensorFlow, by LiteRT's interpreter, which a process has loaded in a fifth of a second.

What TensorFlow loads in seconds is kept once as a LiteRT file in the user's cache folder (`keep`), and from then on a command takes
that (`load`). It needs the package ai-edge-litert, the extra `litert`. DEEPCOMP_LITERT=0 in the environment leaves LiteRT out.
"""

import importlib.util
import os
import threading

import numpy as np
from etils import epy

from deepcomp_tf import caches
from deepcomp_tf import files
from deepcomp_tf import quiet
from deepcomp_tf import shipped
from deepcomp_tf import threads
from deepcomp_tf.codec import tiling
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.codec.operating_point import OperatingPoint
from deepcomp_tf.errors import one_line
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.tasks import folder as folders

with epy.lazy_imports():
  import tensorflow as tf
  from deepcomp_tf.tasks import litert

_NETWORK = "network.tflite"


def is_there():
  """Whether LiteRT is installed and not left out."""
  return os.environ.get("DEEPCOMP_LITERT") != "0" and importlib.util.find_spec("ai_edge_litert") is not None


class Network:
  """A network that LiteRT runs: float32 `[batch, h, w, C]` of any size -> float32.

  Args:
    folder: of `caches.cached_folder`, as `keep` fills it.
    architecture: what the network is called.

  Attributes:
    num_classes, feature_channels: of its output, the last axis.
  """

  built = True

  def __init__(self, folder, architecture=None):
    from ai_edge_litert.interpreter import Interpreter
    with quiet.standard_error_if_it_fails():  # it says that it begins
      self._interpreter = Interpreter(os.path.join(folder, _NETWORK), num_threads=threads.cores())
      self._interpreter.allocate_tensors()
    (self._input,), (self._output,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
    self._variables = files.read_json(os.path.join(folder, caches.INFO))["variables"]
    self._architecture, self._size, self._one_at_a_time = architecture, None, threading.Lock()
    self.num_classes = self.feature_channels = int(self._output["shape_signature"][-1])

  def __call__(self, x):
    with self._one_at_a_time:
      if self._size != x.shape:
        self._interpreter.resize_tensor_input(self._input["index"], x.shape)
        self._interpreter.allocate_tensors()
        self._size = x.shape
      self._interpreter.set_tensor(self._input["index"], x)
      self._interpreter.invoke()
      return self._interpreter.get_tensor(self._output["index"])

  def blueprint(self):
    return {"network": self._architecture}

  def named_variables(self):
    """dict whose keys are the names of the variables; LiteRT has their values."""
    return dict.fromkeys(self._variables)


class _Input:
  """As `codec.inputs.NetworkInput` of the representation, for arrays."""

  kind, stride = "representation", STRIDE

  def __init__(self, point):
    self.codec, self.channels, self._point = Codec(point), point.channels, point

  def __call__(self, stored):
    return (self._point.centers[stored] - self._point.mean) / self._point.deviation


def load(task, name):
  """A trained network of a task, a class, as `task.load` gives it, but run by LiteRT; None where `keep` has not kept it."""
  if not is_there():
    return None
  info = files.read_json(shipped.info_path(task.KIND, name))
  if info["input"] != "representation":
    return None
  folder = caches.path_of("", "litert", _of_task(task, name, info))
  if not os.path.exists(os.path.join(folder, _NETWORK)):
    return None
  point = OperatingPoint.load(folders.find_point(task.KIND, shipped.find(task.KIND, name), info))
  if point.fingerprint.hex() != info["fingerprint"]:
    return None  # which `task.load` says
  loaded = task.from_json(info, _Input(point), Network(folder, info["network"]))
  loaded.source = shipped.source(task.KIND, name)
  return loaded


def keep(loaded):
  """Writes what `load` takes of a task of the representation, or `encoder` of a `Codec`, that was loaded by its name, where it is
  not there."""
  if not is_there() or loaded.source is None:
    return
  if isinstance(loaded, Codec):
    point = OperatingPoint.load(loaded.source)
    _keep(_of_encoder(point), loaded.model.encoder, tf.TensorSpec([None, None, None, 3], tf.float32), [])
  elif loaded.inputs.kind == "representation" and not isinstance(loaded.network, Network):
    specification = tf.TensorSpec([None, None, None, loaded.inputs.channels], tf.float32)
    _keep(_of_task(type(loaded), loaded.source, loaded.info), loaded.forward, specification, list(loaded.network.named_variables()))


def encoder(name):
  """An operating point's encoder without TensorFlow: a function of uint8 `[H, W, 3]` that gives symbols, as `Codec.encode` does;
  None where `keep` has not kept it."""
  if not is_there():
    return None
  point = OperatingPoint.load(name)
  folder = caches.path_of("", "litert", _of_encoder(point))
  if not os.path.exists(os.path.join(folder, _NETWORK)):
    return None
  network, middles = Network(folder), (point.centers[1:] + point.centers[:-1]) / 2
  encode = lambda pixels: np.searchsorted(middles, network(pixels.astype(np.float32))).astype(np.uint8)
  return lambda image: tiling.apply(encode, tiling.pad(image), STRIDE, 1, point.channels)


def _of_task(task, name, info):
  """What the kept network of a task depends on, for `caches.path_of`."""
  folder = shipped.find(task.KIND, name)
  weights = [os.path.join(folder, path) for path in (folders.WEIGHTS, info.get("shared_weights")) if path]
  return {"task": task.__name__, "network": {key: info.get(key) for key in ("network", "cut", "rates")},
          "weights": files.digest_of(*map(files.read, weights))}


def _of_encoder(point):
  return {"task": "encoder", "weights": point.encoder_digest}


def _keep(made_of, function, specification, variables):
  """Fills a folder of the cache with the LiteRT file of a function of a tensor. What LiteRT does not have is not tried again."""
  def fill(folder):
    try:
      with quiet.standard_error_if_it_fails():
        data = litert.convert(lambda x: {"answer": function(x)}, specification)
      files.write_file(os.path.join(folder, _NETWORK), data)
    except Exception as error:  # whatever the converter ends with  # pylint: disable=broad-except
      return {"error": one_line(error), "variables": variables}
    return {"variables": variables}

  caches.cached_folder("", "litert", made_of, fill)
