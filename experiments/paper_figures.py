"""The paper's figures from the recorded runs. `cost_curves` has Figure 6, `deepcomp_tf.evaluation.figures` Figures 8 and 9."""

import contextlib
import os

from absl import flags
import matplotlib.figure
import numpy as np
from PIL import Image

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import mask_classes
from deepcomp_tf import samples
from deepcomp_tf.evaluation import figures
from . import paper
from . import paper_tables
from . import records
from .cost_curves import STYLES

FLAGS = flags.FLAGS

_STAGE_STYLES = {"fixed": ("o", "#7f8c8d"), "compression only": ("^", "#2980b9"), "joint": ("s", "#c0392b")}


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
  return curves(rows, "step", tuple(records.mask_measures(rows).items()))


def figure_5(codecs, name):
  """PNG bytes: a photo with its true mask, if that is known, decoded at each operating point, and masks of it from decoded pixels
  and from the representation (Figures 5 and 10); None where they are not recorded."""

  def picture(file):
    with files.open_file(os.path.join(FLAGS.results_dir, f"{file}.png")) as opened, Image.open(opened) as image:
      return np.asarray(image)

  def masks(*rows):
    return [picture(f"segmentation_{row}_{name}") for row in rows]

  try:
    of_pixels, = masks("resnet50_original")
    sample = name in samples.photos()
    photo = samples.photos(max(of_pixels.shape))[name] if sample else picture(f"segmented_{name}")
    truth = [] if sample else [("ground truth", picture(f"segmented_{name}_truth"))]
  except FileNotFoundError:
    return None
  columns = [[("photo", photo), *truth, ("ResNet-50-d on its pixels", of_pixels)]]
  for codec in codecs:
    point = codec.operating_point
    with contextlib.suppress(FileNotFoundError):
      of_decoded, of_representation = masks(f"resnet50_{point}", f"cresnet51_{point}")
      columns.append([(f"decoded, {point[3:]} bits per pixel", codec.decompress(codec.compress(photo))),
                      ("ResNet-50-d on decoded pixels", of_decoded), ("cResNet-51-d on the representation", of_representation)])
  return figures.segmentation_figure([columns], mask_classes.VOC)


def figure_7(finetuned):
  """How accuracy and mean IoU of cResNet-51, with standard errors, move with training on, a row an operating point
  (Figure 7)."""
  figure = matplotlib.figure.Figure(figsize=(10, 3.6 * len(finetuned)), layout="constrained")
  axes = figure.subplots(len(finetuned), 2, squeeze=False)
  masks = list(paper_tables.finetuned_measures(finetuned).items())[:1] or [("mean_iou", "mIoU [%]")]
  panels = [("classification", "top_1", "top-1 accuracy [%]"), ("segmentation", *masks[0])]
  for row, ((point, prefix), stages) in zip(axes, finetuned.items()):
    for axis, (task, name, label) in zip(row, panels):
      moved = [(stage, (records.mean_of(measured, records.rate_of(point, prefix), seeds=len(runs[task])),
                        records.mean_and_values(runs[task], name)[0]),
                records.standard_error(runs[task], name)) for stage, (measured, runs) in stages.items() if runs[task]]
      if len(moved) < 2:  # nothing has moved yet
        axis.set_axis_off()
        continue
      moves(axis, moved)
      axis.set(xlabel=rate_label(point, prefix), ylabel=label, title=paper.label(point, prefix))
  axes[0, 0].legend(*unique_handles(figure), fontsize=8)
  return figure


def rate_label(point, prefix=records.SHIPPED):
  """Of the axis of an operating point's rate."""
  pooled = records.rate_of(point, prefix) == "bits_per_pixel_pooled"
  return f"rate [bits per pixel{', the paper’s measure' if pooled else ''}]"


def figure_11(finetuned):
  """How rate and distortion move with training on, joint training's at the rate of its control, JPEG 2000 beside them (Figure
  11)."""
  figure = matplotlib.figure.Figure(figsize=(12, 3.4 * len(finetuned)), layout="constrained")
  axes = figure.subplots(len(finetuned), 3, squeeze=False)
  for row, ((point, prefix), stages) in zip(axes, finetuned.items()):
    rate, moved = records.rate_of(point, prefix), records.joint_at_the_controls_rate(stages, point, prefix)
    for axis, (key, label) in zip(row, (("ms_ssim", "MS-SSIM"), ("ssim", "SSIM"), ("psnr", "PSNR [dB]"))):
      peers = sorted((records.mean_of(measured, "bits_per_pixel", "jpeg2000"), records.mean_of(measured, key, "jpeg2000"))
                     for measured, _ in stages.values())
      axis.plot(*zip(*peers), linestyle=":", color="#34495e", marker="x", label="JPEG 2000")
      places = {stage: (records.mean_of(measured, rate), records.mean_of(measured, key))
                for stage, (measured, _) in stages.items()}
      if moved:
        axis.plot(*places["joint"], "s", color=_STAGE_STYLES["joint"][1], alpha=0.3, label="joint, at its own rate")
        places["joint"] = moved[rate], moved[key]
      moves(axis, [(stage, place, None) for stage, place in places.items()])
      axis.set(xlabel=rate_label(point, prefix), ylabel=label, title=paper.label(point, prefix))
  axes[0, 0].legend(*unique_handles(figure), fontsize=8)
  return figure


def moves(axis, places):
  """Marks the stages of an operating point, (stage, (x, y), error of y or None) each, with arrows from what is fixed, where
  that was measured, to the others."""
  start = next((place for stage, place, _ in places if stage == "fixed"), None)
  for stage, (x, y), error in places:
    marker, colour = _STAGE_STYLES[stage]
    axis.errorbar([x], [y], error, marker=marker, color=colour, linestyle="", markersize=8, capsize=4, elinewidth=1,
                  label=stage)
    if start and (x, y) != start:
      axis.annotate("", (x, y), start, arrowprops={
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
        marker, line, colour = STYLES[key[1]] if key[0] else ("", "-", "#7f8c8d")
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
    runs, name = (masks, next(iter(records.mask_measures(masks)))) if task == "segmentation" and masks else (rows, "top_5")
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
  measures = ", ".join(["top-5 accuracy", *(
      label.removesuffix(" [%]") for label in list(records.mask_measures(masks).values())[:1])])
  figure.suptitle("; ".join(dict.fromkeys(record["machine"] for record in runtimes))
                  + f"; beside the bars: {measures}{' at reduced scale' if reduced else ''}", fontsize=9)
  return figure
