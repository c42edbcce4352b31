"""The paper's experiments as steps: the programs to run, what each rests on, and where its results lie.

`experiments.reproduce` runs them, at either scale.
"""

import itertools
import os

from absl import flags

import deepcomp_tf as dc
from deepcomp_tf.codec import operating_point
from deepcomp_tf.data import compressed
from deepcomp_tf.data import sources
from deepcomp_tf.training import flags as training_flags
from .paper_steps import is_there
from .paper_steps import point_dir
from .paper_steps import Step

FLAGS = flags.FLAGS

# The rows of Table 2. Those that the paper's claim rests on have a second seed at small scale.
ROWS = ("resnet50_original",
        "resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635",
        "cresnet39_bpp0.0983", "resnet71_bpp0.0983", "cresnet72_bpp0.0983", "cresnet39_bpp0.635",
        "resnet50_bpp0.330", "cresnet51_bpp0.330", "cresnet39_bpp0.330")
SECOND_SEED = ("resnet50_bpp0.0983", "cresnet51_bpp0.0983", "resnet50_bpp0.635", "cresnet51_bpp0.635")
# At small scale: its rows on operating points in the paper's setting, which have the paper's rates.
PAPER_ROWS = tuple(f"{network}_{point}" for point in ("bpp0.0983", "bpp0.330", "bpp0.635")
                   for network in ("resnet50", "cresnet51"))
PAPER_SECOND_SEED = PAPER_ROWS[:2]
# Validation images of the paper's scale that rate and distortion are reported on.
MEASURED = 1000
# Section 6: operating points, at small scale with two seeds each.
JOINT = ("bpp0.0983", "bpp0.635")


def plan():
  """The steps, in order."""
  small, points, papers, places = FLAGS.scale == "small", dc.operating_points.names(), {}, {}
  for point in points:
    if not small:
      yield Step(f"compression_{point}", "train_compression", *flags_of("compression", point), f"--name={point}", *images_flags(),
                 *given("data_note"), point=point)
    # The other formats' curves are the same beside every operating point.
    yield measured(point, point_dir(point), *["--curves"] * (point == points[0]), point=point)
    yield Step(f"storage_{point}", "compress_dataset", *storage_flags(point_dir(point)), point=point)
  for point in points if small else []:  # as the paper has them
    name = f"paper_setting_{point}"
    if FLAGS.paper_setting:
      places[point] = os.path.join(FLAGS.paper_setting, point)
    else:
      papers[point] = Step(name, "train_compression", *flags_of("compression", f"{point}_paper_small"), *photos_flags(),
                           *given("data_note"))
      yield papers[point]
      places[point] = papers[point].point_dir
    yield measured(name, places[point], point=point, folder=places[point], needs=papers.get(point))
  yield from table_2_and_section_6("", {point: point_dir(point) for point in points}, {}, ROWS, SECOND_SEED if small else (),
                                   scaled("{}"), scaled("schedule"), (0, 1) if small else (0,))
  if small:
    yield from table_2_and_section_6("paper_", places, papers, PAPER_ROWS, PAPER_SECOND_SEED, "{}_paper_small", "schedule", (0,))


def table_2_and_section_6(prefix, places, trained, rows, second_seed, joint, schedule, joint_seeds):
  """The steps that rest on three operating points.

  Args:
    prefix: of the steps' names.
    places: dict from operating points to their folders or names.
    trained: dict from operating points to the steps that train them, where these are needed.
    rows, second_seed: of Table 2, and those of them that have two seeds.
    joint, schedule: flagfiles of section 6, with {} for the operating point.
    joint_seeds: of section 6.
  """
  classifiers = {}

  def step(name, program, *arguments, point, needs=None, newest=False):
    return Step(prefix + name, program, *arguments, *given("data_note"), point=point, folder=places.get(point),
                needs=needs or trained.get(point), newest=newest)

  def name_of(point):
    """The name that the operating point has in its folder, or will have."""
    if is_there(places[point]):
      return operating_point.read_info(places[point])["name"]
    return trained[point].values["name"] if point in trained else point

  def classification(name, row, seed, *more, files_of=None, **of):
    point = point_of(row)
    images = [f"--dataset={set_of(files_of or name_of(point))}", f"--data_dir={sets_dir()}"] if point else images_flags()
    return step(named(name, seed), "train_classification", *row_flags("classification", row, places), *more, *images,
                f"--seed={seed}", point=point, **of)

  def segmentation(name, row, start, *more, newest=False):
    masks = [FLAGS.masks or "MASKS", f"--data_dir={sets_dir()}"] if FLAGS.scale == "small" else [
        FLAGS.masks or "voc_segmentation", *given("data_dir")]
    return step(name, "train_segmentation", *row_flags("segmentation", row, places), *more, f"--classifier={start.network_dir}",
                f"--dataset={masks[0]}", *masks[1:], point=point_of(row), needs=start, newest=newest)

  for seed, row in [(0, row) for row in rows] + [(1, row) for row in second_seed]:
    classifiers[row, seed] = classification(f"classification_{row}", row, seed)
    yield classifiers[row, seed]
  for row in rows:
    yield segmentation(f"segmentation_{row}", row, classifiers[row, 0])
  for seed, point in itertools.product(joint_seeds, JOINT):
    row, fixed = f"cresnet51_{point}", FLAGS.scale == "small" and not prefix  # Table 2's rows may rest on an earlier encoder
    start = classification(f"fixed_{point}", row, seed, newest=True) if fixed else classifiers[row, seed]
    both, control = (step(named(f"{name}_{point}", seed), "train_joint", *flags_of("joint", joint.format(point)),
                          f"--name={named(f'{point}_{prefix}{ends_in}', seed)}", f"--classifier={start.network_dir}",
                          f"--operating_point={places[point]}", *images_flags(sets=False), *photos_flags(), f"--seed={seed}",
                          *more, point=point, needs=start, newest=True)
                     for name, ends_in, more in (("joint", "joint", []), ("control", "compression_only", ["--compression_only"])))
    there = f"--operating_point={control.point_dir}"
    alone = {"files_of": control.values["name"], "newest": True}
    scratch = classification(f"control_{point}_classification", row, seed, there, needs=control, **alone)
    longer = classification(f"control_{point}_classification_longer", row, seed, there, *flags_of("joint", schedule),
                            f"--start={scratch.network_dir}", needs=scratch, **alone)
    yield from [start] * fixed + [both, control, scratch, longer]
    for name, trains in (("joint", both), ("control", control)):
      yield measured(f"{prefix}{name}_{point}", trains.point_dir, seed=seed, point=point, folder=places[point], needs=trains)
    if seed == 0:  # as the rows of Table 2
      for name, before, of in (("fixed", start, []), ("joint", both, [f"--operating_point={both.point_dir}"]),
                               ("control", longer, [there]))[0 if fixed else 1:]:
        yield segmentation(f"{name}_{point}_segmentation", row, before, *of, newest=True)


