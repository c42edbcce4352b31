"""Pictures of rate, distortion, representations and segmentations (Figures 1, 5, 8, 9 and 10 of the paper)."""

import io

import matplotlib
import matplotlib.figure
import matplotlib.patches
from matplotlib import patheffects
import numpy as np
from etils import epy

from deepcomp_tf.evaluation import baselines
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.mask_classes import BACKGROUND
from deepcomp_tf.mask_classes import palette

with epy.lazy_imports():  # rates and distortions are drawn without TensorFlow
  from deepcomp_tf.evaluation import segmentation

_METRICS = (("ms_ssim", "MS-SSIM"), ("ssim", "SSIM"), ("psnr", "PSNR [dB]"))
_STYLES = {"deepcomp": ("o", "-", "#c0392b"), "jpeg": ("s", ":", "#7f8c8d"), "jpeg2000": ("^", "--", "#2980b9"),
           "webp": ("D", "-.", "#27ae60"), "avif": ("v", (0, (5, 1, 1, 1, 1, 1)), "#8e44ad")}


def confusion_figure(figures, names, title):
  """PNG bytes: what the examples of each class, a row, are taken for, a column, in shares of the row.

  Args:
    figures: as `accuracy.by_class` gives them.
    names: of all classes.
    title: what was measured.
  """
  classes = sorted({*figures, *(other for row in figures.values() for other in row["taken_for"])})
  places = {label: place for place, label in enumerate(classes)}
  shares = np.zeros([len(figures), len(classes)])
  for number, (label, row) in enumerate(figures.items()):
    shares[number, places[label]] = row["top_1"]
    for other, count in row["taken_for"].items():
      shares[number, places[other]] = count / row["examples"]
  edge = min(4 + 0.25 * len(classes), 14)
  figure = matplotlib.figure.Figure(figsize=(edge, edge * 0.9), layout="constrained")
  axis = figure.subplots()
  picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
  if len(classes) <= 60:
    axis.set_xticks(range(len(classes)), [names[label] for label in classes], rotation=90)
    axis.set_yticks(range(len(figures)), [names[label] for label in figures])
  axis.set_xlabel("answer")
  axis.set_ylabel("class")
  figure.colorbar(picture, label="share of the class's examples")
  axis.set_title(title, fontsize="medium")
  return png(figure)


def rate_distortion_figure(summary, title, pooled=()):
  """PNG bytes: MS-SSIM, SSIM and PSNR over bits per pixel, a line per codec (Figure 8).

  Where there are points of curves, the peers' lines go through their qualities, and ours are short lines through each operating
  point, which is marked; without such points of ours they are joined.

  Args:
    summary: as `rate_distortion.means` gives it.
    title: what was measured.
    pooled: names of operating points whose rate is that of the paper's measure; a second mark,
      which is hollow, is that of their files.
  """
  rate = lambda row: row["bits_per_pixel_pooled" if row["operating_point"] in pooled and row["codec"] == rate_distortion.OURS else
                         "bits_per_pixel"]
  figure = matplotlib.figure.Figure(figsize=(12, 4), layout="constrained")
  axes = figure.subplots(1, len(_METRICS))
  codecs = list(dict.fromkeys(row["codec"] for row in summary))
  for axis, (key, name) in zip(axes, _METRICS):
    for codec in codecs:
      marker, line, colour = _STYLES[codec]
      ours = codec == rate_distortion.OURS
      for number, rows in enumerate(_lines([row for row in summary if row["codec"] == codec])):
        rows = sorted(rows, key=rate)
        marked = [place for place, row in enumerate(rows) if not row["setting"]]
        axis.plot(list(map(rate, rows)), [row[key] for row in rows], marker=marker if marked else "",
                  markevery=marked, linestyle=line, color=colour, label=None if number else rate_distortion.label(codec),
                  linewidth=2.2 if ours else 1.2, zorder=3 if ours else 2)
        second = [row for row in rows if ours and row["operating_point"] in pooled]
        if second:
          axis.plot([row["bits_per_pixel"] for row in second], [row[key] for row in second], marker, color=colour,
                    fillstyle="none", label=None if number else f"{rate_distortion.label(codec)}, files")
    axis.set_xlabel("rate [bits per pixel]")
    axis.set_ylabel(name)
    axis.grid(alpha=0.3)
  axes[0].legend()
  figure.suptitle(title)
  return png(figure)


def _lines(rows):
  """The rows of a codec as a list for each line. A peer's means at no more bytes than ours, whose qualities differ from image to
  image, are on no curve."""
  if not any(row["setting"] for row in rows):
    return [rows]
  lines = {}
  for row in rows:
    if row["setting"] or row["codec"] == rate_distortion.OURS:
      lines.setdefault(row["operating_point"], []).append(row)
  return list(lines.values())


def representation_figure(codecs, image):
  """PNG bytes: a row per operating point with the original, its reconstruction and the four channels of highest
  entropy, with the number of centers that each takes on there (Figures 1 and 9).

  Args:
    codecs: list of `Codec`.
    image: uint8 `[h, w, 3]`.
  """
  height, width = image.shape[:2]
  figure = matplotlib.figure.Figure(
      figsize=(13, (2.1 * height / width + 0.3) * len(codecs)), layout="constrained")
  axes = figure.subplots(len(codecs), 6, squeeze=False)
  for row, codec in zip(axes, codecs):
    data = codec.compress(image)
    symbols = codec.symbols(data)
    entropies = [channel_entropy(symbols[..., c]) for c in range(symbols.shape[-1])]
    pictures = [(image, "original"),
                (codec.decompress(data), f"{codec.operating_point}: {8 * len(data) / (height * width):.4f} bits/pixel")]
    pictures += [(symbols[..., c], f"channel {c + 1}: {entropies[c]:.2f} bits/symbol, {np.unique(symbols[..., c]).size} centers")
                 for c in np.argsort(entropies)[::-1][:4]]
    for axis in row:
      axis.set_axis_off()
    for axis, (picture, text) in zip(row, pictures):
      axis.imshow(picture, cmap="gray", interpolation="nearest")
      axis.set_title(text, fontsize=8)
  return png(figure)


