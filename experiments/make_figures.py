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

from absl import flags

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf import samples
from deepcomp_tf.evaluation import figures
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.training import flags as training_flags
from . import cost_curves
from . import model_complexity
from . import paper_figures
from . import paper_tables
from . import records

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "docs/results", "Folder for the pictures.")
flags.DEFINE_string("page", "docs/results.md", "Markdown page for the tables.")

_TABLES = ("tables 1 and 3", "table 3", "table 2", "table 2 in the paper's setting", "cost at equal accuracy", "storage",
           "rate and distortion", "the paper's setting", "joint training", "joint training as computation")


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
  fill(FLAGS.page, "tables 1 and 3", paper_tables.tables_1_and_3(networks))
  fill(FLAGS.page, "table 3", paper_tables.table_3())
  fill(FLAGS.page, "table 2", paper_tables.table_2(rows, masks, rates_of("{}", "first_{}")))
  on_papers = records.by_network("paper_classification")
  if on_papers:
    fill(FLAGS.page, "table 2 in the paper's setting",
         paper_tables.table_2(on_papers, records.by_network("paper_segmentation"), rates_of("paper_setting_{}")))
  if records.paths("storage_*.json"):
    fill(FLAGS.page, "storage", paper_tables.storage_table(codecs))
  panels = list(cost_curves.panels_of_figure_6(rows, masks, networks, codecs[-1]))
  fill(FLAGS.page, "cost at equal accuracy", cost_curves.equal_cost_table(panels))
  reduced = next(iter(rows.values()))[0].get("scale", "small") == "small"
  photo = samples.photos()["chelsea"]
  drawn = {"figure_1": paper_figures.figure_1(codecs[1], photo), "figure_3": paper_figures.figure_3(rows),
           "figure_6": cost_curves.figure_6(panels, reduced), "figure_9": figures.representation_figure(codecs, photo)}
  if masks:
    drawn["figure_4"] = paper_figures.figure_4(masks)
    segmented = ("chelsea", "astronaut") if reduced else ("validation1", "validation2")
    drawn.update((f"figure_{number}", figure) for number, name in zip((5, 10), segmented)
                 if (figure := paper_figures.figure_5(codecs, name)))
  measured = [row for codec in codecs for row in records.rates_and_distortions(codec.operating_point)]
  if measured:
    fill(FLAGS.page, "rate and distortion", paper_tables.rate_distortion_table(measured))
    drawn["figure_8"] = figures.rate_distortion_figure(measured, "{photos}, {images} photos".format_map(measured[0]),
                                                       rate_distortion.by_the_papers_measure(codecs))
  compared = {codec.operating_point: trainings for codec in codecs
              if len(trainings := list(records.paper_setting(codec.operating_point))) == 2}
  if compared:
    fill(FLAGS.page, "the paper's setting", paper_tables.paper_setting_table(compared))
  finetuned = {(point, prefix): stages for prefix in (records.SHIPPED, records.PAPER) for point in ("bpp0.635", "bpp0.0983")
               if len(stages := records.read_stages(point, prefix)) > 1 and "fixed" in stages}
  if finetuned:
    fill(FLAGS.page, "joint training", paper_tables.joint_table(finetuned))
    fill(FLAGS.page, "joint training as computation",
         cost_curves.worth_table(panels, finetuned.get(("bpp0.0983", records.SHIPPED), {})))
    drawn.update(figure_7=paper_figures.figure_7(finetuned), figure_11=paper_figures.figure_11(finetuned))
  runtimes = [files.read_json(path) for path in records.paths("runtime_*.json")]
  if runtimes:
    drawn["figure_12"] = paper_figures.figure_12(runtimes, rows, masks, reduced)
  files.makedirs(FLAGS.output_dir)
  for name, figure in drawn.items():
    content = figure if isinstance(figure, bytes) else figures.png(figure)
    files.write_file(os.path.join(FLAGS.output_dir, f"{name}.png"), content, overwrite=True)
  print(f"Written to {FLAGS.page} and {FLAGS.output_dir}: {', '.join(sorted(drawn))}")


def rates_of(*names):
  """{operating point: means over the test photos} of what is recorded under the last of some names,
  with {} for the operating point."""
  return {point: row for point in dc.operating_points.names() for name in names
          for row in records.rates_and_distortions(name.format(point))
          if row["codec"] == rate_distortion.OURS and not row["setting"]}


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
