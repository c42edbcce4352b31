"""Rate and distortion of operating points beside JPEG, JPEG 2000, WebP and AVIF: at no more bytes, and as curves (Figure 8)."""

import csv
import io

import numpy as np

from deepcomp_tf.codec import container
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.evaluation import baselines
from deepcomp_tf.evaluation import metrics
from deepcomp_tf.threads import cores
from deepcomp_tf.threads import ordered_map

COLUMNS = ("image", "operating_point", "codec", "setting", "bytes", "bits_per_pixel", "bits_per_pixel_pooled", *metrics.NAMES)

# The columns that are text; those behind them are figures.
_TEXTS = 4

# Rows of this project's codec have this in the column `codec`.
OURS = "deepcomp"

# The factors on the weight of the bits that move our files away from an operating point, a sequence for each direction.
# Below 1/4 files hardly grow, and above 9 the next operating point's are better.
RATES = ((0.25,), (3.0, 9.0))


def measure(codecs, images, peers=tuple(baselines.FORMATS), effort=0, curves=False):
  """Rows of figures of every image, operating point and format, one image after the other.

  Args:
    codecs: list of `Codec`.
    images: iterable of (name, uint8 `[h, w, 3]`).
    peers: names of `baselines.FORMATS`; each gets the largest file not above ours.
    effort: of `Codec.encode`.
    curves: whether there are also rows of points of curves, which have a `setting`. The peers' are at their qualities,
      "quality=30", and of no operating point. Ours, with an effort above 0, are around each operating point, "rate=3" for
      example, where a search weighs the bits three times as much (`RATES`; it begins with the symbols found before, and so gets
      farther than `Codec.encode` does).

  Yields:
    lists of dicts with the keys `COLUMNS`, a list per image. Rates count every byte of the file and the pixels
    of the original image; `bits_per_pixel_pooled` is the paper's measure (entropy of one histogram), ours only.

  Raises:
    DeepcompError: effort is out of range.
  """
  for name, image in images:
    rows = [row for codec in codecs for row in _rows(codec, name, image, peers, effort, curves)]
    yield rows + list(_peers_curves(name, image, peers)) if curves else rows


def _around(effort, curves):
  """The factors of `RATES` that ours are measured at."""
  return RATES if curves and effort else ()


def keys(codecs, peers, effort, curves):
  """(operating_point, codec, setting) of the rows that `measure` gives of an image, in their order."""
  around = (f"rate={rate:g}" for rates in _around(effort, curves) for rate in rates)
  ours = [(OURS, ""), *((name, "") for name in peers), *((OURS, setting) for setting in around)]
  of_curves = ((name, rung) for name in peers for rung in baselines.FORMATS[name].curve) if curves else ()
  return [*((codec.operating_point, *key) for codec in codecs for key in ours),
          *(("", name, baselines.setting(name, rung)) for name, rung in of_curves)]


def groups_of(rows, of_each):
  """Rows as `to_csv` wrote them, a list for each image; those of an image that are not all there are left out.

  Args:
    rows: list of dicts.
    of_each: as of `keys`.

  Raises:
    DeepcompError: they are of other keys.
  """
  groups = [rows[begin:begin + len(of_each)] for begin in range(0, len(rows), len(of_each))]
  for group in groups:
    if [(row["operating_point"], row["codec"], row["setting"]) for row in group] != of_each[:len(group)]:
      raise DeepcompError("expected rows of the same operating points, formats and curves. Received: others")
  return [group for group in groups if len(group) == len(of_each)]


def _rows(codec, name, image, peers, effort, curves):
  """Of an image at one operating point: ours, the peers', and ours around it."""
  found = {"": codec.encode(image, effort)}
  for rates in _around(effort, curves):
    symbols = found[""]
    for rate in rates:
      symbols = found[f"rate={rate:g}"] = codec.improve(image, symbols, effort, rate)
  ours = {setting: container.pack(codec.fingerprint, *image.shape[:2], codec.encode_symbols(symbols))
          for setting, symbols in found.items()}

  def row(file):
    format_name, setting = file
    if format_name != OURS:
      data = baselines.encode_at_most(format_name, image, len(ours[""]))
      return _row(name, image, codec.operating_point, format_name, setting, data, baselines.decode(data))
    pooled = codec.estimated_bits(found[setting]) / (image.shape[0] * image.shape[1])
    return _row(name, image, codec.operating_point, format_name, setting, ours[setting], codec.decompress(ours[setting]), pooled)

  _, *around = found
  return _side_by_side(row, [(OURS, ""), *((format_name, "") for format_name in peers), *((OURS, setting) for setting in around)])


