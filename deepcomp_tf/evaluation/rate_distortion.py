"""Rate and distortion of operating points beside JPEG, JPEG 2000, WebP and AVIF at no more bytes."""

import csv
import io

import numpy as np

from deepcomp_tf.evaluation import baselines
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map

COLUMNS = ("image", "operating_point", "codec", "bytes", "bits_per_pixel", "bits_per_pixel_pooled", *metrics.NAMES)

# Rows of our own codec have this in the column `codec`.
OURS = "deepcomp"


def measure(codecs, images, peers=tuple(baselines.FORMATS), effort=0):
  """Rows of figures of every image, operating point and format, one image after the other.

  Args:
    codecs: list of `Codec`.
    images: iterable of (name, uint8 `[h, w, 3]`).
    peers: names of `baselines.FORMATS`; each gets the largest file not above ours.
    effort: of `Codec.encode`.

  Yields:
    lists of dicts with the keys `COLUMNS`, a list per image. Rates count every byte of the file and the pixels
    of the original image; `bits_per_pixel_pooled` is the paper's measure (entropy of one histogram), ours only.
  """
  for name, image in images:
    yield [row for codec in codecs for row in _rows(codec, name, image, peers, effort)]


def _rows(codec, name, image, peers, effort):
  """Of an image at one operating point: ours, then the peers'. They are made side by side, since TensorFlow's SSIM keeps one core
  busy, for longer than all else together."""
  pixels, ours = image.shape[0] * image.shape[1], codec.compress(image, effort)
  pooled = codec.estimated_bits(codec.symbols(ours)) / pixels

  def row(kind):
    data = ours if kind == OURS else baselines.encode_at_most(kind, image, len(ours))
    decoded = codec.decompress(data) if kind == OURS else baselines.decode(data)
    return {
        "image": name, "operating_point": codec.operating_point, "codec": kind, "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / pixels,
        "bits_per_pixel_pooled": pooled if kind == OURS else float("nan"),
        **metrics.distortion(image, decoded)}

  return ordered_map(row, (OURS, *peers), cores())


def means(rows):
  """Means over the images: list of dicts with `operating_point`, `codec`, `images` (how many), `exact` (how many of them are
  reproduced exactly, which the mean PSNR leaves out, see `metrics.means`) and the figures' means, NaN where no image has one."""
  groups = {}
  for row in rows:
    groups.setdefault((row["operating_point"], row["codec"]), []).append(row)
  figures = COLUMNS[3:]
  nothing = dict.fromkeys(figures, float("nan"))
  return [{"operating_point": point, "codec": kind, "images": len(group), "exact": metrics.exact(group), **nothing,
           **metrics.means([{key: row[key] for key in figures} for row in group])}
          for (point, kind), group in groups.items()]


def label(kind):
  return baselines.FORMATS[kind].label if kind in baselines.FORMATS else "deepcomp_tf"


def table(summary):
  """Means as text for people, a block of lines per operating point."""
  lines = [f"{'operating point':16} {'codec':12} {'bits/pixel':>10} {'PSNR':>7} {'SSIM':>7} {'MS-SSIM':>8}  "
           f"{'pooled entropy':>14}"]
  for row in summary:
    pooled = row["bits_per_pixel_pooled"]
    saved = "" if np.isnan(pooled) else f"{pooled:.4f} ({100 * (row['bits_per_pixel'] / pooled - 1):+.0f} %)"
    lines.append(f"{row['operating_point']:16} {label(row['codec']):12} {row['bits_per_pixel']:10.4f} "
                 f"{row['psnr']:7.2f} {row['ssim']:7.4f} {row['ms_ssim']:8.4f}  {saved:>14}")
  exact = [f"{label(row['codec'])} at {row['operating_point']} {row['exact']} of {row['images']}" for row in summary if row["exact"]]
  if exact:
    lines.append(f"Left out of the mean PSNR, since it is infinite, are images that are reproduced exactly: {', '.join(exact)}")
  return "\n".join(lines)


def from_csv(text):
  """The rows that `to_csv` wrote."""
  return [{key: value if key in COLUMNS[:3] else float(value) for key, value in row.items()}
          for row in csv.DictReader(io.StringIO(text))]


def to_csv(rows):
  """Rows per image as CSV text."""
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
  writer.writeheader()
  for row in rows:
    writer.writerow({key: f"{row[key]:.6g}" if isinstance(row[key], float) else row[key] for key in COLUMNS})
  return buffer.getvalue()