def measured(name, place, *more, seed=0, **of):
  """The step that measures rate and distortion of the operating point in a folder, or of a name (Figure 8)."""
  photos = [f"--images={FLAGS.test_photos or 'TEST_PHOTOS'}"] if FLAGS.test_photos or FLAGS.scale == "small" else [
      f"--dataset={images_name()}", f"--split=validation[:{MEASURED}]", *given("data_dir")]
  return Step(named(f"{name}_rate_distortion", seed), "evaluate", "--effort=0", *photos, f"--operating_point={place}",
              *more, **of)


def images_flags(sets=True):
  """Flags of the classification set's images, at small scale with the folder of compressed sets or without."""
  if FLAGS.scale == "small":
    return [f"--dataset={images_name()}", *[f"--data_dir={sets_dir()}"] * sets]
  return [f"--dataset={images_name()}", f"--train_split={train_split()}", *given("data_dir")]


def photos_flags():
  return [f"--images={FLAGS.photos or 'PHOTOS'}"] if FLAGS.scale == "small" else []


def given(name):
  """A flag of ours that others have, too, where it was given."""
  return [f"--{name}={FLAGS[name].value}"] if FLAGS[name].value else []


def named(name, seed):
  return name + (f"_seed{seed}" if seed else "")


def flags_of(task, name):
  """A flagfile, and --share of its steps."""
  chosen = [f"--flagfile=flags/{task}/{name}.flags"]
  if task in ("compression", "segmentation") and FLAGS.share < 1:
    steps = [flag for flag in training_flags.with_flagfiles(chosen) if flag.startswith("--steps=")]
    chosen.append(f"--steps={max(1, round(FLAGS.share * int(steps[-1].split('=')[1])))}")
  return chosen


def scaled(name):
  """Name of a flagfile for this scale, of which there are two forms."""
  return f"{name}_small" if FLAGS.scale == "small" else name


def point_of(row):
  """The operating point of a row of Table 2; None for original pixels."""
  point = row.split("_")[1]
  return None if point == "original" else point


def row_flags(task, row, places):
  """Flags of a row of Table 2: what all rows share, its network, and what that sees of a photo,
  by an operating point of `places`."""
  common = "small" if FLAGS.scale == "small" else {"classification": "imagenet", "segmentation": "voc"}[task]
  folder = places.get(point_of(row))
  return [*flags_of(task, common), f"--network={row.split('_')[0].replace('resnet', 'ResNet-')}",
          f"--input={'representation' if row.startswith('cresnet') else 'decoded' if folder else 'original'}",
          *[f"--operating_point={folder}"] * bool(folder)]


def sets_dir():
  return os.path.join(FLAGS.work_dir or "WORK", "sets")


def images_name():
  return FLAGS.images or ("IMAGES" if FLAGS.scale == "small" else "imagenet2012")


def train_split():
  """The training images of the paper's scale."""
  if FLAGS.share == 1:
    return "train"
  return f"train[:{max(1, round(FLAGS.share * sources.open_source(images_name(), 'train', FLAGS.data_dir).num_examples))}]"


def set_of(point):
  """TFDS name of the images compressed at an operating point."""
  source = os.path.basename(os.path.normpath(images_name()))
  return f"compressed_classification/{compressed.config_name(source, point)}"


def compress_flags(point):
  """Flags of compress_dataset for the classification set at an operating point."""
  images = ["--splits=train,val"] if FLAGS.scale == "small" else [
      f"--splits={train_split()},validation", "--shorter_side=256", *given("data_dir")]
  return [f"--dataset={images_name()}", *images, f"--operating_point={point}", f"--output_dir={sets_dir()}"]


def storage_flags(point):
  """Flags of compress_dataset for what a set takes beside its JPEG files of the same pixels (section 4.5): at the paper's scale
  the validation images as they are, not resized."""
  if FLAGS.scale == "small":
    return compress_flags(point)
  return [f"--dataset={images_name()}", "--splits=validation", *given("data_dir"), f"--operating_point={point}",
          f"--output_dir={storage_dir()}"]


def storage_dir():
  return sets_dir() if FLAGS.scale == "small" else os.path.join(FLAGS.work_dir or "WORK", "unresized")
