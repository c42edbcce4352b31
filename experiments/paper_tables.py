"""The paper's tables as lines of Markdown, ours beside the paper's (Tables 1 to 3, sections 4.5 and 6, Figure 8)."""

import statistics

from deepcomp_tf import files
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.models import resnet
from . import paper
from . import records


def markdown(columns, rows):
  """Lines of a Markdown table.

  Args:
    columns: their names, with " | " between them.
    rows: lists of as many texts.
  """
  return [f"| {columns} |", "|---" * len(columns.split(" | ")) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def tables_1_and_3(networks):
  """Markdown lines of Tables 1 and 3: the networks, rows of `model_complexity`, and their multiply-adds."""
  return markdown("network | root | conv2_x | conv3_x | conv4_x | conv5_x | G multiply-adds ours | paper", [
      [name, root, *units, f"{ours / 1e9:.3f}", theirs] for name, root, units, ours, theirs in networks])


def table_3():
  """Markdown lines of Table 3: the networks' kernels for 224x224 pixels."""
  names = ("ResNet-71", "ResNet-50", "cResNet-72", "cResNet-51", "cResNet-39")
  rows = [[layer, f"{size}x{size}", *(cell if resnet.ARCHITECTURES[name][0] else "none" for name in names)]
          for layer, size, cell in (("conv1", 112, "7x7, 64, stride 2"), ("pool1", 56, "3x3 max pool, stride 2"))]
  for i, filters in enumerate(resnet.FILTERS):
    kernels = f"(1x1, {filters}; 3x3, {filters}; 1x1, {4 * filters})"
    units = [resnet.ARCHITECTURES[name][i] for name in names]
    rows.append([f"conv{i + 2}_x", f"{56 >> i}x{56 >> i}", *(f"{kernels} x {count}" if count else "none" for count in units)])
  rows.append(["logits", "1x1", *["average pool, 1000-d fc, softmax"] * len(names)])
  return markdown(" | ".join(["layer", "output", *names]), rows)


def storage_table(codecs):
  """Markdown lines on what the classification set takes (section 4.5)."""
  channels = {codec.operating_point: codec.channels for codec in codecs}
  rows = []
  for path in records.paths("storage_*.json"):
    record = files.read_json(path)
    point, written, source = (record[key] for key in ("operating_point", "bitstream_bytes", "source_bytes"))
    blocks = record["symbol_bytes"] / channels[point]  # of 8x8 pixels
    theirs = f"1/{paper.STORAGE_GB[None] / paper.STORAGE_GB[point]:.1f}" if point in paper.STORAGE_GB else "-"
    rows.append([point, f"{written / 1e6:.2f}", f"{written / blocks / 8:.2f}",
                 f"1/{source / written:.1f} of {source / 1e6:.1f} MB", f"{source / blocks / 8:.2f}",
                 f"{record['symbol_bytes'] / 1e6:.1f}", theirs])
  return markdown("operating point | files, MB | bits/pixel | share of the JPEG files | their bits/pixel | "
                  "symbols in memory, MB | ImageNet in the paper", rows)


def table_2(rows, masks, rates):
  """Markdown lines of Table 2: what the paper reports, and what we measured.

  Args:
    rows, masks: of `records.by_network`.
    rates: dict from operating points to means over the test photos, from which both rates are told.
  """
  lines, measures = [], records.mask_measures(masks)
  for key in paper.TABLE_2:
    if key not in rows:
      continue
    point, network = key
    both = [f"{rates[point][name]:.3f}" for name in ("bits_per_pixel_pooled", "bits_per_pixel")] if point in rates else ["", ""]
    cells = [point[3:] if point else "original", *both, network]
    top_5, top_1, mean_iou = paper.TABLE_2[key]
    cells += [spread(rows[key], "top_1", error=True), f"{top_1:.1f}", spread(rows[key], "top_5"), f"{top_5:.1f}"]
    cells += [spread(masks.get(key), name, error=True) for name in measures]
    times = [statistics.mean(record["seconds"] for record in of[key]) for of in (rows, masks) if key in of]
    cells += [f"{mean_iou:.1f}", f"{rows[key][0]['multiply_adds'] / 1e9:.3f}",
              " + ".join(f"{seconds / 60:.0f}" for seconds in times)]
    lines.append(cells)
  return markdown(" | ".join([
      "operating point | ours by the paper's measure | ours in files | network | top-1 ours | top-1 paper | "
      "top-5 ours | top-5 paper",
      *(f"{label.removesuffix(' classes [%]')} ours" for label in measures.values()),
      "mIoU of 21 paper | G multiply-adds ours | minutes"]), lines)


def rate_distortion_table(measured):
  """Markdown lines of the means over the test photos, a line an operating point and codec."""
  rows = []
  for row in (row for row in measured if not row["setting"]):
    name = rate_distortion.label(row["codec"])
    rows.append([row["operating_point"], f"**{name}**" if row["codec"] == rate_distortion.OURS else name,
                 f"{row['bits_per_pixel']:.4f}", *_qualities(row)])
  return markdown("operating point | codec | bits/pixel | PSNR | SSIM | MS-SSIM", rows)


def _qualities(row):
  """PSNR, SSIM and MS-SSIM as texts."""
  return [f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", f"{row['ms_ssim']:.4f}"]


def paper_setting_table(compared):
  """Markdown lines of the paper's setting beside the shipped operating points, means over the test photos.

  Args:
    compared: {operating point: [(name of the training, its means)]}.
  """
  return markdown("operating point | trained | pooled entropy (the paper's rate) | files | PSNR | SSIM | MS-SSIM", [
      [point, name, f"{row['bits_per_pixel_pooled']:.4f}", f"{row['bits_per_pixel']:.4f}", *_qualities(row)]
      for point, rows in compared.items() for name, row in rows])


def joint_table(finetuned):
  """Markdown lines of section 6: what training on reaches, a line an operating point and stage, and joint training at the rate
  of its control (appendix A.7).

  Args:
    finetuned: dict from (operating point, beginning of the records' names) to what `records.read_stages` says.
  """
  lines, measures = [], finetuned_measures(finetuned)
  for (point, prefix), stages in finetuned.items():
    rate, name = records.rate_of(point, prefix), paper.label(point, prefix)
    for stage, (measured, runs) in stages.items():
      cells = [name, stage, *(mean_and_seeds([row[key] for row in measured[rate_distortion.OURS]], digits)
                               for key, digits in ((rate, 4), ("psnr", 2), ("ssim", 4), ("ms_ssim", 4)))]
      cells += [spread(runs["classification"], "top_1", error=True), spread(runs["classification"], "top_5")]
      lines.append(cells + [spread(runs["segmentation"], measure, error=True) for measure in measures])
    moved = records.joint_at_the_controls_rate(stages, point, prefix)
    if moved:
      lines.append([name, "joint, at the control's rate", f"{moved[rate]:.4f}", *_qualities(moved), "", "",
                    *("" for _ in measures)])
  return markdown(" | ".join(["operating point | trained on | bits/pixel | PSNR | SSIM | MS-SSIM | top-1 | top-5",
                              *(label.removesuffix(" classes [%]") for label in measures.values())]), lines)


def finetuned_measures(finetuned):
  """`records.mask_measures` of section 6."""
  return records.mask_measures({(key, stage): runs["segmentation"] for key, stages in finetuned.items()
                                for stage, (_, runs) in stages.items()})


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
