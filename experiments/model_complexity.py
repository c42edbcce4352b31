"""Multiply-adds of all networks beside the paper's figures (Tables 1 and 3, sections 3.1 and 4.5).

  python -m experiments.model_complexity
"""

from absl import flags

import deepcomp_tf as dc
from deepcomp_tf.layers.bottleneck import STRIDE_PLACES
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.models.resnet import ARCHITECTURES
from deepcomp_tf.models.resnet import FILTERS
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.models.resnet import takes_representation
from deepcomp_tf.training import flags as training_flags
from . import paper

FLAGS = flags.FLAGS
flags.DEFINE_integer("image_size", 224, "Edge of the image in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_integer("channels", 32, "C of the representation.", lower_bound=1)
flags.DEFINE_integer("classes", 21, "Classes of the segmentation networks.", lower_bound=1)
flags.DEFINE_enum("stride_in", "conv1", STRIDE_PLACES, "Where the networks subsample: as in Table 3 or as in TF-Slim.")


def main(argv):
  del argv
  print(f"Multiply-adds in G, {FLAGS.image_size}x{FLAGS.image_size} pixels, C={FLAGS.channels} "
        "(the paper: 224x224, C=32)")
  print(f"{'network':<34}{'root':>6}" + "".join(f"{f'conv{i + 2}_x':>9}" for i in range(len(FILTERS)))
        + f"{'ours':>9}{'paper':>8}")
  for name, root, units, ours, theirs in rows():
    print(f"{name:<34}{root:>6}" + "".join(f"{n:>9}" for n in units) + f"{ours / 1e9:>9.3f}{theirs:>8}")
  print("The decoder counts in full; the paper's figure is what its first convolution and its residual units come to, "
        "which it does not say.")


def rows():
  """(name, root or not, units of conv2_x to conv5_x, our multiply-adds, the paper's in G) of each network, for people."""
  pixels = (FLAGS.image_size, FLAGS.image_size, 3)
  representation = (FLAGS.image_size // STRIDE, FLAGS.image_size // STRIDE, FLAGS.channels)
  for dilated in (False, True):
    for name, units in ARCHITECTURES.items():
      network = make_network(name, None if dilated else 1000, stride_in=FLAGS.stride_in, dilated=dilated)
      if dilated:
        network = dc.models.DeepLab(network, FLAGS.classes)
      cut = takes_representation(name)
      count = dc.evaluation.multiply_adds(network, representation if cut else pixels)
      yield (f"{name}-d, DeepLab of {FLAGS.classes} classes" if dilated else name, "no" if cut else "yes",
             [str(n or "none") for n in units], count, "-" if dilated else f"{paper.MULTIPLY_ADDS[name]:.2f}")
  for name, network, shape in (("encoder", dc.models.Encoder(FLAGS.channels), pixels),
                               ("decoder", dc.models.Decoder(FLAGS.channels), representation)):
    yield name, "", [""] * len(FILTERS), dc.evaluation.multiply_adds(network, shape), f"{paper.MULTIPLY_ADDS[name]:.2f}"


if __name__ == "__main__":
  training_flags.main(main)
