"""Trained compression networks that come with the package; `codec.operating_point` says how they are kept."""

import os
from typing import TYPE_CHECKING

from deepcomp_tf.codec import operating_point
from deepcomp_tf.codec.operating_point import names

if TYPE_CHECKING:
  from deepcomp_tf.models import CompressionModel

__all__ = ["load", "names"]


def load(name: str | os.PathLike) -> "CompressionModel":
  """The trained Keras model of an operating point, a `models.CompressionModel`.

  Its `encoder` and `decoder` can be used alone, and with `trainable = False` inside other models.

  Args:
    name: from `names()`, or a folder that training wrote; a DeepcompError says that there is no such operating point.
  """
  return operating_point.OperatingPoint.load(name).model
