"""Writes the tables and figures of the paper from the recorded runs, ours beside the paper's (Tables 1 to 3, Figures 1 and
3 to 12, section 4.5's storage).

  python -m experiments.make_figures

Reads the records that `experiments.reproduce` and `experiments.benchmark_inference` left in --results_dir, the shipped
operating points and sample photos, and nothing else; what is not recorded yet is left out. Writes PNG files to
--output_dir, and the tables into --page, between the lines <!-- NAME --> and <!-- end of NAME -->.
"""

import glob
import json
import os
import re
import statistics

from absl import flags
import matplotlib.figure
import numpy as np
from PIL import Image

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.images import write_file
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.training import loop
from experiments import model_complexity
from experiments import paper

FLAGS = flags.FLAGS
flags.DEFINE_string("results_dir", "docs/results/runs", "Folder of the records.")
flags.DEFINE_string("output_dir", "docs/results", "Folder for the pictures.")
flags.DEFINE_string("page", "docs/results.md", "Markdown page for the tables.")

_STYLES = {"ResNet-50": ("o", "-", "#c0392b"), "cResNet-51": ("s", "--", "#2980b9"), "cResNet-39": ("^", ":", "#27ae60"),
           "ResNet-71": ("o", "-", "#c0392b"), "cResNet-72": ("s", "--", "#2980b9")}

# The stages of section 6.1: name, beginnings of the records of the coder, the classifier and the segmenter, which {} makes
# those of an operating point.
_STAGES = (("fixed", "{}", "classification_cresnet51_{}", "segmentation_cresnet51_{}"),
           ("compression only", "control_{}", "control_{}_classification_longer", "control_{}_segmentation"),
           ("joint", "joint_{}", "joint_{}", "joint_{}_segmentation"))
_STAGE_STYLES = {"fixed": ("o", "#7f8c8d"), "compression only": ("^", "#2980b9"), "joint": ("s", "#c0392b")}


def main(argv):
  del argv
  rows, masks = records("classification"), records("segmentation")
  if not rows:
    raise dc.DeepcompError(f"expected records of experiments.reproduce. Received: --results_dir={FLAGS.results_dir}, "
                           "where there are none")
  fill(FLAGS.page, "tables 1 and 3", tables_1_and_3())
  fill(FLAGS.page, "table 2", table_2(rows, masks))
  if record_paths("storage_*.json"):
    fill(FLAGS.page, "storage", storage_table())
  codecs = [dc.Codec.load(point) for point in reversed(dc.operating_points.names())]
  photo = samples.photos()["chelsea"]
  drawn = {"figure_1": figure_1(codecs[1], photo), "figure_3": figure_3(rows), "figure_6": figure_6(rows),
           "figure_9": figures.representation_figure(codecs, photo)}
  if masks:
    drawn["figure_4"] = figure_4(masks)
    drawn.update((f"figure_{number}", figure) for number, name in ((5, "chelsea"), (10, "astronaut"))
                 if (figure := figure_5(codecs, name)))
  measured = [row for codec in codecs for row in rates_and_distortions(codec.operating_point)]
  if measured:
    fill(FLAGS.page, "rate and distortion", rate_distortion_table(measured))
    drawn["figure_8"] = figures.rate_distortion_figure(measured, f"{measured[0]['images']} photos")
  finetuned = {point: stages for point in ("bpp0.635", "bpp0.0983") if len(stages := list(read_stages(point))) > 1}
  if finetuned:
    fill(FLAGS.page, "joint training", joint_table(finetuned))
    drawn.update(figure_7=figure_7(finetuned), figure_11=figure_11(finetuned))
  runtimes = [read_json(path) for path in record_paths("runtime_*.json")]
  if runtimes:
    drawn["figure_12"] = figure_12(runtimes)
  os.makedirs(FLAGS.output_dir, exist_ok=True)
  for name, figure in drawn.items():
    content = figure if isinstance(figure, bytes) else figures.png(figure)
    write_file(os.path.join(FLAGS.output_dir, f"{name}.png"), content, overwrite=True)
  print(f"Written to {FLAGS.page} and {FLAGS.output_dir}: {', '.join(sorted(drawn))}")


def record_paths(pattern):
  return sorted(glob.glob(os.path.join(glob.escape(FLAGS.results_dir), pattern)))


def read_json(path):
  with open(path) as file:
    return json.load(file)


