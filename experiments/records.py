"""Reading what `experiments.reproduce` records: the runs of the paper's tables and figures."""

import glob
import math
import os
import statistics

from absl import flags

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.codec import operating_point
from deepcomp_tf.evaluation import rate_distortion
from . import paper

FLAGS = flags.FLAGS
flags.DEFINE_string("results_dir", "docs/results/runs", "Folder of the records, a JSON file for each run.")

# Beginnings of names: of the records that rest on the shipped operating points, at small scale, or on those that were trained for
# them, and of those that rest on operating points in the paper's setting at small scale.
SHIPPED, PAPER = "", "paper_"

# The stages of section 6.1: name, beginnings of the records of the coder, the classifier and the segmenter, with {} for
# the operating point. Rows of Table 2 are what is fixed where all rests on the same networks.
_STAGES = (("fixed", "{}", "fixed_{}", "fixed_{}_segmentation"),
           ("fixed", "first_{}", "classification_cresnet51_{}", "segmentation_cresnet51_{}"),
           ("fixed", "{}", "classification_cresnet51_{}", "segmentation_cresnet51_{}"),
           ("fixed", "setting_{}", "classification_cresnet51_{}", "segmentation_cresnet51_{}"),
           ("compression only", "control_{}", "control_{}_classification_longer", "control_{}_segmentation"),
           ("joint", "joint_{}", "joint_{}", "joint_{}_segmentation"))


def paths(pattern):
  return files.glob(os.path.join(glob.escape(FLAGS.results_dir), pattern))


def point_of(name):
  """The operating point that the records rest on: a folder, where it was trained for them, or a shipped name."""
  folder = os.path.join(FLAGS.results_dir, "operating_points", name)
  return folder if files.isdir(folder) else name


def seeds_of(name):
  """Paths of the records under a name, one for each seed."""
  return paths(f"{name}.json") + paths(f"{name}_seed*.json")


def by_network(task):
  """{(operating point or None, network): its records, one for each seed}, in the order of the paper's Table 2."""
  found = {}
  for path in paths(f"{task}_*.json"):
    record = read_run(path)
    found.setdefault((record["operating_point"], record["settings"]["network"]), []).append(record)
  return {key: found[key] for key in paper.TABLE_2 if key in found}


def read_run(path):
  """The record of a training run that has ended, on the operating point as it is now."""
  try:
    record = files.read_json(path)
    settings, reached = record["settings"], record["history"][-1]
    unit, total = ("epoch", "epochs") if "epochs" in settings else ("step", "steps")
    missing = {"operating_point", "multiply_adds", "seconds"} - set(record) | {"network"} - set(settings)
    if reached[unit] != settings[total] or missing:
      raise ValueError(f"{unit} {reached[unit]} of {settings[total]}, without {', '.join(sorted(missing)) or 'the rest'}")
    point = record["operating_point"]
    if record["fingerprint"] not in _fingerprints(point, os.path.basename(path)):
      raise ValueError(f"on {point} as it was before; experiments.reproduce runs it again")
    return record
  except (ValueError, KeyError, IndexError, TypeError) as error:
    raise dc.DeepcompError(f"expected a whole record of a run. Received: {path} ({error})") from None


def _fingerprints(point, name):
  """Of the operating point as it is now that a record rests on."""
  if not point:
    return [None]
  if name.startswith(PAPER):  # these are kept nowhere
    return [files.read_json(path)["fingerprint"] for path in paths(f"{PAPER}setting_{point}_rate_distortion.json")]
  return [operating_point.fingerprint(point_of(point)).hex()]


def read_runs(name):
  """The records of a run, one for each seed."""
  return [read_run(path) for path in seeds_of(name)]


def rates_and_distortions(name):
  """Means over the test photos, as `rate_distortion.means` gives them, of what was recorded under a name, seed after seed,
  with the name of the photos."""
  found = []
  for path in seeds_of(f"{name}_rate_distortion"):
    text = files.read(path.removesuffix(".json") + ".csv").decode()
    rows = rate_distortion.means(rate_distortion.from_csv(text))
    found += [{**row, "photos": files.read_json(path)["photos"]} for row in rows]
  return found


def with_first_decoder(point):
  """As `rates_and_distortions`, with the decoder that was trained together with the encoder, whose figures first_POINT keeps
  where a newer decoder is shipped."""
  return rates_and_distortions(f"first_{point}") or rates_and_distortions(point)


