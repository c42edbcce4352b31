"""What trained inference networks share: their folder on disk, their operating point."""

import abc
import collections
import contextlib
import os
import tempfile

import numpy as np
import tensorflow as tf

from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf import threads
from deepcomp_tf.codec import container
from deepcomp_tf.codec import operating_point as points
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.layers.naming import build
from deepcomp_tf.codec.inputs import NetworkInput

_WEIGHTS = "weights.npz"

# Pixels of the photos of equal size that go through a network together, at most.
BATCH_PIXELS = 1 << 21


def batches_of(sizes):
  """Which photos go through a network together: those of equal size, as many as have `BATCH_PIXELS`.

  Args:
    sizes: list of (height, width) in pixels.

  Yields:
    (size, list of places in `sizes`)
  """
  alike = collections.defaultdict(list)
  for place, size in enumerate(sizes):
    alike[size].append(place)
  for size, places in alike.items():
    count = max(1, BATCH_PIXELS // (size[0] * size[1]))
    for begin in range(0, len(places), count):
      yield size, places[begin:begin + count]


def share_weights(kind, folders, path, prefix=""):
  """Moves the arrays that stored networks have alike out of their folders into a file that all of them name.

  Args:
    kind: "classifier" or "segmenter".
    folders: of the networks, on this machine.
    path: npz file, beside these folders.
    prefix: that the names of the arrays begin with.

  Raises:
    DeepcompError: they have no such array alike.
  """
  arrays = [files.read_arrays(os.path.join(folder, _WEIGHTS)) for folder in folders]
  alike = {name: array for name, array in arrays[0].items()
           if name.startswith(prefix) and all(name in others and np.array_equal(array, others[name]) for others in arrays[1:])}
  if not alike:
    raise DeepcompError(f"expected networks with arrays {prefix}* that are the same. Received: {', '.join(folders)}")
  np.savez_compressed(path, **alike)
  for folder, own in zip(folders, arrays):
    info = os.path.join(folder, f"{kind}.json")
    files.write_json(info, {**files.read_json(info), "shared_weights": os.path.relpath(path, folder)})
    np.savez_compressed(os.path.join(folder, _WEIGHTS), **{name: array for name, array in own.items() if name not in alike})


class StoredNetwork(abc.ABC):
  """A trained network with its input and its classes. On disk it is a folder:

    KIND.json    its network, its classes, its input, how it was trained, and what it reached; written last where the folder
                 is remote, so that one without it is half written. "operating_point" is the name of a shipped one, or its path
                 from this folder, so that both may be moved together
    weights.npz  float16 kernels; biases and what belongs to batch normalization in float32. Some may be in another such file
                 instead, which several networks share: "shared_weights" in KIND.json is its path from this folder

  Pickled, it is its name or folder with its codec, and is loaded again where it is unpickled.

  Subclasses say their `KIND`, how to make their network, and how to describe it.

  Args:
    network: a network with `named_variables`.
    inputs: the `NetworkInput` it was trained on.
    class_names: list of str, one for each of the network's classes.
    info: dict for people.

  Attributes:
    operating_point: name of the operating point it reads; None for original pixels.
    source: the name or the absolute path that it was loaded from; None where it was not.
  """

  KIND = source = None

  def __init__(self, network, inputs, class_names, info=None):
    if network.num_classes != len(class_names):
      raise DeepcompError(f"expected a name for each of the {network.num_classes} classes. Received: "
                          f"{len(class_names)} names")
    if not network.built:
      build(network, inputs.channels)
    self.network, self.inputs, self.class_names, self.info = network, inputs, list(class_names), dict(info or {})
    self.codec = inputs.codec
    self.operating_point = self.codec and self.codec.operating_point

  def read(self, files):
    """What the network sees of compressed files.

    Args:
      files: list of bytes.

    Returns:
      list of uint8 `[h, w, channels]`, symbols or decoded pixels.

    Raises:
      BitstreamError: one is damaged, or of another operating point.
    """
    if self.inputs.kind != "representation":
      return [self.codec.decompress(data) for data in files]
    symbols, errors = self.codec.symbols_of(files)
    for number, error in sorted(errors.items()):
      raise error if len(files) == 1 else BitstreamError(f"file {number} of {len(files)}: {error}")
    return symbols

  def describe(self):
    """A line that says which classes it knows, and on what it was trained."""
    names = self.class_names
    text = self._architecture()["network"] + (f" at {self.operating_point}" if self.operating_point else "")
    text += f" knows {len(names)} classes" + ("" if len(names) > 25 else f": {', '.join(names)}")
    note = self.info.get("trained", {}).get("data_note")
    return text + (f" ({note})" if note else "")

  @classmethod
  @abc.abstractmethod
  def _make(cls, info):
    """The network that a folder's JSON describes, not built."""

  @abc.abstractmethod
  def _architecture(self):
    """What `_make` needs, besides the classes, as a dict."""

  @classmethod
  def _of(cls, network, inputs, info):
    """The one of this network that a folder's JSON describes."""
    return cls(network, inputs, info["class_names"], info)

  def _classes(self):
    """What `_of` needs, besides the network, as a dict."""
    return {"class_names": self.class_names}

  @classmethod
  def names(cls):
    """Names of the shipped ones."""
    return shipped.names(cls.KIND)

  @classmethod
  def load(cls, name, codec=None):
    """A trained network.

    Args:
      name: one of `names()`, or a folder that training wrote.
      codec: the `Codec` of its operating point, where that is not a shipped one and is elsewhere, seen from the folder.

    Raises:
      DeepcompError: there is none, it is damaged, or its operating point is not the one that it was trained on.
    """
    threads.check_fork()
    folder = shipped.find(cls.KIND, name)
    try:
      info = files.read_json(shipped.info_path(cls.KIND, name))
      if info["input"] != "original" and codec is None:
        codec = Codec.load(cls._find_point(folder, info))
      fingerprint = info.get("fingerprint", "of none: original pixels")
      if codec is not None and fingerprint != codec.fingerprint.hex():
        raise DeepcompError(f"the {cls.KIND} in {folder} was trained on the operating point {fingerprint}. "
                            f"Received: {codec.fingerprint.hex()} ({codec.operating_point})")
      stored = cls._of(cls._make(info), NetworkInput(info["input"], codec), info)
      weights = files.read_arrays(os.path.join(folder, _WEIGHTS))
      if "shared_weights" in info:
        weights.update(files.read_arrays(os.path.join(folder, info["shared_weights"])))
      for key, variable in stored.network.named_variables().items():
        variable.assign(weights[key].astype(np.float32))
    except DeepcompError:
      raise
    except (OSError, KeyError, ValueError) as error:
      raise DeepcompError(f"the {cls.KIND} in {folder} is damaged or incomplete ({error})") from None
    stored.source = shipped.source(cls.KIND, name)
    return stored

  def __reduce__(self):
    if self.source is None:
      raise DeepcompError(f"expected a {self.KIND} that was loaded by its name or folder, which is what is pickled. Received: one "
                          "that is not saved")
    return type(self).load, (self.source, self.codec)

  @classmethod
  def _find_point(cls, folder, info):
    """The operating point that a folder's JSON names: a shipped one, or the folder at that path, seen from the network's own.

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
      return found[0]  # another one, which `load` refuses
    raise DeepcompError(f"expected the operating point of the {cls.KIND} in {folder} at {name!r}, seen from there or from the "
                        "current folder. Received: none; say where it is by --operating_point, in Python by the argument `codec`")

  @classmethod
  def load_for(cls, data):
    """The shipped one that reads the operating point of a compressed file; of several, the one that knows most classes.

    Raises:
      BitstreamError: the file has no readable header.
      DeepcompError: none is for its operating point.
    """
    fingerprint, known = container.read_header(data).fingerprint.hex(), {}
    infos = {name: files.read_json(shipped.info_path(cls.KIND, name)) for name in cls.names()}
    for name, info in sorted(infos.items(), key=lambda item: len(item[1]["class_names"])):
      known[info.get("fingerprint")] = name
    known.pop(None, None)  # of original pixels
    if fingerprint not in known:
      raise DeepcompError(f"no {cls.KIND} is shipped for the operating point {fingerprint}: expected one of "
                          f"{', '.join(f'{key} ({name})' for key, name in known.items()) or '(none)'}")
    return cls.load(known[fingerprint])

  def save(self, folder, operating_point=None):
    """Writes the folder.

    Args:
      folder: made where it is missing.
      operating_point: the name or folder of what `load` shall open, where that is not what its codec was loaded from.
    """
    weights = {key: variable.numpy().astype(np.float16 if key.endswith("kernel") else np.float32)
               for key, variable in self.network.named_variables().items()}
    info = {**self.info, **self._architecture(), **self._classes(), "input": self.inputs.kind}
    if self.codec is not None:
      place = shipped.source(points.KIND, operating_point) if operating_point else self.codec.source
      info["operating_point"] = (self.operating_point if place is None else place if place in points.names() else
                                 shipped.seen_from(folder, place))
      info["fingerprint"] = self.codec.fingerprint.hex()
    told_by = f"{self.KIND}.json"
    with files.whole_folder(folder, last=told_by) as new:
      np.savez_compressed(os.path.join(new, _WEIGHTS), **weights)
      files.write_json(os.path.join(new, told_by), info)

  @abc.abstractmethod
  def _served(self, representation):
    """Outputs of a SavedModel: float32 `[batch, h, w, C]`, centered and scaled -> dict of tensors `[batch, ...]`."""

  def export_saved_model(self, folder):
    """Writes a SavedModel, as TensorFlow Serving loads it, of a network of the representation.

    Its signature `serving_default` takes `representation`, float32 `[batch, h, w, C]` as `Codec.representation` gives it, the
    signature `symbols` takes `symbols`, uint8 `[batch, h, w, C]` as `Codec.symbols`. Both give what the class says. Every output
    has the batch dimension, since Serving refuses rows and batches where one has not; so the classes are in an asset,
    `assets/classes.json`: `class_names` in the order of the outputs, of a segmenter also their ids and colours.

    Args:
      folder: for Serving the number of a version in the model's folder, such as `models/photos/1`.

    Raises:
      DeepcompError: it is a network of pixels.
    """
    if self.inputs.kind != "representation":
      raise DeepcompError(f"expected a {self.KIND} of the representation. Received: one of {self.inputs.kind} pixels")
    channels = self.inputs.channels
    module = tf.Module()
    module.network, module.quantizer = self.network, self.codec.model.quantizer

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.float32, "representation")])
    def from_representation(representation):
      return self._served(self.inputs.normalize(representation))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.uint8, "symbols")])
    def from_symbols(symbols):
      return self._served(self.inputs(symbols))

    module.from_representation, module.from_symbols = from_representation, from_symbols
    with tempfile.TemporaryDirectory() as temporary:
      path = os.path.join(temporary, "classes.json")
      files.write_json(path, self._classes())
      module.classes = tf.saved_model.Asset(path)
      tf.saved_model.save(module, folder, {"serving_default": from_representation, "symbols": from_symbols})

  def copy(self, rounded=False):
    """A copy with its own network, under the current Keras policy.

    Args:
      rounded: whether the kernels become the float16 that `save` keeps, so that what is measured is what is kept.
    """
    info = {**self.info, **self._architecture(), **self._classes()}
    copy, weights = self._of(self._make(info), self.inputs, info), self.network.named_variables()
    for key, variable in copy.network.named_variables().items():
      value = weights[key].numpy()
      variable.assign(value.astype(np.float16).astype(np.float32) if rounded and key.endswith("kernel") else value)
    return copy
