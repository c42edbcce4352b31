"""A trained network as a SavedModel (TensorFlow Serving) or as a LiteRT file (phones), which answers from symbols."""

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import outputs
from deepcomp_tf import quiet
from deepcomp_tf import shipped
from deepcomp_tf import tasks
from deepcomp_tf.cli import common
from deepcomp_tf.tasks.litert import EXTENSION


def add_arguments(parser):
  """Adds the flags."""
  parser.add_argument("task", choices=tasks.names(), help="What it does with a file.")
  parser.add_argument("network", help="Its name, as the task's flag has it, or a folder that training wrote.")
  parser.add_argument("-o", "--output", required=True, help="Folder of the SavedModel, for Serving the number of a version in "
                      f"the model's folder, such as models/photos/1; or a {EXTENSION} file, beside which the classes are "
                      "written as .json.")
  parser.add_argument("--operating_point", default="", help="Folder of the network's operating point, where that is not where "
                      "it says.")
  common.add_overwrite(parser)
  common.add_json(parser)


def run(args):
  """Writes it. Returns the exit code."""
  task = tasks.find(args.task)
  litert = args.output.endswith(EXTENSION)
  shipped.find(task.KIND, args.network)
  common.check(args)
  outputs.check([args.output], args.overwrite)
  quiet.import_tensorflow()
  network = task.load(args.network, args.operating_point and dc.Codec.load(args.operating_point) or None)
  with quiet.standard_error_if_it_fails():  # TensorFlow tells how it goes
    if litert:
      network.export_litert(args.output, args.overwrite)
    else:
      network.export_saved_model(args.output)
  kind, size = ("LiteRT", files.size(args.output)) if litert else ("SavedModel", sum(map(files.size, files.walk(args.output))))
  if args.json:
    common.say_json(args.network, {"output": args.output, "format": kind, "bytes": size})
  else:
    common.say(f"{args.network} -> {args.output}: {kind}, {size} bytes")
  return 0
