"""Accuracy over multiply-adds: Figure 6, and what sections 4.5 and 5.4 say of it."""

import functools
from typing import NamedTuple

import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker
import numpy as np

import deepcomp_tf as dc
from deepcomp_tf.representation import STRIDE
from . import paper
from . import paper_tables
from . import records

# Marker, line and colour of a network.
STYLES = {"ResNet-50": ("o", "-", "#c0392b"), "cResNet-51": ("s", "--", "#2980b9"), "cResNet-39": ("^", ":", "#27ae60")}

# Markers in Figure 6, where names beside points that lie close would meet.
_MARKERS = {"ResNet-50": "o", "ResNet-71": "P", "cResNet-39": "^", "cResNet-51": "s", "cResNet-72": "D"}
_COLOURS = {"decoded pixels": STYLES["ResNet-50"][2], "representation": STYLES["cResNet-51"][2]}

# Figure 6's families: what their networks read, and their names.
_FAMILIES = (("decoded pixels", ("ResNet-50", "ResNet-71")), ("representation", ("cResNet-39", "cResNet-51", "cResNet-72")))


class Panel(NamedTuple):
  """Networks at 0.0983 bits per pixel by their costs (Figure 6).

  task, measure: of the records.
  title, their_title: what is measured, with its unit, here and in the paper.
  ours, theirs: dict from what networks read to [(G multiply-adds, figure in percent, its standard error or None, name)].
  decoders: G multiply-adds of the decoder, ours at the size of our crops and theirs.
  """
  task: str
  measure: str
  title: str
  their_title: str
  ours: dict
  theirs: dict
  decoders: tuple


def panels_of_figure_6(rows, masks, networks, codec):
  """The `Panel`s of classification and segmentation. The paper's networks for segmentation stand at the costs that
  `model_complexity` counts."""
  counted = {row[0].split(",")[0]: row[3] / 1e9 for row in networks}
  wanted = [("classification", rows, "top_5", "top-5 accuracy [%]", paper.MULTIPLY_ADDS, "", 0),
            ("classification", rows, "top_1", "top-1 accuracy [%]", paper.MULTIPLY_ADDS, "", 1)]
  if any(point == "bpp0.0983" for point, _ in masks):
    dilated = {network: counted[f"{network}-d"] for _, family in _FAMILIES for network in family}
    wanted.append(("segmentation", masks, *next(iter(records.mask_measures(masks).items())), dilated, "-d", 2))
  for task, runs, name, title, costs, ending, column in wanted:
    measured = {input_: [(network, runs["bpp0.0983", network]) for network in family if ("bpp0.0983", network) in runs]
                for input_, family in _FAMILIES}
    ours = {input_: [(of[0]["multiply_adds"] / 1e9, records.mean_and_values(of, name)[0], records.standard_error(of, name),
                      network + ending) for network, of in every] for input_, every in measured.items()}
    theirs = {input_: [(costs[network], paper.TABLE_2["bpp0.0983", network][column], None, network + ending)
                       for network in family] for input_, family in _FAMILIES}
    crops = [of[0]["settings"].get("crop_size", 224) for every in measured.values() for _, of in every] or [224]
    edge = crops[0] // STRIDE
    decoder = dc.evaluation.multiply_adds(codec.model.decoder, (edge, edge, codec.channels)) / 1e9
    yield Panel(task, name, title, "mIoU of 21 classes [%]" if column == 2 else title, ours, theirs,
                (decoder, paper.MULTIPLY_ADDS["decoder"]))


def figure_6(panels, reduced):
  """Accuracy and mean IoU over multiply-adds at 0.0983 bits per pixel, decoder counted and not, ours with standard errors, and
  the paper's (Figure 6)."""
  figure = matplotlib.figure.Figure(figsize=(11, 4.2 * len(panels) + 0.5), layout="constrained")
  for axes, panel in zip(figure.subplots(len(panels), 2, squeeze=False), panels):
    for axis, curves_of, decoder in zip(axes, (panel.ours, panel.theirs), panel.decoders):
      for input_, places in curves_of.items():
        over_cost(axis, places, _COLOURS[input_], "-")
        if input_ == "decoded pixels":
          over_cost(axis, [(cost + decoder, *rest) for cost, *rest in places], _COLOURS[input_], ":")
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
    axes[1].set(title="the paper", ylabel=panel.their_title)
  line = functools.partial(matplotlib.lines.Line2D, [], [])
  drawn = [*(line(color=colour, label=input_) for input_, colour in _COLOURS.items()),
           line(color=_COLOURS["decoded pixels"], linestyle=":", label="decoded pixels, with the decoder")]
  names = [line(color=_COLOURS[input_], marker=_MARKERS[name], linestyle="", label=name)
           for input_, family in _FAMILIES for name in family]
  figure.legend(handles=[*drawn, *names], loc="outside lower center", ncols=len(drawn) + len(names), fontsize=8)
  return figure


