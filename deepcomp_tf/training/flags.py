"""The flags that programs share, flags that are lists of numbers, and where flagfiles are found."""

import math
import os
import re
import sys

from absl import app
from absl import flags
import tensorflow as tf

from deepcomp_tf import quiet
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.codec.codec import READERS
from deepcomp_tf.codec.inputs import PIXEL_MEANS
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.errors import one_line
from deepcomp_tf.files import one_line_of
from deepcomp_tf.training import distribution
from deepcomp_tf.training import optimizers


_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The folder of flags/, which comes with the programs: in the package where that is installed, beside it in a checkout.
_FOLDER = _PACKAGE if os.path.isdir(os.path.join(_PACKAGE, "flags")) else os.path.dirname(_PACKAGE)


def define_flags():
  """The flags that every training program has."""
  flags.DEFINE_string("run_dir", None, "Folder for checkpoints, curves and the trained result; with several workers "
                      "one that all of them share. A run that is already there is continued.", required=True)
  flags.DEFINE_integer("batch_size", None, "Global batch size.", required=True, lower_bound=1)
  flags.DEFINE_integer("seed", 0, "Seed of the initial weights and of the order of the data.")
  flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", lower_bound=1)
  flags.DEFINE_integer("summary_every", 100, "Steps between points of the curves.", lower_bound=1)
  flags.DEFINE_enum("strategy", "default", distribution.STRATEGIES, "tf.distribute strategy: one device, all GPUs of this "
                    "machine, or the machines that TF_CONFIG names.")
  flags.DEFINE_enum("precision", "float32", distribution.PRECISIONS, "Keras policy of the networks in training; weights stay "
                    "in float32. mixed_float16 pays on recent GPUs, mixed_bfloat16 also on CPUs with AVX512_BF16; "
                    "others emulate it, some 30 times as slowly.")
  flags.DEFINE_bool("export_now", False, "Write the result of the last checkpoint and stop. Without the flag the same command "
                    "goes on from there.")


def define_batch_norm_flag():
  """The flag of the programs whose networks have batch normalization that trains."""
  flags.DEFINE_bool("synchronized_batch_norm", False, "Batch normalization takes the statistics of the global batch; by "
                    "default each replica takes those of its part.")


def define_momentum_flags():
  """--momentum and --momentum_of, of SGD."""
  flags.DEFINE_float("momentum", 0.9, "Of SGD.", lower_bound=0.0, upper_bound=1.0)
  flags.DEFINE_enum("momentum_of", "steps", list(optimizers.MOMENTA), "What momentum sums: steps, as Keras' SGD does, or "
                    "gradients, as TensorFlow's did that the paper used, so that a drop of the learning rate holds for what is "
                    "summed, too.")


def define_pixel_mean_flag(default):
  """--pixel_mean, by which a network's pixels are centered."""
  flags.DEFINE_enum("pixel_mean", default, list(PIXEL_MEANS), "What pixels are centered by: the mean over ImageNet, TF-Slim's "
                    "rounding of it, or DeepLab's mean over VOC. The representation has its own mean.")


def define_start_share_flag():
  """--start_share, of the weights that a training started from in those that it ends with."""
  flags.DEFINE_float("start_share", 0.0, "Share of the weights of --start in those that are kept at the end. So a network that "
                     "is trained on for something new, other sizes or the files of a new encoder, forgets less of what it knew "
                     "(Wortsman et al., CVPR 2022, https://arxiv.org/abs/2109.01903).", lower_bound=0.0, upper_bound=1.0)


def define_cache_flags(caches, default="none"):
  """How examples are kept: one of `caches`, and where."""
  meanings = {"none": "read the splits in every epoch (none)", "encoded": "keep their files in memory (encoded)",
              "decoded": "write what the network sees of them, pixels or symbols, to --cache_dir once, "
                         "for all later runs too (decoded)"}
  flags.DEFINE_enum("cache", default, caches, f"What becomes of the examples: {', '.join(meanings[cache] for cache in caches)}.")
  flags.DEFINE_string("cache_dir", None, "Folder on a local disk for --cache=decoded; empty: deepcomp_tf in the user's cache "
                      "folder.")


def define_search_flags():
  """--effort and --for: whether symbols are searched for each photo, and for whom."""
  flags.DEFINE_integer("effort", 0, "Above 0, symbols are searched for each photo, the longer the higher: smaller files and "
                       "better pictures.", lower_bound=0, upper_bound=MAX_EFFORT)
  flags.DEFINE_enum("for", "people", READERS, "Whom --effort searches for: people, who look at the picture, networks, which are "
                    "to answer as on the photo itself, or both.")


def define_beam_flags():
  """The flags of the programs whose work Apache Beam can do."""
  flags.DEFINE_string("beam_runner", None, "Apache Beam runner, DirectRunner for example; by default no Beam.")
  flags.DEFINE_list("beam_options", [], "Options of the Beam pipeline, without the dashes: key=value,...")