def records(task):
  """{(operating point or None, network): its records, one a seed}, in the order of the paper's Table 2."""
  found = {}
  for path in record_paths(f"{task}_*.json"):
    record = read_run(path)
    found.setdefault((record["operating_point"], record["settings"]["network"]), []).append(record)
  return {key: found[key] for key in paper.TABLE_2 if key in found}


def read_run(path):
  """The record of a training run that has ended."""
  try:
    record = read_json(path)
    settings, reached = record["settings"], record["history"][-1]
    unit, total = ("epoch", "epochs") if "epochs" in settings else ("step", "steps")
    if reached[unit] != settings[total] or not {"operating_point", "multiply_adds", "seconds"} <= set(record):
      raise ValueError(f"{unit} {reached[unit]} of {settings[total]}, {', '.join(record)}")
    return record if "network" in settings else {}[f"settings of a network in {', '.join(settings)}"]
  except (ValueError, KeyError, IndexError, TypeError) as error:
    raise dc.DeepcompError(f"expected a whole record of a run. Received: {path} ({error})") from None


def read_runs(name):
  """The records of a run, one a seed."""
  return [read_run(path) for path in record_paths(f"{name}.json") + record_paths(f"{name}_seed*.json")]


def rates_and_distortions(name):
  """Means over the test photos, as `rate_distortion.means` gives them, of what was recorded under a name."""
  path = os.path.join(FLAGS.results_dir, f"{name}_rate_distortion.csv")
  if not os.path.exists(path):
    return []
  with open(path) as file:
    return rate_distortion.means(rate_distortion.from_csv(file.read()))


def read_stages(point):
  """(stage of section 6.1, means of the test photos by codec, {task: records}) of those that are recorded."""
  for stage, *names in _STAGES:
    coder, classifier, segmenter = (name.format(point) for name in names)
    measured = {row["codec"]: row for row in rates_and_distortions(coder)}
    runs = read_runs(classifier)
    if measured and runs:
      yield stage, measured, {"classification": runs, "segmentation": read_runs(segmenter)}


def mean_and_values(records, name):
  """Mean of a figure at the end of the runs, and its values, in percent."""
  values = [100 * record["history"][-1][name] for record in records]
  return statistics.mean(values), values


def tables_1_and_3():
  """Markdown lines of Tables 1 and 3: the networks, and their multiply-adds."""
  lines = ["| network | root | conv2_x | conv3_x | conv4_x | conv5_x | G multiply-adds ours | paper |", "|---" * 8 + "|"]
  for name, root, units, ours, theirs in model_complexity.rows():
    lines.append(f"| {' | '.join([name, root, *units, f'{ours / 1e9:.3f}', theirs])} |")
  return lines


def storage_table():
  """Markdown lines on what the classification set takes (section 4.5)."""
  lines = ["| operating point | files, MB | share of the JPEG files | symbols in memory, MB | ImageNet in the paper |",
           "|---" * 5 + "|"]
  for path in record_paths("storage_*.json"):
    record = read_json(path)
    theirs = paper.STORAGE_GB.get(record["operating_point"])
    lines.append(
        f"| {record['operating_point']} | {record['bitstream_bytes'] / 1e6:.2f} | 1/"
        f"{record['source_bytes'] / record['bitstream_bytes']:.1f} of {record['source_bytes'] / 1e6:.1f} MB | "
        f"{record['symbol_bytes'] / 1e6:.1f} | {f'{theirs} of {paper.STORAGE_GB[None]} GB' if theirs else '-'} |")
  return lines


def table_2(rows, masks):
  """Markdown lines of Table 2: what the paper reports, and what we measured."""
  lines = ["| bits/pixel | network | top-1 ours | top-1 paper | top-5 ours | top-5 paper | mIoU of 7 ours | of 21 ours | of 21 "
           "paper | G multiply-adds ours | minutes |", "|---" * 11 + "|"]
  for key in paper.TABLE_2:
    if key not in rows:
      continue
    point, network = key
    cells = [point[3:] if point else "original", network]
    top_5, top_1, mean_iou = paper.TABLE_2[key]
    for name, theirs in (("top_1", top_1), ("top_5", top_5)):
      cells += [spread(rows[key], name), f"{theirs:.1f}"]
    cells += [spread(masks.get(key), name) for name in ("well_covered_mean_iou", "mean_iou")]
    times = [statistics.mean(record["seconds"] for record in of[key]) for of in (rows, masks) if key in of]
    cells += [f"{mean_iou:.1f}", f"{rows[key][0]['multiply_adds'] / 1e9:.3f}",
              " + ".join(f"{seconds / 60:.0f}" for seconds in times)]
    lines.append(f"| {' | '.join(cells)} |")
  return lines