def detail_figure(photos, height=96, width=144):
  """PNG bytes: a detail of each photo, decoded at every operating point, above the same of JPEG files of no more bytes, or of
  JPEG's smallest ones where these have more.

  Args:
    photos: list of (name, uint8 `[h, w, 3]` photo, (row, column) of the detail's upper left pixel, decoded), of which decoded
      is a list of (operating point, bytes of the file, uint8 `[h, w, 3]`), as long for each photo.
    height, width: of the details, in pixels.
  """
  columns = 1 + len(photos[0][-1])
  figure = matplotlib.figure.Figure(figsize=(3.4 * columns, 2 * len(photos) * (3.4 * height / width + 0.3)), layout="constrained")
  axes = iter(figure.subplots(2 * len(photos), columns, squeeze=False))
  for (name, photo, (row, column), decoded), upper, lower in zip(photos, axes, axes):
    jpegs = [baselines.encode_at_most("jpeg", photo, size) for _, size, _ in decoded]
    rate = lambda size, pixels=photo.shape[0] * photo.shape[1]: f"{size / 1000:.1f} kB, {8 * size / pixels:.3f} bits/pixel"
    ours = [(f"{point}: {rate(size)}", picture) for point, size, picture in decoded]
    theirs = [(f"JPEG: {rate(len(data))}", baselines.decode(data)) for data in jpegs]
    for axis, (title, picture) in zip((*upper, *lower), [(f"{name}, {photo.nbytes / 1000:.0f} kB of pixels", photo), *ours,
                                                         ("the original", photo), *theirs]):
      axis.set_axis_off()
      axis.set_title(title, fontsize=9)
      axis.imshow(picture if axis is upper[0] else picture[row:row + height, column:column + width])
    upper[0].add_patch(matplotlib.patches.Rectangle((column, row), width, height, fill=False, edgecolor="white", linewidth=1.5))
  return png(figure)


def answers_figure(rows):
  """PNG bytes: pictures with the classes that were found in them.

  Args:
    rows: list of rows; a row is a list of (title, uint8 `[h, w, 3]` picture, [(class name, probability), ...]).
  """
  figure = matplotlib.figure.Figure(figsize=(2.6 * max(map(len, rows)), 3.5 * len(rows)), layout="constrained")
  for axes, row in zip(figure.subplots(len(rows), max(map(len, rows)), squeeze=False), rows):
    for axis, (title, picture, classes) in zip(axes, row):
      axis.imshow(picture)
      axis.set_title(title, fontsize=9)
      axis.set(xticks=[], yticks=[])
      axis.spines[:].set_visible(False)
      axis.set_xlabel("\n".join(f"{name} {100 * share:.0f} %" for name, share in classes), fontsize=9)
  return png(figure)


def segmentation_figure(examples, classes):
  """PNG bytes: photos and their masks, with a legend of the classes in them (Figures 5 and 10). The background is nearly white,
  on which all of VOC's colours are seen.

  Args:
    examples: list of lists of columns, the examples below each other. A column is a list of (title, uint8 `[h, w, 3]`
      picture or uint8 `[h, w]` mask) from top to bottom.
    classes: list of `MaskClass`, whose ids the masks hold.
  """
  pictures = [picture for example in examples for column in example for _, picture in column]
  found = np.unique(np.concatenate([np.unique(picture) for picture in pictures if picture.ndim == 2] or [[]]))
  colors = palette(classes)
  colors[[known.id for known in classes if known.name == BACKGROUND]] = 240
  columns, rows = (max(map(len, lists)) for lists in (examples, [column for example in examples for column in example]))
  heights = [max((picture.shape[0] / picture.shape[1] for column in example for _, picture in column[row:row + 1]), default=1)
             for example in examples for row in range(rows)]
  size = 2.6 * columns, sum(2.6 * height + 0.35 for height in heights) + 0.4
  figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
  axes = figure.subplots(rows * len(examples), columns, squeeze=False, height_ratios=heights)
  for axis in axes.flat:
    axis.set_axis_off()
  for number, example in enumerate(examples):
    for below, column in zip(axes[number * rows:(number + 1) * rows].T, example):
      for axis, (title, picture) in zip(below, column):
        axis.set_title(title, fontsize=8)
        axis.imshow(picture if picture.ndim == 3 else colors[picture])
        for name, row, place in segmentation.named_regions(picture, classes) if picture.ndim == 2 else ():
          axis.text(place, row, name, fontsize=7, color="white", ha="center", va="center",
                    path_effects=[patheffects.withStroke(linewidth=1.5, foreground="black")])
  legend = [matplotlib.patches.Patch(facecolor=colors[known.id] / 255, edgecolor="gray", label=known.name) for known in classes
            if known.id in found]
  figure.legend(handles=legend, loc="outside lower center", ncols=3 * columns, fontsize=8, frameon=False)
  return png(figure)


def channel_entropy(symbols):
  """Entropy of the histogram of these symbols, in bits per symbol."""
  counts = np.bincount(symbols.ravel())
  p = counts[counts > 0] / symbols.size
  return float(-(p * np.log2(p)).sum())


def png(figure):
  """PNG bytes of a Matplotlib figure."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
  return buffer.getvalue()
