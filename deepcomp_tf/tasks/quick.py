"""Networks of tasks without TensorFlow, by LiteRT's interpreter, which a process has loaded in a fifth of a second.

What TensorFlow loads in seconds is kept once as a LiteRT file in the user's cache folder (`keep`), and from then on a command
takes that (`load`). DEEPCOMP_LITERT=0 in the environment leaves LiteRT out.
"""

import contextlib
import importlib.util
import os
import sys
import threading

import numpy as np
from etils import epy

from deepcomp_tf import caches
from deepcomp_tf import files
from deepcomp_tf import quiet
from deepcomp_tf import shipped
from deepcomp_tf import threads
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.codec.operating_point import OperatingPoint
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.tasks import folder as folders

with epy.lazy_imports():
  import tensorflow as tf
  from deepcomp_tf.tasks import litert

_NETWORK = "network.tflite"

# For more files TensorFlow's start does not count, and it may have a GPU; for more pictures its decoder, three times as fast, pays.
MANY, MANY_PICTURES = 100, 4


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
  try:
    info = files.read_json(shipped.info_path(task.KIND, name))
    folder = caches.path_of("", "litert", _of_task(task, name, info))
    if info["input"] != "representation" or not os.path.exists(os.path.join(folder, _NETWORK)):
      return None
    point = OperatingPoint.load(folders.find_point(task.KIND, shipped.find(task.KIND, name), info))
    if point.fingerprint.hex() != info["fingerprint"]:
      return None
    network = Network(folder, info["network"])
  except (OSError, KeyError, ValueError):
    return None  # what is kept is damaged; or `task.load` says what is wrong
  loaded = task.from_json(info, _Input(point), network)
  loaded.source = shipped.source(task.KIND, name)
  return loaded


def codec(name):
  """The codec of an operating point whose encoder and decoder LiteRT runs, as `Codec.load` gives it; None where `keep` has
  not kept them."""
  if not is_there():
    return None
  point = OperatingPoint.load(name)
  kept = [caches.path_of("", "litert", _of_codec(point, part)) for part in ("encoder", "decoder")]
  if not all(os.path.exists(os.path.join(folder, _NETWORK)) for folder in kept):
    return None
  try:
    encoder, decoder = map(Network, kept)
  except (OSError, KeyError, ValueError):
    return None  # what is kept is damaged
  loaded, middles = Codec(point), (point.centers[1:] + point.centers[:-1]) / 2
  # What the codec would have TensorFlow make of its networks.
  loaded._encode = lambda pixels: np.searchsorted(middles, encoder(np.float32(pixels))).astype(np.uint8)
  loaded._decode = lambda symbols: np.uint8(np.clip(np.round(decoder(point.centers[symbols])), 0, 255))
  return loaded


def keep(loaded):
  """Writes what `load` takes of a task of the representation, or `codec` of a `Codec`, that was loaded by its name, where it is
  not there."""
  if not is_there() or loaded.source is None:
    return
  if isinstance(loaded, Codec):
    point, model = OperatingPoint.load(loaded.source), loaded.model
    for part, network, channels in (("encoder", model.encoder, 3), ("decoder", model.decoder, point.channels)):
      _keep(_of_codec(point, part), network, channels)
  elif loaded.inputs.kind == "representation" and not isinstance(loaded.network, Network):
    _keep(_of_task(type(loaded), loaded.source, loaded.info), loaded.forward, loaded.inputs.channels,
          list(loaded.network.named_variables()))


class Loader:
  """Loads codecs and networks once, those that are kept for LiteRT and the others with TensorFlow. `keep` keeps these then, which
  takes seconds: at the end of a command.

  Args:
    allowed: whether LiteRT may run them.
  """

  def __init__(self, allowed=True):
    self._allowed, self._loaded, self._slow, self._one_at_a_time = allowed, {}, [], threading.Lock()

  def task(self, task, name, of_codec=None):
    """A network as `task.load` gives it."""
    return self._get((task, name), lambda: None if of_codec else load(task, name), lambda: task.load(name, of_codec))

  def codec(self, name):
    """A codec as `Codec.load` gives it."""
    return self._get((Codec, name), lambda: codec(name), lambda: Codec.load(name))

  def _get(self, key, find, load_slowly):
    with self._one_at_a_time:
      if key not in self._loaded:
        found = find() if self._allowed else None
        if found is None:
          quiet.import_tensorflow()
          found = load_slowly()
          self._slow.append(found)
        self._loaded[key] = found
      return self._loaded[key]

  def keep(self, go_on=lambda: True):
    """Keeps for LiteRT what was loaded with TensorFlow, while go_on(); nothing where the cache folder cannot be written."""
    while self._allowed and self._slow and go_on():
      with contextlib.suppress(OSError, DeepcompError):
        keep(self._slow.pop())


def _of_task(task, name, info):
  """What the kept network of a task depends on, for `caches.path_of`."""
  return {"task": task.__name__, "network": {key: info.get(key) for key in ("network", "cut", "rates")},
          "weights": folders.digest(shipped.find(task.KIND, name), info)}


def _of_codec(point, part):
  """The same of a codec's encoder or decoder."""
  return {"task": part, "weights": point.digest_of(part)}


def _keep(made_of, function, channels, variables=()):
  """Fills a folder of the cache with the LiteRT file of a function of float32 `[batch, h, w, channels]`. What LiteRT does not
  have is not tried again."""
  def fill(folder):
    if sys.stderr.isatty():
      print("Kept for LiteRT, once, so that the next command does without TensorFlow ...", file=sys.stderr)
    try:
      with quiet.standard_error_if_it_fails():
        data = litert.convert(lambda x: {"answer": function(x)}, tf.TensorSpec([None, None, None, channels], tf.float32))
    except Exception as error:  # whatever the converter ends with  # pylint: disable=broad-except
      return {"error": one_line(error), "variables": list(variables)}
    files.write_file(os.path.join(folder, _NETWORK), data)
    return {"variables": list(variables)}

  caches.cached_folder("", "litert", made_of, fill)
