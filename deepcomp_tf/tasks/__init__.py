"""What is done with a compressed file: it is classified, segmented, or made a vector, each in a file of this folder.

A new task is a file with a subclass of `base.Task` and a line here. The command then has a subcommand for it, the page of
`deepcomp serve` shows what it has to show, and `deepcomp_tf` has its class. No other code knows its name.
"""

import importlib

# By the name of the subcommand: module and class.
REGISTERED = {
    "classify": ("deepcomp_tf.tasks.classify", "Classifier"),
    "segment": ("deepcomp_tf.tasks.segment", "Segmenter"),
    "embed": ("deepcomp_tf.tasks.embed", "Embedder"),
}


def names():
  """Names of the tasks."""
  return list(REGISTERED)


def find(name):
  """The class of a task by its name, a `base.Task`. TensorFlow is not imported for it."""
  module, task = REGISTERED[name]
  return getattr(importlib.import_module(module), task)
