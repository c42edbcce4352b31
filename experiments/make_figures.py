"""Writes the tables and figures of the paper from the recorded runs, ours beside the paper's (Tables 1 to 3, Figures 1 and
3 to 12, section 4.5's storage).

  python -m experiments.make_figures

Reads the records that `experiments.reproduce` and `experiments.benchmark_inference` left in --results_dir, the operating points
that they rest on and the sample photos, and nothing else; what is not recorded yet is left out. Writes PNG files to
--output_dir, and the tables into --page, between the lines <!-- NAME --> and <!-- end of NAME -->; a page that is not there
begins with nothing but these lines and the pictures.
"""

import os
import re
import statistics
from typing import NamedTuple

from absl import flags
import matplotlib.figure
import matplotlib.ticker
import numpy as np
from PIL import Image

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.models.resnet import ARCHITECTURES
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.training import flags as training_flags
from experiments import model_complexity
from experiments import paper
from experiments import records

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "docs/results", "Folder for the pictures.")
flags.DEFINE_string("page", "docs/results.md", "Markdown page for the tables.")

_TABLES = ("tables 1 and 3", "table 2", "cost at equal accuracy", "storage", "rate and distortion", "joint training")

_STYLES = {"ResNet-50": ("o", "-", "#c0392b"), "cResNet-51": ("s", "--", "#2980b9"), "cResNet-39": ("^", ":", "#27ae60")}

_STAGE_STYLES = {"fixed": ("o", "#7f8c8d"), "compression only": ("^", "#2980b9"), "joint": ("s", "#c0392b")}


def main(argv):
  del argv
  rows, masks = records.by_network("classification"), records.by_network("segmentation")
  if not rows:
    raise dc.DeepcompError(f"expected records of experiments.reproduce. Received: --results_dir={FLAGS.results_dir}, "
                           "where there are none")
  codecs = [dc.Codec.load(records.point_of(point)) for point in reversed(dc.operating_points.names())]
  networks = list(model_complexity.rows())
  if not files.exists(FLAGS.page):
    files.makedirs(os.path.dirname(FLAGS.page) or ".")
    files.write_file(FLAGS.page, new_page().encode())
  fill(FLAGS.page, "tables 1 and 3", tables_1_and_3(networks))
  fill(FLAGS.page, "table 2", table_2(rows, masks))
  if records.paths("storage_*.json"):
    fill(FLAGS.page, "storage", storage_table(codecs))
  panels = list(panels_of_figure_6(rows, masks, networks, codecs[-1]))
  fill(FLAGS.page, "cost at equal accuracy", equal_cost_table(panels))
  reduced = next(iter(rows.values()))[0].get("scale", "small") == "small"
  photo = samples.photos()["chelsea"]
  drawn = {"figure_1": figure_1(codecs[1], photo), "figure_3": figure_3(rows),
           "figure_6": figure_6(panels, reduced), "figure_9": figures.representation_figure(codecs, photo)}
  if masks:
    drawn["figure_4"] = figure_4(masks)
    drawn.update((f"figure_{number}", figure) for number, name in ((5, "chelsea"), (10, "astronaut"))
                 if (figure := figure_5(codecs, name)))
  measured = [row for codec in codecs for row in records.rates_and_distortions(codec.operating_point)]
  if measured:
    fill(FLAGS.page, "rate and distortion", rate_distortion_table(measured))
    drawn["figure_8"] = figures.rate_distortion_figure(measured, "{photos}, {images} photos".format_map(measured[0]))
  finetuned = {point: stages for point in ("bpp0.635", "bpp0.0983")
               if len(stages := list(records.read_stages(point))) > 1 and stages[0][0] == "fixed"}
  if finetuned:
    fill(FLAGS.page, "joint training", joint_table(finetuned))
    drawn.update(figure_7=figure_7(finetuned), figure_11=figure_11(finetuned))
  runtimes = [files.read_json(path) for path in records.paths("runtime_*.json")]
  if runtimes:
    drawn["figure_12"] = figure_12(runtimes, rows, masks, reduced)
  files.makedirs(FLAGS.output_dir)
  for name, figure in drawn.items():
    content = figure if isinstance(figure, bytes) else figures.png(figure)
    files.write_file(os.path.join(FLAGS.output_dir, f"{name}.png"), content, overwrite=True)
  print(f"Written to {FLAGS.page} and {FLAGS.output_dir}: {', '.join(sorted(drawn))}")


