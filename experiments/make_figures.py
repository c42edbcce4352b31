"""Writes the tables and figures of the recorded runs, ours beside the paper's (Tables 1 to 3, Figures 3, 4, 6 and 12,
section 4.5's storage).

  python -m experiments.make_figures

Reads the records that `experiments.reproduce` left in --results_dir and nothing else; writes PNG files to
--output_dir, and the tables into --page, between the lines <!-- NAME --> and <!-- end of NAME -->.
"""

import glob
import json
import os
import re
import statistics

from absl import flags
import matplotlib.figure

import deepcomp_tf as dc
from deepcomp_tf.codec.images import write_file
from deepcomp_tf.evaluation import figures
from deepcomp_tf.training import loop
from experiments import model_complexity
from experiments import paper

FLAGS = flags.FLAGS
flags.DEFINE_string("results_dir", "docs/results/runs", "Folder of the records.")
flags.DEFINE_string("output_dir", "docs/results", "Folder for the pictures.")
flags.DEFINE_string("page", "docs/results.md", "Markdown page for the tables.")

_STYLES = {"ResNet-50": ("o", "-", "#c0392b"), "cResNet-51": ("s", "--", "#2980b9"), "cResNet-39": ("^", ":", "#27ae60"),
           "ResNet-71": ("o", "-", "#c0392b"), "cResNet-72": ("s", "--", "#2980b9")}


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
  os.makedirs(FLAGS.output_dir, exist_ok=True)
  drawn = {"figure_3": figure_3(rows), "figure_6": figure_6(rows)}
  if masks:
    drawn["figure_4"] = figure_4(masks)
  runtimes = [read_json(path) for path in record_paths("runtime_*.json")]
  if runtimes:
    drawn["figure_12"] = figure_12(runtimes)
  for name, figure in drawn.items():
    write_file(os.path.join(FLAGS.output_dir, f"{name}.png"), figures.png(figure), overwrite=True)
  print(f"Written to {FLAGS.page} and {FLAGS.output_dir}")


def record_paths(pattern):
  return sorted(glob.glob(os.path.join(glob.escape(FLAGS.results_dir), pattern)))


def read_json(path):
  with open(path) as file:
    return json.load(file)


def records(task):
  """{(operating point or None, network): its records, one a seed}, in the order of the paper's Table 2."""
  unit, total = ("epoch", "epochs") if task == "classification" else ("step", "steps")
  found = {}
  for path in record_paths(f"{task}_*.json"):
    try:
      record = read_json(path)
      settings = record["settings"]
      reached = record["history"][-1]
      if reached[unit] != settings[total] or not {"multiply_adds", "seconds"} <= set(record):
        raise ValueError(f"{unit} {reached[unit]} of {settings[total]}, {', '.join(record)}")
      found.setdefault((record["operating_point"], settings["network"]), []).append(record)
    except (ValueError, KeyError, IndexError, TypeError) as error:
      raise dc.DeepcompError(f"expected a whole record of a run. Received: {path} ({error})") from None
  return {key: found[key] for key in paper.TABLE_2 if key in found}


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
      mean, values = mean_and_values(rows[key], name)
      cells += [f"{mean:.1f}" + (f" ({', '.join(f'{value:.1f}' for value in values)})" if len(values) > 1 else ""),
                f"{theirs:.1f}"]
    for name in ("well_covered_mean_iou", "mean_iou"):
      cells.append(f"{mean_and_values(masks[key], name)[0]:.1f}" if key in masks else "")
    times = [statistics.mean(record["seconds"] for record in of[key]) for of in (rows, masks) if key in of]
    cells += [f"{mean_iou:.1f}", f"{rows[key][0]['multiply_adds'] / 1e9:.3f}",
              " + ".join(f"{seconds / 60:.0f}" for seconds in times)]
    lines.append(f"| {' | '.join(cells)} |")
  return lines


def figure_3(rows):
  """Accuracy on the validation split over the epochs, a column an operating point (Figure 3, with top-1 added)."""
  return curves(rows, "epoch", (("top_1", "top-1 accuracy [%]"), ("top_5", "top-5 accuracy [%]")))


def figure_4(rows):
  """Mean IoU on the validation split over the steps, a column an operating point (Figure 4)."""
  return curves(rows, "step", (("well_covered_mean_iou", "mIoU of 7 classes [%]"), ("mean_iou", "mIoU of 21 classes [%]")))


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
  """Accuracy over multiply-adds at 0.0983 bits per pixel, decoder not counted (Figure 6)."""
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
    ours.plot([x for x, _, _ in measured], [mean_and_values(records, "top_1")[0] for _, records, _ in measured],
              marker=marker, linestyle=line, color=colour, label=label)
    for x, records, name in measured:
      mean, values = mean_and_values(records, "top_1")
      if len(values) > 1:
        ours.plot([x, x], [min(values), max(values)], color=colour, linewidth=1, marker="_")
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
  ours.legend(loc="lower right")
  return figure


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
