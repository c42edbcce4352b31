"""What is done with compressed files by a trained network: `Task`, which the files beside this one fill in."""

import abc
import collections
import functools
import os
from typing import Optional, TypeVar

import numpy as np
from etils import epy

from deepcomp_tf import shipped
from deepcomp_tf import threads
from deepcomp_tf.bitstream import FileBytes
from deepcomp_tf.codec import container
from deepcomp_tf.codec.codec import Codec
from deepcomp_tf.errors import check_errors
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import failed
from deepcomp_tf.tasks import folder as folders
from deepcomp_tf.tasks import halving
from deepcomp_tf.tasks import quick

with epy.lazy_imports():  # the command tells its subcommands and their flags before TensorFlow is imported
  import tensorflow as tf
  from deepcomp_tf.layers import naming
  from deepcomp_tf.tasks import litert
  from deepcomp_tf.tasks import saved_model

# Pixels of the photos of equal size that go through a network together, at most.
BATCH_PIXELS = 1 << 21

T = TypeVar("T", bound="Task")


class Task(abc.ABC):
  """A trained network with its input, and what its answers mean. On disk it is a folder, see `tasks.folder`.

  Pickled, it is its name or folder with its codec, and is loaded again where it is unpickled.

  A subclass has
    KIND: what people call such a network, and its JSON file and the command's flag for its name: "classifier".
    from_json, to_json: how its folder's JSON tells the network and the meaning of its answers.
    run: from what files hold to answers; the method that users call, such as `classify`, is `answer` with a docstring.
    served: what a SavedModel of it gives,
  for the command HELP, WRITES, add_arguments, check_arguments, existing, report and finish,
  and for the page of `deepcomp serve`, if there is something to see, show.

  Args:
    network: see `models.protocol`; built here where it is not.
    inputs: the `NetworkInput` it was trained on.
    names: of the network's classes, list of str in the order of its logits; None where it has none.
    info: dict for people.

  Attributes:
    network, inputs: as given.
    info: dict of how it was trained and what it reached.
    codec: of the operating point; None for original pixels.
    operating_point: its name; None for original pixels.
    source: the name or the absolute path that it was loaded from; None where it was not.
  """

  KIND = source = None

  def __init__(self, network, inputs, names=None, info=None):
    if names is not None and network.num_classes != len(names):
      raise DeepcompError(f"expected a name for each of the {network.num_classes} classes. Received: {len(names)} names")
    if not network.built:
      naming.build(network, inputs.channels)
    self.network, self.inputs, self.names_in_order, self.info = network, inputs, names and list(names), dict(info or {})
    self.codec = inputs.codec
    self.operating_point = self.codec and self.codec.operating_point
    self._forward = network if isinstance(network, quick.Network) else tf.function(
        self.forward, input_signature=[tf.TensorSpec([None, None, None, inputs.channels], tf.float32)], jit_compile=False)

  @classmethod
  @abc.abstractmethod
  def from_json(cls, info, inputs, network=None):
    """The task that a folder's JSON describes, whose network has no weights yet, or is one that is given."""

  @abc.abstractmethod
  def to_json(self):
    """What `from_json` needs, as a dict: `blueprint` of the network and `labels`."""

  def labels(self):
    """What the answers mean, as a dict: the part of `to_json` that goes with a SavedModel."""
    return {"class_names": self.names_in_order}

  def forward(self, x):
    """What `run` takes the network for: float32 `[batch, h, w, channels]`, its input -> a tensor `[batch, ...]`, the logits
    unless a task says otherwise. `_forward` is the same as a graph, or as LiteRT has it."""
    return self.network(x, training=False)

  @abc.abstractmethod
  def run(self, stored, height, width):
    """A list of answers for photos of one size: uint8 `[batch, h, w, channels]` symbols or pixels, and their height and width."""

  @functools.cached_property
  def _halving(self):
    """What `tasks.halving` brings representations down by; None where it is not known for the operating point, or for pixels."""
    return halving.of_codec(self.codec) if self.inputs.kind == "representation" else None

  @property
  def trained_size(self):
    """Shorter side in pixels of the photos that the network was trained on; None where its folder does not say."""
    return self.info.get("trained_size", self.info.get("crop_size"))

  @property
  def temperature(self):
    """What logits are divided by before they become probabilities, as `experiments.evaluate_classification` found."""
    return self.info.get("temperature", 1.0)

  def halvings(self, height, width):
    """How often the representation of a photo of that size is halved by `brought_down`."""
    return halving.times(height, width, self.trained_size) if self.trained_size and self._halving else 0

  def brought_down(self, stored, height, width):
    """The network's input for photos of one size, brought down to the size that the network knows."""
    return self.seen(stored, height, width)[-1]

  def seen(self, stored, height, width):
    """What the network sees of photos of one size, a list of its inputs: the photos brought down; before these, where their
    size is between what is seen well as it is and halved, the photos before the last halving."""
    x = before = self.inputs(stored)
    for _ in range(self.halvings(height, width)):
      x, before = halving.halve(x, *self._halving), x
    return [before, x] if x is not before and halving.is_between(height, width, self.trained_size) else [x]

  def mean_answer(self, answer, stored, height, width):
    """The mean of what `answer`, a function of the network's input that gives an array, says of all that is `seen`."""
    return np.mean([np.asarray(answer(x)) for x in self.seen(stored, height, width)], axis=0)

  @abc.abstractmethod
  def served(self, representation):
    """Outputs of a SavedModel: float32 `[batch, h, w, C]`, centered and scaled -> dict of tensors `[batch, ...]`."""

  def served_by_litert(self, representation):
    """What `served` gives, by operations that LiteRT has."""
    return self.served(representation)

  def answer(self, data, errors="raise"):
    """The answer for a compressed file, or for several, of any sizes.

    Args:
      data: bytes of a file, a `Bitstream`, or a list of these.
      errors: of several, what becomes of a file that cannot be read: "raise" its DeepcompError, or "return" that in the place
        of its answer.

    Returns:
      the answer, or a list of them.

    Raises:
      BitstreamError: a file is damaged, or of another operating point.
      DeepcompError: what is given is not bytes, but a path for example.
    """
    return self._each(data, errors, self.run)

  def _each(self, data, errors, run):
    """What `run`, a function as `Task.run`, gives for a file, or for several; see `answer`."""
    check_errors(errors)
    if container.is_one(data):
      return self._each([data], "raise", run)[0]
    if self.codec is None:
      raise DeepcompError(f"this {self.KIND} takes original pixels, which a compressed file does not have")
    threads.check_fork()
    files = container.list_of(data)
    results, alike = [None] * len(files), collections.defaultdict(list)

    def fail(error, number):
      results[number] = failed(error, number, len(files), errors)

    for number, data in enumerate(files):
      try:
        files[number] = self.codec.open(data)
        alike[files[number].height, files[number].width].append(number)
      except DeepcompError as error:
        fail(error, number)
    batches = list(_batches(alike))
    read = lambda batch: self.read([files[number] for number in batch[1]], "return")
    # Of a long list only the next batches are in memory.
    stored = (threads.ordered_map(read, batches, threads.cores(), ahead=threads.cores()) if len(batches) > 1 else
              map(read, batches))
    for (size, numbers), arrays in zip(batches, stored):
      good = {}
      for number, array in zip(numbers, arrays):
        if isinstance(array, DeepcompError):
          fail(array, number)
        else:
          good[number] = array
      for number, result in zip(good, run(np.stack(list(good.values())), *size) if good else ()):
        results[number] = result
    return results

  def read(self, files, errors="raise"):
    """What the network sees of a list of files: list of uint8 `[h, w, channels]`, symbols or pixels; `errors` as of `answer`."""
    return (self.codec.symbols if self.inputs.kind == "representation" else self.codec.decompress)(files, errors)

  def describe(self) -> str:
    """A line that says what it gives, and on what it was trained."""
    note = self.info.get("trained", {}).get("data_note")
    return (self.to_json()["network"] + (f" at {self.operating_point}" if self.operating_point else "") + f" {self.summary()}"
            + (f" ({note})" if note else ""))

  def summary(self):
    """What it gives, for `describe`: the classes that it knows, unless a task says otherwise."""
    names = self.names_in_order
    return f"knows {len(names)} classes" + ("" if len(names) > 25 else f": {', '.join(names)}")

  # On disk.

  @classmethod
  def names(cls) -> list[str]:
    """Names of the shipped networks."""
    return shipped.names(cls.KIND)

  @classmethod
  def load(cls: type[T], name: str | os.PathLike, codec: Optional[Codec] = None) -> T:
    """A trained network.

    Args:
      name: one of `names()`, or a folder that training wrote.
      codec: the `Codec` of its operating point, where that is neither shipped nor found where the folder says.

    Raises:
      DeepcompError: there is none, it is damaged, or its operating point is not the one that it was trained on.
    """
    threads.check_fork()
    return folders.load(cls, name, codec)

  @classmethod
  def load_for(cls: type[T], data: FileBytes) -> T:
    """The shipped network that reads the operating point of a compressed file; of several, that with the most classes.

    A file without a readable header is a BitstreamError, an operating point that none is shipped for a DeepcompError.
    """
    return cls.load(cls.find_for(data))

  @classmethod
  def find_for(cls, data: FileBytes) -> str:
    """The name of what `load_for` loads, found without TensorFlow; errors are the same."""
    return folders.shipped_for(cls.KIND, container.read_header(data).fingerprint.hex())

  def __reduce__(self):
    if self.source is None:
      raise DeepcompError(f"expected a {self.KIND} that was loaded by its name or folder, which is what is pickled. "
                          "Received: one that is not saved")
    return type(self).load, (self.source, self.codec)

  def save(self, folder: str | os.PathLike, operating_point: Optional[str] = None) -> None:
    """Writes the folder, which is made where it is missing.

    `operating_point` is the name or folder of what `load` shall open, where that is not what its codec was loaded from.
    """
    folders.save(self, folder, operating_point)

  def export_saved_model(self, folder: str | os.PathLike) -> None:
    """Writes a SavedModel, as TensorFlow Serving loads it, of a network of the representation; see `tasks.saved_model`.

    For Serving the folder is the number of a version in the model's folder, such as `models/photos/1`.
    """
    saved_model.export(self, folder)

  def export_litert(self, path: str | os.PathLike, overwrite: bool = False) -> None:
    """Writes a LiteRT (TensorFlow Lite) file, .tflite, of a network of the representation; see `tasks.litert`."""
    litert.export(self, path, overwrite)

  def copy(self: T, rounded: bool = False) -> T:
    """A copy with a network of the same weights, under the current Keras policy.

    With `rounded` the kernels become the float16 that `save` keeps, so that what is measured is what is kept.
    """
    copy, weights = self.from_json({**self.info, **self.to_json()}, self.inputs), self.network.named_variables()
    for key, variable in copy.network.named_variables().items():
      value = weights[key].numpy()
      variable.assign(value.astype(np.float16).astype(np.float32) if rounded and key.endswith("kernel") else value)
    return copy

  # In the command: `deepcomp NAME [FLAGS] FILE ...`.

  HELP = ""  # what the subcommand does
  WRITES = False  # whether `report` writes files, for which `add_arguments` adds flags; else answers are lines

  @classmethod
  def add_arguments(cls, parser):
    """Adds the subcommand's flags to its parser, beside those that all have."""

  @classmethod
  def check_arguments(cls, args):
    """Raises a DeepcompError for flags that cannot be, before anything is loaded.

    `args.files` are all files by then, and `args.folders` says in which folder a file was found, as of `outputs.places`.
    """

  @classmethod
  def decodes(cls, args):
    """Whether `report` decodes photos, by the task's codec."""
    return False

  @classmethod
  def existing(cls, args, file):
    """For --resume: a dict for `--json` where a file's answer was there before, else None."""

  @abc.abstractmethod
  def report(self, args, file, data, answer):
    """Writes what a file's answer leaves on disk, and says what it is.

    Args:
      args: values of the flags. What `finish` needs can be kept there.
      file, data: its path and its bytes.
      answer: of `run`.

    Returns:
      the line that is printed, and a dict for `--json`.
    """

  @classmethod
  def finish(cls, args):
    """Called once, behind the last file."""

  # On the page of `deepcomp serve`, which asks only tasks that have this method for answers.

  def show(self, answer, picture):
    """What the page shows of an answer of `run` and the decoded photo, uint8 `[H, W, 3]`.

    Returns:
      dict with any of entries: list of str; text: str; picture: uint8 `[H, W, 3]`, and alt: str, which says what is on it; legend
      of the picture: list of dicts with text: str and, where there is one, color: (red, green, blue); about: str, on the network.
    """

  @classmethod
  def shows(cls):
    """Whether there is something to see of its answers."""
    return cls.show is not Task.show


def _batches(alike):
  """(size, numbers) of photos that go through a network together, as many as have `BATCH_PIXELS`, of dict size -> numbers."""
  for size, numbers in alike.items():
    count = max(1, BATCH_PIXELS // (size[0] * size[1]))
    for begin in range(0, len(numbers), count):
      yield size, numbers[begin:begin + count]