def tables_1_and_3(networks):
  """Markdown lines of Tables 1 and 3: the networks, rows of `model_complexity`, and their multiply-adds."""
  lines = ["| network | root | conv2_x | conv3_x | conv4_x | conv5_x | G multiply-adds ours | paper |", "|---" * 8 + "|"]
  for name, root, units, ours, theirs in networks:
    lines.append(f"| {' | '.join([name, root, *units, f'{ours / 1e9:.3f}', theirs])} |")
  return lines


def storage_table(codecs):
  """Markdown lines on what the classification set takes (section 4.5)."""
  channels = {codec.operating_point: codec.channels for codec in codecs}
  lines = ["| operating point | files, MB | bits/pixel | share of the JPEG files | their bits/pixel | symbols in memory, MB | "
           "ImageNet in the paper |", "|---" * 7 + "|"]
  for path in records.paths("storage_*.json"):
    record = files.read_json(path)
    point, written, source = (record[key] for key in ("operating_point", "bitstream_bytes", "source_bytes"))
    blocks = record["symbol_bytes"] / channels[point]  # of 8x8 pixels
    theirs = f"1/{paper.STORAGE_GB[None] / paper.STORAGE_GB[point]:.1f}" if point in paper.STORAGE_GB else "-"
    lines.append(f"| {point} | {written / 1e6:.2f} | {written / blocks / 8:.2f} | 1/{source / written:.1f} of "
                 f"{source / 1e6:.1f} MB | {source / blocks / 8:.2f} | {record['symbol_bytes'] / 1e6:.1f} | {theirs} |")
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
    cells += [spread(rows[key], "top_1", error=True), f"{top_1:.1f}", spread(rows[key], "top_5"), f"{top_5:.1f}"]
    cells += [spread(masks.get(key), name, error=True) for name in ("well_covered_mean_iou", "mean_iou")]
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
      cells = [point, stage, *(mean_and_seeds([row[key] for row in measured[rate_distortion.OURS]], digits)
                               for key, digits in (("bits_per_pixel", 4), ("psnr", 2), ("ssim", 4), ("ms_ssim", 4)))]
      cells += [spread(runs["classification"], "top_1", error=True), spread(runs["classification"], "top_5")]
      cells += [spread(runs["segmentation"], name, error=True) for name in ("well_covered_mean_iou", "mean_iou")]
      lines.append(f"| {' | '.join(cells)} |")
  return lines


def spread(runs, name, error=False):
  """Mean of a figure in percent and, of several seeds, its values; with its standard error if that is asked for."""
  if not runs or name not in runs[0]["history"][-1]:
    return ""
  return (mean_and_seeds(records.mean_and_values(runs, name)[1], 1)
          + (f" ± {records.standard_error(runs, name):.1f}" if error else ""))


def mean_and_seeds(values, digits):
  """Mean and, of several seeds, the values."""
  every = f" ({', '.join(f'{value:.{digits}f}' for value in values)})" if len(values) > 1 else ""
  return f"{statistics.mean(values):.{digits}f}{every}"


def mean_of(measured, key, codec=rate_distortion.OURS, seeds=None):
  """Mean over the seeds, or the first of them, of what was measured on the test photos."""
  return statistics.mean(row[key] for row in measured[codec][:seeds])


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
  measures = dict.fromkeys([mask_measure(rows), ("mean_iou", "mIoU of 21 classes [%]")])
  return curves(rows, "step", tuple(measures))


def mask_measure(rows):
  """Name and label of the measure of masks: of the classes that the set covers well, where it was recorded for these."""
  last = next(iter(rows.values()))[0]["history"][-1]
  return (("well_covered_mean_iou", "mIoU of 7 classes [%]") if "well_covered_mean_iou" in last else
          ("mean_iou", "mIoU of 21 classes [%]"))


def figure_5(codecs, name):
  """PNG bytes: a sample photo decoded at each operating point, and masks of it from decoded pixels and from the
  representation (Figures 5 and 10); None where they are not recorded."""

  def mask(row):
    with files.open_file(os.path.join(FLAGS.results_dir, f"segmentation_{row}_{name}.png")) as file, Image.open(file) as image:
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
  return figures.segmentation_figure([columns], mask_classes.VOC)


