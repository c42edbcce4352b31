"""Programs, one per experiment of the paper."""

import sys

from deepcomp_tf import quiet
from deepcomp_tf.errors import DeepcompError

quiet.heed_interrupts()
quiet.import_tensorflow()
try:
  from deepcomp_tf import keras_version  # pylint: disable=unused-import
except DeepcompError as error:
  sys.exit(f"error: {error}")