def rate_distortion_table(measured):
  """Markdown lines of the means over the test photos, a line an operating point and codec."""
  lines = ["| operating point | codec | bits/pixel | PSNR | SSIM | MS-SSIM |", "|---" * 6 + "|"]
  for row in measured:
    name = rate_distortion.label(row["codec"])
    lines.append(f"| {row['operating_point']} | {f'**{name}**' if row['codec'] == rate_distortion.OURS else name} | "
                 f"{row['bits_per_pixel']:.4f} | {row['psnr']:.2f} | {row['ssim']:.4f} | {row['ms_ssim']:.4f} |")
  return lines


def joint_table(finetuned):
  """Markdown lines of section 6: what training on reaches, a line an operating point and stage."""
  lines = ["| operating point | trained on | bits/pixel | PSNR | SSIM | MS-SSIM | top-1 | top-5 | mIoU of 7 | of 21 |",
           "|---" * 10 + "|"]
  for point, stages in finetuned.items():
    for stage, measured, runs in stages:
      row = measured[rate_distortion.OURS]
      cells = [point, stage, *(f"{row[key]:.{digits}f}" for key, digits in (
          ("bits_per_pixel", 4), ("psnr", 2), ("ssim", 4), ("ms_ssim", 4)))]
      cells += [spread(runs["classification"], name) for name in ("top_1", "top_5")]
      cells += [spread(runs["segmentation"], name) for name in ("well_covered_mean_iou", "mean_iou")]
      lines.append(f"| {' | '.join(cells)} |")
  return lines


def spread(records, name):
  """Mean of a figure in percent and, of several seeds, its values."""
  if not records:
    return ""
  mean, values = mean_and_values(records, name)
  return f"{mean:.1f}" + (f" ({', '.join(f'{value:.1f}' for value in values)})" if len(values) > 1 else "")


def figure_1(codec, photo):
  """A photo, its representation, on which the networks work, and what the decoder makes of it (Figure 1)."""
  height, width = photo.shape[:2]
  data = codec.compress(photo)
  symbols = codec.symbols(data)
  columns = 4
  tiles = [np.pad(symbols[..., c].astype(float), 1, constant_values=np.nan) for c in range(codec.channels)]
  mosaic = np.block([tiles[i:i + columns] for i in range(0, len(tiles), columns)])
  figure = matplotlib.figure.Figure(figsize=(13, 4.6 * height / width), layout="constrained")
  for axis, (picture, title) in zip(figure.subplots(1, 3), (
      (photo, f"photo, {width}x{height} pixels"),
      (mosaic, f"its representation in {len(data)} bytes: {codec.channels} channels of {symbols.shape[1]}x{symbols.shape[0]}"),
      (codec.decompress(data), "decoded, for people only"))):
    axis.imshow(picture, cmap="gray", interpolation="nearest")
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
  return figure


def figure_3(rows):
  """Accuracy on the validation split over the epochs, a column an operating point (Figure 3, with top-1 added)."""
  return curves(rows, "epoch", (("top_1", "top-1 accuracy [%]"), ("top_5", "top-5 accuracy [%]")))


def figure_4(rows):
  """Mean IoU on the validation split over the steps, a column an operating point (Figure 4)."""
  return curves(rows, "step", (("well_covered_mean_iou", "mIoU of 7 classes [%]"), ("mean_iou", "mIoU of 21 classes [%]")))


def figure_5(codecs, name):
  """PNG bytes: a sample photo decoded at each operating point, and masks of it from decoded pixels and from the
  representation (Figures 5 and 10); None where they are not recorded."""

  def mask(row):
    with Image.open(os.path.join(FLAGS.results_dir, f"segmentation_{row}_{name}.png")) as image:
      return np.asarray(image)

  try:
    of_pixels = mask("resnet50_original")
    photo = samples.photos(max(of_pixels.shape))[name]
    columns = [[("photo", photo), ("ResNet-50-d on its pixels", of_pixels)]]
    for codec in codecs:
      point = codec.operating_point
      decoded = codec.decompress(codec.compress(photo))
      columns.append([(f"decoded, {point[3:]} bits per pixel", decoded),
                      ("ResNet-50-d on decoded pixels", mask(f"resnet50_{point}")),
                      ("cResNet-51-d on the representation", mask(f"cresnet51_{point}"))])
  except FileNotFoundError:
    return None
  return figures.segmentation_figure([columns])