def figure_7(finetuned):
  """How accuracy and mean IoU of cResNet-51, with standard errors, move with training on, a row an operating point
  (Figure 7)."""
  figure = matplotlib.figure.Figure(figsize=(10, 3.6 * len(finetuned)), layout="constrained")
  axes = figure.subplots(len(finetuned), 2, squeeze=False)
  masks = {point: runs["segmentation"] for point, stages in finetuned.items() for _, _, runs in stages if runs["segmentation"]}
  panels = [("classification", "top_1", "top-1 accuracy [%]"),
            ("segmentation", *(mask_measure(masks) if masks else ("mean_iou", "mIoU [%]")))]
  for row, (point, stages) in zip(axes, finetuned.items()):
    for axis, (task, name, label) in zip(row, panels):
      moves(axis, [(stage, (mean_of(measured, "bits_per_pixel", seeds=len(runs[task])),
                            records.mean_and_values(runs[task], name)[0]),
                    records.standard_error(runs[task], name)) for stage, measured, runs in stages if runs[task]])
      axis.set(xlabel="rate [bits per pixel]", ylabel=label, title=point)
  axes[0, 0].legend(*unique_handles(figure), fontsize=8)
  return figure


def figure_11(finetuned):
  """How rate and distortion move with training on, JPEG 2000 beside them (Figure 11)."""
  figure = matplotlib.figure.Figure(figsize=(12, 3.4 * len(finetuned)), layout="constrained")
  axes = figure.subplots(len(finetuned), 3, squeeze=False)
  for row, (point, stages) in zip(axes, finetuned.items()):
    for axis, (key, label) in zip(row, (("ms_ssim", "MS-SSIM"), ("ssim", "SSIM"), ("psnr", "PSNR [dB]"))):
      peers = sorted((mean_of(measured, "bits_per_pixel", "jpeg2000"), mean_of(measured, key, "jpeg2000"))
                     for _, measured, _ in stages)
      axis.plot(*zip(*peers), linestyle=":", color="#34495e", marker="x", label="JPEG 2000")
      moves(axis, [(stage, (mean_of(measured, "bits_per_pixel"), mean_of(measured, key)), None)
                   for stage, measured, _ in stages])
      axis.set(xlabel="rate [bits per pixel]", ylabel=label, title=point)
  axes[0, 0].legend(*unique_handles(figure), fontsize=8)
  return figure


def moves(axis, places):
  """Marks the stages of an operating point, (stage, (x, y), error of y or None) each, with arrows from the first to the
  others."""
  for stage, (x, y), error in places:
    marker, colour = _STAGE_STYLES[stage]
    axis.errorbar([x], [y], error, marker=marker, color=colour, linestyle="", markersize=8, capsize=4, elinewidth=1,
                  label=stage)
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
  axes = figure.subplots(len(measures), len(points), sharex=True, sharey="row", squeeze=False)
  for column, point in zip(axes.T, points):
    column[0].set_title(f"{point[3:]} bits per pixel")
    column[-1].set_xlabel(unit)
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


# Figure 6's families: what their networks read, and their names.
_FAMILIES = (("decoded pixels", ("ResNet-50", "ResNet-71")), ("representation", ("cResNet-39", "cResNet-51", "cResNet-72")))


class Panel(NamedTuple):
  """Networks at 0.0983 bits per pixel by their costs (Figure 6).

  title: what is measured, with its unit.
  ours, theirs: dict from what networks read to [(G multiply-adds, figure in percent, its standard error or None, name)].
  decoders: G multiply-adds of the decoder, ours at the size of our crops and theirs.
  """
  title: str
  ours: dict
  theirs: dict
  decoders: tuple