def equal_cost_table(panels):
  """Markdown lines of sections 4.5 and 5.4: what the representation saves, from the rows, with straight lines between them.

  The paper's statements stand beside what its Table 2 gives by the same reckoning.
  """
  rows = []

  def add(name, curves_of, decoder):
    decoded, representation = ([place[:2] for place in curves_of[input_]] for input_ in ("decoded pixels", "representation"))
    higher = mean_difference(decoded, representation)
    flip = lambda places: [place[::-1] for place in places]
    dearer = mean_difference(flip(decoded), flip(representation))
    costs = ["no accuracy that both have" if dearer is None else f"{value:.2f}"
             for value in (dearer or 0, (dearer or 0) + decoder)]
    rows.append([name, "-" if higher is None else f"{higher:.2f}", *costs])

  for panel in panels:
    name, their_name = (title.removesuffix(" [%]") for title in (panel.title, panel.their_title))
    add(f"{name}, ours", panel.ours, panel.decoders[0])
    add(f"{their_name}, the paper's Table 2", panel.theirs, panel.decoders[1])
    said = paper.EQUAL_COST.get(their_name)
    if said:
      rows.append([f"{their_name}, the paper's text", *map(str, said)])
  return paper_tables.markdown(" | at equal cost, decoded pixels above the representation, points | at equal accuracy, "
                               "decoded pixels cost more, G multiply-adds | with the decoder", rows)


def worth_table(panels, stages):
  """Markdown lines of section 6.2: how much deeper than cResNet-51 a network would have to be to gain what joint training gains.

  Args:
    panels: of `panels_of_figure_6`.
    stages: of `records.read_stages` at 0.0983 bits per pixel.
  """
  rows = []

  def add(name, points, gain):
    worth = more_cost({place[3]: place for place in points["representation"]}, gain)
    rows.append([name, f"{gain:.1f}",
                 "-" if gain <= 0 else "depth gains nothing here" if worth is None else f"{100 * worth:.0f} %"])

  for panel in panels:
    name, their_name = (title.removesuffix(" [%]") for title in (panel.title, panel.their_title))
    runs = [stages[stage][1][panel.task] for stage in ("joint", "compression only") if stage in stages]
    if len(runs) == 2 and all(runs):
      joint, control = (records.mean_and_values(of, panel.measure)[0] for of in runs)
      add(f"{name}, ours", panel.ours, joint - control)
    add(f"{their_name}, the paper's Table 2", panel.theirs, paper.JOINT_GAINS[panel.task][0])
  for task, (gain, worth) in paper.JOINT_GAINS.items():
    rows.append([f"{task}, the paper's text", f"{gain:.1f}", f"{worth} %"])
  return paper_tables.markdown(" | joint training above its control, points | more multiply-adds than cResNet-51's of a "
                               "deeper network that gains as much", rows)


def more_cost(places, gain):
  """By what share a network that is better by `gain` points costs more than cResNet-51,
  on the line from there through cResNet-72.

  Args:
    places: dict from names of networks, "-d" or not, to (multiply-adds, figure, ...).

  Returns:
    None where the line does not rise.
  """
  ends = [next((place for name, place in places.items() if name.startswith(network)), None)
          for network in ("cResNet-51", "cResNet-72")]
  if None in ends or ends[1][1] <= ends[0][1]:
    return None
  (cost, figure, *_), (dearer, better, *_) = ends
  return (dearer - cost) * gain / (better - figure) / cost


def mean_difference(first, second):
  """Mean of the first line's y less the second's over the x that both have; None where there are none. Lines are lists of (x, y).

  A line goes straight from point to point. Where its x do not rise with its points' order, it has no x at all.
  """
  xs = [[x for x, _ in places] for places in (first, second)]
  if any(len(x) < 2 or x != sorted(x) for x in xs):
    return None
  low, high = max(x[0] for x in xs), min(x[-1] for x in xs)
  if low >= high:
    return None
  at = np.linspace(low, high, 1001)
  upper, lower = (np.interp(at, x, [y for _, y in places]) for x, places in zip(xs, (first, second)))
  return float(np.mean(upper - lower))


def over_cost(axis, places, colour, line):
  """A line through (multiply-adds, figure, its standard error or None, name of the network) of networks with the same input."""
  if not places:
    return
  x, y, errors, names = zip(*places)
  axis.errorbar(x, y, None if errors[0] is None else errors, linestyle=line, color=colour, capsize=4, elinewidth=1)
  for cost, figure, name in zip(x, y, names):
    axis.plot(cost, figure, _MARKERS[name.removesuffix("-d")], color=colour)