def figure_7(finetuned):
  """How accuracy and mean IoU of cResNet-51 move with training on (Figure 7)."""
  figure = matplotlib.figure.Figure(figsize=(10, 4.2), layout="constrained")
  panels = (("classification", "top_1", "top-1 accuracy [%]"),
            ("segmentation", "well_covered_mean_iou", "mIoU of 7 classes [%]"))
  for axis, (task, name, label) in zip(figure.subplots(1, len(panels)), panels):
    for stages in finetuned.values():
      places = [(stage, (measured[rate_distortion.OURS]["bits_per_pixel"], mean_and_values(runs[task], name)[0]))
                for stage, measured, runs in stages if runs[task]]
      moves(axis, places)
    axis.set(xlabel="rate [bits per pixel]", ylabel=label)
  axis.legend(*unique_handles(figure), fontsize=8)
  return figure


def figure_11(finetuned):
  """How rate and distortion move with training on, JPEG 2000 beside them (Figure 11)."""
  figure = matplotlib.figure.Figure(figsize=(12, 3.4 * len(finetuned)), layout="constrained")
  axes = figure.subplots(len(finetuned), 3, squeeze=False)
  for row, (point, stages) in zip(axes, finetuned.items()):
    for axis, (key, label) in zip(row, (("ms_ssim", "MS-SSIM"), ("ssim", "SSIM"), ("psnr", "PSNR [dB]"))):
      peers = sorted((measured["jpeg2000"]["bits_per_pixel"], measured["jpeg2000"][key]) for _, measured, _ in stages)
      axis.plot(*zip(*peers), linestyle=":", color="#34495e", marker="x", label="JPEG 2000")
      moves(axis, [(stage, (measured[rate_distortion.OURS]["bits_per_pixel"], measured[rate_distortion.OURS][key]))
                   for stage, measured, _ in stages])
      axis.set(xlabel="rate [bits per pixel]", ylabel=label, title=point)
  axes[0, 0].legend(*unique_handles(figure), fontsize=8)
  return figure


def moves(axis, places):
  """Marks the stages of an operating point, (stage, (x, y)) each, with arrows from the first to the others."""
  for stage, (x, y) in places:
    marker, colour = _STAGE_STYLES[stage]
    axis.plot([x], [y], marker=marker, color=colour, linestyle="", markersize=8, label=stage)
    if (x, y) != places[0][1]:
      axis.annotate("", (x, y), places[0][1], arrowprops={
          "arrowstyle": "->", "color": colour, "shrinkB": 5,
          "connectionstyle": f"arc3,rad={0.2 if stage == 'joint' else -0.2}"})
  axis.margins(0.2)
  axis.locator_params(axis="x", nbins=5)
  axis.grid(alpha=0.3)


def unique_handles(figure):
  """Handles and labels of a legend, each label once."""
  found = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels())}
  return list(found.values()), list(found)


def curves(rows, unit, measures):
  """Validation curves: a column an operating point, a row a measure."""
  figure = matplotlib.figure.Figure(figsize=(12, 6.4), layout="constrained")
  points = [point for point in dc.operating_points.names() if any(key[0] == point for key in rows)]
  axes = figure.subplots(2, len(points), sharex=True, sharey="row", squeeze=False)
  for column, point in zip(axes.T, points):
    column[0].set_title(f"{point[3:]} bits per pixel")
    column[1].set_xlabel(unit)
    for axis, (name, _) in zip(column, measures):
      for key, runs in rows.items():
        if key[0] not in (None, point) or key[1] not in ("ResNet-50", "cResNet-51", "cResNet-39"):
          continue
        marker, line, colour = _STYLES[key[1]] if key[0] else ("", "-", "#7f8c8d")
        label = f"{key[1]}, {'decoded' if key[1][0] == 'R' else 'representation'}" if key[0] else f"{key[1]}, original"
        for number, record in enumerate(runs):
          axis.plot([at[unit] for at in record["history"]], [100 * at[name] for at in record["history"]],
                    marker=marker, markevery=4, markersize=4, linestyle=line, color=colour, linewidth=1.2,
                    label=None if number else label)
      axis.grid(alpha=0.3)
  for axis, (_, label) in zip(axes[:, 0], measures):
    axis.set_ylabel(label)
  axes[0, 0].legend(fontsize=8, loc="lower right")
  return figure