def panels_of_figure_6(rows, masks, networks, codec):
  """The `Panel`s of classification and segmentation. The paper's networks for segmentation stand at the costs that
  `model_complexity` counts."""
  counted = {row[0].split(",")[0]: row[3] / 1e9 for row in networks}
  wanted = [(rows, "top_5", "top-5 accuracy [%]", paper.MULTIPLY_ADDS, "", 0), (rows, "top_1", "top-1 accuracy [%]",
                                                                                paper.MULTIPLY_ADDS, "", 1)]
  if any(point == "bpp0.0983" for point, _ in masks):
    wanted.append((masks, *mask_measure(masks), {name: counted[f"{name}-d"] for name in ARCHITECTURES}, "-d", 2))
  for runs, name, title, costs, ending, column in wanted:
    measured = {input_: [(network, runs["bpp0.0983", network]) for network in family if ("bpp0.0983", network) in runs]
                for input_, family in _FAMILIES}
    ours = {input_: [(of[0]["multiply_adds"] / 1e9, records.mean_and_values(of, name)[0], records.standard_error(of, name),
                      network + ending) for network, of in every] for input_, every in measured.items()}
    theirs = {input_: [(costs[network], paper.TABLE_2["bpp0.0983", network][column], None, network + ending)
                       for network in family] for input_, family in _FAMILIES}
    crops = [of[0]["settings"].get("crop_size", 224) for every in measured.values() for _, of in every] or [224]
    edge = crops[0] // STRIDE
    decoder = dc.evaluation.multiply_adds(codec.model.decoder, (edge, edge, codec.channels)) / 1e9
    yield Panel(title, ours, theirs, (decoder, paper.MULTIPLY_ADDS["decoder"]))


def figure_6(panels, reduced):
  """Accuracy and mean IoU over multiply-adds at 0.0983 bits per pixel, decoder counted and not, ours with standard errors, and
  the paper's (Figure 6)."""
  figure = matplotlib.figure.Figure(figsize=(11, 4.2 * len(panels)), layout="constrained")
  for axes, panel in zip(figure.subplots(len(panels), 2, squeeze=False), panels):
    for axis, curves_of, decoder in zip(axes, (panel.ours, panel.theirs), panel.decoders):
      for input_, places in curves_of.items():
        over_cost(axis, places, input_)
        if input_ == "decoded pixels":
          over_cost(axis, [(cost + decoder, *rest) for cost, *rest in places], f"{input_}, with the decoder")
      axis.set_xlabel("multiply-adds [G]")
      costs = [place[0] for places in curves_of.values() for place in places]
      if costs and max(costs) + decoder > 5 * min(costs):  # narrow networks beside the decoder's full width
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
      axis.margins(x=0.25, y=0.2)
      axis.grid(alpha=0.3)
    axes[0].set(title="ours, reduced scale" if reduced else "ours", ylabel=panel.title)
    axes[1].set(title="the paper", ylabel=panel.title.replace("7", "21"))
    axes[0].legend(loc="best", fontsize=8)
  return figure


def equal_cost_table(panels):
  """Markdown lines of sections 4.5 and 5.4: what the representation saves, from the rows, with straight lines between them.

  The paper's own statements stand beside what its Table 2 gives by the same reckoning.
  """
  lines = ["| | at equal cost, decoded pixels above the representation, points | at equal accuracy, decoded pixels cost more, G "
           "multiply-adds | with the decoder |", "|---" * 4 + "|"]

  def cells(name, curves_of, decoder):
    decoded, representation = ([place[:2] for place in curves_of[input_]] for input_ in ("decoded pixels", "representation"))
    higher = mean_difference(decoded, representation)
    flip = lambda places: [place[::-1] for place in places]
    dearer = mean_difference(flip(decoded), flip(representation))
    costs = ["no accuracy that both have" if dearer is None else f"{value:.2f}"
             for value in (dearer or 0, (dearer or 0) + decoder)]
    return f"| {name} | {'-' if higher is None else f'{higher:.2f}'} | {' | '.join(costs)} |"

  for panel in panels:
    name = panel.title.split(" [")[0]
    lines.append(cells(f"{name}, ours", panel.ours, panel.decoders[0]))
    lines.append(cells(f"{name.replace('7', '21')}, the paper's Table 2", panel.theirs, panel.decoders[1]))
    said = paper.EQUAL_COST.get(name.replace("7", "21"))
    if said:
      lines.append(f"| {name.replace('7', '21')}, the paper's text | {' | '.join(map(str, said))} |")
  return lines


def mean_difference(first, second):
  """Mean of y of one line of (x, y) less that of another over the x that both have; None where there are none.

  A line goes straight from point to point. Where its x do not rise with its points' order, it has no x at all.
  """
  xs = [[x for x, _ in places] for places in (first, second)]
  if any(len(x) < 2 or x != sorted(x) for x in xs):
    return None
  low, high = max(x[0] for x in xs), min(x[-1] for x in xs)
  if low >= high:
    return None
  at = np.linspace(low, high, 1001)
  one, other = (np.interp(at, x, [y for _, y in places]) for x, places in zip(xs, (first, second)))
  return float(np.mean(one - other))