def _peers_curves(name, image, peers):
  """Of an image: the peers' at all qualities of their curves."""
  def row(file):
    format_name, rung = file
    data = baselines.encode(format_name, image, rung)
    return _row(name, image, "", format_name, baselines.setting(format_name, rung), data, baselines.decode(data))

  return _side_by_side(row, [(format_name, rung) for format_name in peers for rung in baselines.FORMATS[format_name].curve])


def _side_by_side(row, files_of):
  """Rows, made on all cores: the other formats' coders and SSIM run on a single core each."""
  return ordered_map(row, files_of, cores())


def _row(name, image, point, format_name, setting, data, decoded, pooled=float("nan")):
  return {"image": name, "operating_point": point, "codec": format_name, "setting": setting, "bytes": len(data),
          "bits_per_pixel": 8 * len(data) / (image.shape[0] * image.shape[1]), "bits_per_pixel_pooled": pooled,
          **metrics.distortion(image, decoded)}


def means(rows):
  """Means over the images: list of dicts with `operating_point`, `codec`, `setting` (of points of curves, else empty), `images`
  (how many), `exact` (how many of them are reproduced exactly, which the mean PSNR leaves out, see `metrics.means`) and the
  figures' means, NaN where no image has one."""
  groups = {}
  for row in rows:
    groups.setdefault((row["operating_point"], row["codec"], row.get("setting", "")), []).append(row)
  figures = COLUMNS[_TEXTS:]
  nothing = dict.fromkeys(figures, float("nan"))
  return [{"operating_point": point, "codec": format_name, "setting": setting, "images": len(group),
           "exact": metrics.exact(group), **nothing, **metrics.means([{key: row[key] for key in figures} for row in group])}
          for (point, format_name, setting), group in groups.items()]


def by_the_papers_measure(codecs):
  """Names of the operating points that were trained for the rate as the paper measures it, the entropy of one histogram."""
  return {codec.operating_point for codec in codecs
          if codec.info.get("trained", {}).get("settings", {}).get("entropy") == "pooled"}


def label(format_name):
  return baselines.FORMATS[format_name].label if format_name in baselines.FORMATS else "deepcomp_tf"


def table(summary):
  """Means as text for people, a block of lines per operating point. Points of curves are left to the picture."""
  summary = [row for row in summary if not row["setting"]]
  lines = [f"{'operating point':16} {'codec':12} {'bits/pixel':>10} {'PSNR':>7} {'SSIM':>7} {'MS-SSIM':>8}  "
           f"{'pooled entropy':>14}"]
  for row in summary:
    pooled = row["bits_per_pixel_pooled"]
    saved = "" if np.isnan(pooled) else f"{pooled:.4f} ({100 * (row['bits_per_pixel'] / pooled - 1):+.0f} %)"
    lines.append(f"{row['operating_point']:16} {label(row['codec']):12} {row['bits_per_pixel']:10.4f} "
                 f"{row['psnr']:7.2f} {row['ssim']:7.4f} {row['ms_ssim']:8.4f}  {saved:>14}")
  exact = [f"{label(row['codec'])} at {row['operating_point']} {row['exact']} of {row['images']}"
           for row in summary if row["exact"]]
  if exact:
    lines.append(f"Left out of the mean PSNR, since it is infinite, are images that are reproduced exactly: {', '.join(exact)}")
  return "\n".join(lines)


def from_csv(text):
  """The rows that `to_csv` wrote, or wrote before there were curves, without a column `setting`."""
  return [{"setting": "", **{key: value if key in COLUMNS[:_TEXTS] else float(value) for key, value in row.items()}}
          for row in csv.DictReader(io.StringIO(text))]


def to_csv(rows, header=True):
  """Rows per image as CSV text."""
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
  if header:
    writer.writeheader()
  for row in rows:
    writer.writerow({key: f"{row[key]:.6g}" if isinstance(row[key], float) else row[key] for key in COLUMNS if key in row})
  return buffer.getvalue()
