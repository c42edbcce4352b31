"""Image understanding from deep compression without decoding (Torfason et al., ICLR 2018), for TensorFlow 2.

What is named here is imported when it is first used, so that what needs no network, such as `Codec.symbols`, does not
wait for TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

from deepcomp_tf import tasks
from deepcomp_tf.errors import BitstreamError
from deepcomp_tf.errors import DeepcompError

if TYPE_CHECKING:  # type checkers do not call __getattr__
  from deepcomp_tf import evaluation
  from deepcomp_tf import layers
  from deepcomp_tf import models
  from deepcomp_tf import operating_points
  from deepcomp_tf.bitstream import Bitstream
  from deepcomp_tf.codec.codec import Codec
  from deepcomp_tf.library import Library
  from deepcomp_tf.tasks.classify import Classifier
  from deepcomp_tf.tasks.embed import Embedder
  from deepcomp_tf.tasks.segment import Segmenter

__version__ = "0.2.0"

_MODULES = ("evaluation", "layers", "models", "operating_points")
_CLASSES = {
    "Bitstream": "deepcomp_tf.bitstream",
    "Codec": "deepcomp_tf.codec.codec",
    "Library": "deepcomp_tf.library",
    **{task: module for module, task in tasks.REGISTERED.values()},
}
__all__ = ["BitstreamError", "DeepcompError", *_CLASSES, *_MODULES]


def __getattr__(name):
  if name in _MODULES:
    return importlib.import_module(f"deepcomp_tf.{name}")
  if name in _CLASSES:
    return getattr(importlib.import_module(_CLASSES[name]), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
  return sorted({*globals(), *__all__})
