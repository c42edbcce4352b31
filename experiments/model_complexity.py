"""Multiply-adds of all networks beside the paper's figures (Tables 1 and 3, sections 3.1 and 4.5).

  python -m experiments.model_complexity
"""

from absl import app
from absl import flags

import deepcomp_tf as dc
from deepcomp_tf.layers.bottleneck import STRIDE_PLACES
from deepcomp_tf.models.compression import STRIDE
from deepcomp_tf.models.resnet import ARCHITECTURES
from deepcomp_tf.models.resnet import FILTERS
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.models.resnet import takes_representation
from experiments import paper

FLAGS = flags.FLAGS
flags.DEFINE_integer("image_size", 224, "Edge of the image in pixels, a multiple of 8.", lower_bound=8)
flags.DEFINE_integer("channels", 32, "C of the representation.", lower_bound=1)
flags.DEFINE_integer("classes", 21, "Classes of the segmentation networks.", lower_bound=1)
flags.DEFINE_enum("stride_in", "conv1", STRIDE_PLACES, "Where the networks subsample: as in Table 3 or as in TF-Slim.")


def main(argv):
  del argv
  pixels = (FLAGS.image_size, FLAGS.image_size, 3)
  representation = (FLAGS.image_size // STRIDE, FLAGS.image_size // STRIDE, FLAGS.channels)
  print(f"Multiply-adds in G, {FLAGS.image_size}x{FLAGS.image_size} pixels, C={FLAGS.channels} "
        "(the paper: 224x224, C=32)")
  print(f"{'network':<12}{'root':>6}" + "".join(f"{f'conv{i + 2}_x':>9}" for i in range(len(FILTERS)))
        + f"{'ours':>9}{'paper':>8}")
  for name, units in ARCHITECTURES.items():
    cut = takes_representation(name)
    count = dc.evaluation.multiply_adds(make_network(name, 1000, stride_in=FLAGS.stride_in),
                                        representation if cut else pixels)
    print(f"{name:<12}{'no' if cut else 'yes':>6}" + "".join(f"{n or 'none':>9}" for n in units)
          + f"{count / 1e9:>9.3f}{paper.MULTIPLY_ADDS[name]:>8.2f}")
  for name in ARCHITECTURES:
    cut = takes_representation(name)
    backbone = make_network(name, None, stride_in=FLAGS.stride_in, dilated=True)
    count = dc.evaluation.multiply_adds(dc.models.DeepLab(backbone, FLAGS.classes), representation if cut else pixels)
    print(f"{f'{name}-d, DeepLab of {FLAGS.classes} classes':<50}{count / 1e9:>9.3f}{'-':>8}")
  for name, network, shape in (("encoder", dc.models.Encoder(FLAGS.channels), pixels),
                               ("decoder", dc.models.Decoder(FLAGS.channels), representation)):
    print(f"{name:<50}{dc.evaluation.multiply_adds(network, shape) / 1e9:>9.3f}{paper.MULTIPLY_ADDS[name]:>8.2f}")
  print("The decoder counts in full; the paper's figure is that of its first convolution and its residual units.")


if __name__ == "__main__":
  app.run(main)