def beam_options():
  """The `PipelineOptions` of --beam_options."""
  from apache_beam.options.pipeline_options import PipelineOptions  # an extra of the package
  return PipelineOptions([f"--{option}" for option in flags.FLAGS.beam_options])


def main(program):
  """Runs a program's main function; bad input, and what cannot be read or written, ends it with one line instead of a traceback,
  Ctrl-C as `quiet.run` says. AutoGraph, which nothing in them needs, converts nothing: a training begins seconds sooner.
  """
  def guarded(argv):
    message = None
    try:
      tf.autograph.experimental.do_not_convert(program)(argv)
    except (DeepcompError, OSError) as error:
      message = f"error: {one_line_of(error)}"
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
      message = f"error: expected files and folders that can be read and written. Received: {one_line(error)}"
    except tf.errors.OpError as error:
      # What went wrong while a data set was read comes wrapped by TensorFlow, and so does a Ctrl-C.
      if "KeyboardInterrupt" in str(error):
        raise KeyboardInterrupt from None
      found = re.search(r"(?:DeepcompError|BitstreamError|UnreadableError): (.*)", str(error))
      if not found:
        raise
      message = f"error: {found[1]}"
    if message:  # outside of `except`, which would keep the program's tensors alive until the interpreter is gone
      sys.exit(message)
  quiet.run(lambda: app.run(guarded, flags_parser=_parse))


def with_flagfiles(arguments, within=()):
  """Command-line arguments with what their flagfiles hold in place of --flagfile, as absl reads them.

  A flagfile is looked for from the current folder and then, as flags/TASK/NAME.flags, among those that come with the programs;
  so are those that it names itself.

  Raises:
    DeepcompError: a flagfile is missing, or names itself.
  """
  arguments, found = iter(arguments), []
  for argument in arguments:
    option, given, name = argument.partition("=")
    if option not in ("--flagfile", "-flagfile"):
      found.append(argument)
      continue
    name = name if given else next(arguments, "")
    places = [os.path.abspath(os.path.join(folder, os.path.expanduser(name))) for folder in ("", _FOLDER)]
    path = next(filter(os.path.isfile, places), None)
    if path is None or path in within:
      looked_for = " that does not name itself" if path else f", {' or '.join(dict.fromkeys(places))}"
      raise DeepcompError(f"expected a flagfile{looked_for}. Received: --flagfile={name}")
    with open(path, encoding="utf-8") as file:
      lines = [line.strip() for line in file]
    found += with_flagfiles([line for line in lines if line and not line.startswith(("#", "//"))], (*within, path))
  return found


def _parse(arguments):
  try:
    return app.parse_flags_with_usage(with_flagfiles(arguments))
  except DeepcompError as error:
    sys.exit(f"error: {error}")


def settings(*own_flags, leave_out):
  """What defines a run: dict of the program's flags and their values, without those that may change when it is continued.

  Flags are found by the names of any flag of the program, and of other modules that define some for it.
  """
  values = flags.FLAGS
  modules = {values.find_module_defining_flag(name) for name in (*own_flags, "run_dir")}
  operational = ("run_dir", "checkpoint_every", "summary_every", "strategy", "export_now", *leave_out)
  return {flag.name: flag.value for module in modules for flag in values.get_flags_for_module(module)
          if flag.name not in operational}


def numbers(name, kind=int, counts=None):
  """The numbers, none below 0, of a flag that is a list: of int or float, and as many as `counts` allows, if it is given."""
  texts = flags.FLAGS[name].value
  try:
    values = [kind(text) for text in texts]
  except ValueError:
    values = [-1]
  if any(value < 0 or not math.isfinite(value) for value in values) or counts is not None and len(values) not in counts:
    expected = f"{' or '.join(map(str, counts))} numbers" if counts else "numbers"
    raise DeepcompError(f"--{name} must be {expected}, none below 0. Received: {','.join(texts)}")
  return values


def rising(name):
  """The rising integers, from 1 or more, of a flag that is a list."""
  values = numbers(name)
  if sorted({0, *values}) != [0, *values]:
    raise DeepcompError(f"--{name} must rise, from 1 or more. Received: {','.join(flags.FLAGS[name].value)}")
  return values


def chosen_classes(name, classes):
  """Those of the classes, a list of `mask_classes.MaskClass`, whose mask ids a flag lists, in its order."""
  values, by_id = numbers(name), {known.id: known for known in classes}
  if not by_id.keys() >= set(values) or len(set(values)) < len(values):
    known = ", ".join(f"{number} {known.name}" for number, known in by_id.items())
    raise DeepcompError(f"--{name} must be different ids of {known}. Received: {','.join(flags.FLAGS[name].value)}")
  return [by_id[value] for value in values]