def paper_setting(point):
  """(name of the training, means over the test photos) of a shipped operating point, with its first decoder, and of the paper's
  setting, as far as they are recorded."""
  for name, rows in ((f"the paper's setting{_steps_if_stopped_early(point)}", rates_and_distortions(f"paper_setting_{point}")),
                     ("shipped", with_first_decoder(point))):
    for row in rows:
      if row["codec"] == rate_distortion.OURS:
        yield name, row


def _steps_if_stopped_early(point):
  """", 5,000 of 6,000 steps" where training in the paper's setting was exported before its end (`--export_now`), or nothing."""
  for path in paths(f"paper_setting_{point}.json"):
    trained = files.read_json(path)["operating_point_info"]["trained"]
    if trained["steps"] < trained["settings"]["steps"]:
      return f", {trained['steps']:,} of {trained['settings']['steps']:,} steps"
  return ""


def read_stages(point, prefix=SHIPPED):
  """{stage of section 6.1: ({codec: means of the test photos by seed}, {task: records by seed})}, as far as they are recorded."""
  stages = {}
  for stage, *names in _STAGES:
    coder, classifier, segmenter = (prefix + name.format(point) for name in names)
    measured, runs = {}, read_runs(classifier)
    for row in rates_and_distortions(coder):
      if not row["setting"]:
        measured.setdefault(row["codec"], []).append(row)
    if stage not in stages and measured and runs:
      stages[stage] = measured, {"classification": runs, "segmentation": read_runs(segmenter)}
  return stages


def mean_of(measured, key, codec=rate_distortion.OURS, seeds=None):
  """Mean over the seeds, or the first of them, of what `read_stages` says was measured on the test photos."""
  return statistics.mean(row[key] for row in measured[codec][:seeds])


def rate_of(point, prefix=SHIPPED):
  """The key of an operating point's rate: that of the paper's measure, where it was trained for this, or that of the files."""
  if prefix == PAPER:
    return "bits_per_pixel_pooled"
  info = operating_point.read_info(point_of(point))
  pooled = info.get("trained", {}).get("settings", {}).get("entropy") == "pooled"
  return "bits_per_pixel_pooled" if pooled else "bits_per_pixel"


def joint_at_the_controls_rate(stages, point, prefix=SHIPPED):
  """What joint training reaches at the rate of its control (appendix A.7): dict of the rate, psnr, ssim and ms_ssim, means over
  the test photos and seeds; None where that cannot be told.

  Their rates differ by a few percent. Joint training's figures are moved by what the operating points themselves gain from
  this rate to the other, along the straight line over the rate's logarithm from this one to the middle or, of it, the lowest.
  """
  of = [row for name in (point, "bpp0.330") for row in rates_and_distortions(f"{prefix}setting_{name}" if prefix else name)
        if row["codec"] == rate_distortion.OURS and not row["setting"]]
  if not {"joint", "compression only"} <= stages.keys() or len(of) < 2:
    return None
  rate, (here, there) = rate_of(point, prefix), of
  joint, control = (stages[stage][0] for stage in ("joint", "compression only"))
  share = math.log(mean_of(control, rate) / mean_of(joint, rate)) / math.log(there[rate] / here[rate])
  return {rate: mean_of(control, rate),
          **{key: mean_of(joint, key) + share * (there[key] - here[key]) for key in ("psnr", "ssim", "ms_ssim")}}


def mean_and_values(records, name):
  """Mean of a figure at the end of the runs, and its values, in percent."""
  values = [100 * record["history"][-1][name] for record in records]
  return statistics.mean(values), values


def standard_error(records, name):
  """Of a figure, in points, as the number of validation images makes it, the seeds' runs taken as independent."""
  last = records[0]["history"][-1]
  if f"{name}_error" in last:
    error = mean_and_values(records, f"{name}_error")[0]
  else:  # of a share of the images
    share = mean_and_values(records, name)[0] / 100
    error = 100 * (share * (1 - share) / last["examples"]) ** 0.5
  return error / len(records) ** 0.5


def mask_measures(rows):
  """{name: label} of the measures of masks in records of segmentation, lists by any key: over the classes that the set covers
  well, where it was recorded for these, and over all classes of the set."""
  record = next((of[0] for of in rows.values() if of), None)
  counts = {"well_covered_mean_iou": record and record.get("well_covered"),
            "mean_iou": len(record["history"][-1].get("iou", ())) if record else 0}
  return {name: f"mIoU of {count} classes [%]" for name, count in counts.items() if count}