def figure_6(rows):
  """Accuracy over multiply-adds at 0.0983 bits per pixel, decoder not counted (Figure 6), with the standard error that the
  number of validation images alone makes."""
  figure = matplotlib.figure.Figure(figsize=(10, 4.2), layout="constrained")
  ours, theirs = figure.subplots(1, 2)
  families = {"ResNet": ("ResNet-50", "ResNet-71"), "cResNet": ("cResNet-39", "cResNet-51", "cResNet-72")}
  for family, names in families.items():
    marker, line, colour = _STYLES[names[1]]
    label = "decoded pixels" if family == "ResNet" else "representation"
    place = {"textcoords": "offset points", "fontsize": 8,
             **({"xytext": (-6, 6), "ha": "right"} if family == "ResNet" else {"xytext": (6, -12)})}
    measured = [(rows["bpp0.0983", name][0]["multiply_adds"] / 1e9, rows["bpp0.0983", name], name)
                for name in names if ("bpp0.0983", name) in rows]
    means = [mean_and_values(records, "top_1")[0] for _, records, _ in measured]
    ours.errorbar([x for x, _, _ in measured], means, [standard_error(records) for _, records, _ in measured],
                  marker=marker, linestyle=line, color=colour, label=label, capsize=4, elinewidth=1)
    for (x, _, name), mean in zip(measured, means):
      ours.annotate(name, (x, mean), **place)
    points = [(paper.MULTIPLY_ADDS[name], paper.TABLE_2["bpp0.0983", name][1], name) for name in names]
    theirs.plot([x for x, _, _ in points], [y for _, y, _ in points], marker=marker, linestyle=line, color=colour,
                label=label)
    for x, y, name in points:
      theirs.annotate(name, (x, y), **place)
  ours.set_title("ours, reduced scale")
  theirs.set_title("the paper, ImageNet")
  for axis in (ours, theirs):
    axis.set(xlabel="multiply-adds [G], without the decoder", ylabel="top-1 accuracy [%]")
    axis.margins(x=0.25, y=0.2)
    axis.grid(alpha=0.3)
  ours.legend(loc="best")
  return figure


def standard_error(records):
  """Of top-1, in points: that of as many draws as there are validation images, the seeds' runs taken as independent."""
  share = mean_and_values(records, "top_1")[0] / 100
  return 100 * (share * (1 - share) / records[0]["history"][-1]["examples"] / len(records)) ** 0.5


def figure_12(runtimes):
  """Milliseconds per image from bytes to the answer, a panel a task, batch and size of image (Figure 12)."""
  panels = {}
  for record in runtimes:
    for row in record["rows"]:
      panels.setdefault((record["task"], row["pixels"], row["batch"]), []).append((row, record))
  figure = matplotlib.figure.Figure(figsize=(11, 2.6 * -(-len(panels) // 2)), layout="constrained")
  axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).ravel()
  for axis in axes[len(panels):]:
    axis.set_axis_off()
  for axis, ((task, pixels, batch), rows) in zip(axes, panels.items()):
    names = [row["way"] for row, _ in rows]
    reading = [row["milliseconds_reading"] for row, _ in rows]
    network = [row["milliseconds"] - row["milliseconds_reading"] for row, _ in rows]
    axis.barh(names, reading, color="#7f8c8d", hatch="//", edgecolor="white", label="reading the bytes")
    axis.barh(names, network, left=reading, color="#2980b9", label="networks")
    axis.invert_yaxis()
    axis.set(xlabel="milliseconds per image", title=f"{task}, {pixels}x{pixels}, batch {batch}")
    axis.tick_params(labelsize=8)
  axes[0].legend(fontsize=8)
  figure.suptitle("; ".join(dict.fromkeys(record["machine"] for record in runtimes)), fontsize=9)
  return figure


def fill(path, name, lines):
  """Puts lines into a page, between the marks of a name."""
  with open(path) as file:
    text = file.read()
  begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
  if text.count(begin) != 1 or text.count(end) != 1:
    raise dc.DeepcompError(f"expected the lines {begin.strip()} and {end} once each. Received: {path}")
  text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + "\n".join(lines) + "\n" + end, text,
                flags=re.DOTALL)
  write_file(path, text.encode(), overwrite=True)


if __name__ == "__main__":
  loop.main(main)
