"""Training the networks of an operating point further, centers and tables fixed, as `train_decoder` and `train_encoder` do."""

import os

from absl import flags
from absl import logging

from deepcomp_tf.codec import operating_point
from deepcomp_tf.data import photos
from deepcomp_tf.data.photo_files import find_photos
from deepcomp_tf.layers.naming import copy_weights
from deepcomp_tf.training import optimizers
from deepcomp_tf.training import schedules

FLAGS = flags.FLAGS

# What may differ when a run is continued.
OPERATIONAL_FLAGS = ("photos", "shrunk_photos", "validation_photos", "operating_point", "validate_every", "data_note")


def define_flags(crop_size, learning_rate):
  """The flags of both programs, with their defaults of these two."""
  flags.DEFINE_string("operating_point", None, "A name or a folder.", required=True)
  flags.DEFINE_list("photos", None, "Folders of photos to train on, and lists of paths (.txt); what is named twice counts twice.",
                    required=True)
  flags.DEFINE_list("shrunk_photos", [], "Photos that were JPEG files of low quality: only their halves are taken.")
  flags.DEFINE_list("validation_photos", None, "Folders of photos to validate on; those among --photos are held back.",
                    required=True)
  flags.DEFINE_integer("crop_size", crop_size, "Edge of the training crops in pixels, a multiple of 8.", lower_bound=8)
  flags.DEFINE_integer("steps", None, "Training steps.", required=True, lower_bound=1)
  flags.DEFINE_float("learning_rate", learning_rate, "Adam's, after a warm-up; falls as a cosine.", lower_bound=0.0)
  flags.DEFINE_float("ms_ssim", 0.0, "Weight of 1 - MS-SSIM, of some scales, beside the squared error.", lower_bound=0.0)
  flags.DEFINE_float("weight_average", 0.999, "Decay of the average of the weights that is validated and kept.", lower_bound=0.0,
                     upper_bound=0.9999)
  flags.DEFINE_integer("validate_every", 1000, "Steps between validations.", lower_bound=1)
  flags.DEFINE_string("data_note", "", "What the photos are and under which terms; written into the operating point.")


def read_photos():
  """What the flags name: paths of the photos, paths of those of which halves are taken, and the photos to validate on."""
  held_out = [path for name in FLAGS.validation_photos for path in find_photos(name)]
  paths, shrunk = ([path for name in names for path in find_photos(name) if path not in set(held_out)]
                   for names in (FLAGS.photos, FLAGS.shrunk_photos))
  return paths, shrunk, list(photos.read_photos(held_out))


def optimizer_parts(named):
  """Adam as the flags have it, for a dict of variables by their names: `parts` of `optimizers.Optimizers`."""
  rate = schedules.WarmupCosine(FLAGS.learning_rate, FLAGS.steps, warmup=min(100, FLAGS.steps // 10))
  return {"optimizer": (optimizers.averaging_adam(rate, FLAGS.weight_average), named)}


def as_kept(parts):
  """The operating point with its trained parts, networks called `encoder` or `decoder`, rounded as they would be kept."""
  point = operating_point.OperatingPoint.load(FLAGS.operating_point)
  for part in parts:
    copy_weights(part, getattr(point.model, part.name))
  operating_point.round_weights(point.model)
  return point


def export(start, point, parts, made):
  """Writes the operating point in which a run ends, its trained parts one version up, all earlier encoders beside the newest.

  `start` is the `OperatingPoint` that training began with, `point` what `as_kept` gave, `parts` the names of the trained
  networks, and `made` a dict for people of how they were trained and what they reached.
  """
  versions = {part: {"encoder": start.encoder_version, "decoder": start.decoder_version}[part] + 1 for part in parts}
  info = {**start.info, **{part: {"version": version, **made} for part, version in versions.items()}}
  earlier = operating_point.earlier_encoders(FLAGS.operating_point)
  if "encoder" in parts:
    earlier[start.encoder_version] = operating_point.encoder_weights(start.model)
  folder = os.path.join(FLAGS.run_dir, "operating_point")
  operating_point.save(folder, point.model, start.context_model, info, start.mean, start.deviation, earlier)
  logging.info("%s", ", ".join(f"{part} version {version}" for part, version in versions.items()))