def over_cost(axis, places, label):
  """A line through (multiply-adds, figure, its standard error or None, name of the network) of one kind of input."""
  if not places:
    return
  x, y, errors, names = zip(*places)
  decoded = label.startswith("decoded")
  marker, line, colour = _STYLES["ResNet-50" if decoded else "cResNet-51"]
  line = ":" if label.endswith("decoder") else line
  axis.errorbar(x, y, None if errors[0] is None else errors, marker=marker, linestyle=line, color=colour, label=label,
                capsize=4, elinewidth=1)
  left = decoded == (y[-1] >= y[0])  # names stand above the line of decoded pixels and below the other
  for place, name in zip(zip(x, y), names):
    axis.annotate(name, place, textcoords="offset points", fontsize=8, xytext=(-6 if left else 6, 6 if decoded else -12),
                  horizontalalignment="right" if left else "left")


def figure_12(runtimes, rows, masks, reduced):
  """Milliseconds per image from bytes to the answer, of reading, the decoder and the network, a panel a task, batch and size of
  image; accuracies beside them (Figure 12)."""
  panels = {}
  for record in runtimes:
    for row in record["rows"]:
      panels.setdefault((record["task"], row["pixels"], row["batch"]), []).append((row, record))
  figure = matplotlib.figure.Figure(figsize=(13, 2.8 * -(-len(panels) // 2)), layout="constrained")
  axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).ravel()
  for axis in axes[len(panels):]:
    axis.set_axis_off()
  parts = (("reading the bytes", "#7f8c8d", "//"), ("the decoder", "#c0392b", ""), ("the network", "#2980b9", ""))
  for axis, ((task, pixels, batch), measured) in zip(axes, panels.items()):
    names = [row["way"] for row, _ in measured]
    reading, decoding = ([row.get(f"milliseconds_{part}", 0.0) for row, _ in measured] for part in ("reading", "decoding"))
    network = [row["milliseconds"] - read - decode for (row, _), read, decode in zip(measured, reading, decoding)]
    begin = np.zeros(len(names))
    for (label, colour, hatch), lengths in zip(parts, (reading, decoding, network)):
      axis.barh(names, lengths, left=begin, color=colour, hatch=hatch, edgecolor="white", label=label)
      begin += lengths
    runs, name = (masks, mask_measure(masks)[0]) if task == "segmentation" and masks else (rows, "top_5")
    for place, (row, record) in enumerate(measured):
      network_name = row["way"].split(" -> ")[-1].removesuffix("-d")
      key = (None if row["way"].startswith("(c)") else record["operating_point"], network_name)
      if key in runs:
        axis.text(begin[place], place, f" {records.mean_and_values(runs[key], name)[0]:.1f} %", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set(xlabel="milliseconds per image", title=f"{task}, {pixels}x{pixels}, batch {batch}")
    axis.title.set_fontsize(10)
    axis.tick_params(labelsize=8)
  figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
  measures = "top-5 accuracy" + (f", {mask_measure(masks)[1].removesuffix(' [%]')}" if masks else "")
  figure.suptitle("; ".join(dict.fromkeys(record["machine"] for record in runtimes))
                  + f"; beside the bars: {measures}{' at reduced scale' if reduced else ''}", fontsize=9)
  return figure


def new_page():
  """A page of the tables and pictures alone."""
  marks = [f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in _TABLES]
  pictures = os.path.relpath(FLAGS.output_dir, os.path.dirname(FLAGS.page) or ".")
  return "\n".join([*marks, *(f"![Figure {number}]({pictures}/figure_{number}.png)\n" for number in (1, *range(3, 13)))])


def fill(path, name, lines):
  """Puts lines into a page, between the marks of a name."""
  text = files.read(path).decode()
  begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
  if text.count(begin) != 1 or text.count(end) != 1:
    raise dc.DeepcompError(f"expected the lines {begin.strip()} and {end} once each. Received: {path}")
  text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + "\n".join(lines) + "\n" + end, text,
                flags=re.DOTALL)
  files.write_file(path, text.encode(), overwrite=True)


if __name__ == "__main__":
  training_flags.main(main)
