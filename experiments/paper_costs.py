"""What all of the paper's experiments take on GPUs, reckoned from the multiply-adds of their networks.

  python -m experiments.paper_costs --speed=10

Goes through the plan of `experiments.reproduce --scale=paper` with its flagfiles. A training step counts as three forward
passes of what is trained and a single pass of what is fixed; reading, coding and waiting count as nothing. It is a calculation,
not a measurement: --speed is what a GPU sustains, for example 11.6 G (three times ResNet-50's 3.86 G) times the images a second
at which it trains ResNet-50. Two columns of hours compare reading compressed sets, each written once, with compressing in every
epoch.
"""

from absl import flags

import deepcomp_tf as dc
from deepcomp_tf.codec import operating_point
from deepcomp_tf.models.resnet import make_network
from deepcomp_tf.representation import STRIDE
from deepcomp_tf.training import flags as training_flags
from . import paper_plan

FLAGS = flags.FLAGS
flags.DEFINE_float("speed", 10.0, "Multiply-adds that a GPU sustains, in T a second.", lower_bound=1e-3)
flags.DEFINE_integer("gpus", 8, "GPUs of the second machine.", lower_bound=2)
flags.DEFINE_float("scaling", 0.9, "Share of its speed that a GPU keeps beside the others.", lower_bound=0.01, upper_bound=1.0)

IMAGES = {"train": 1_281_167, "validation": 50_000}  # of ImageNet
PHOTO, WHOLE_PHOTO = (256, 344), (376, 504)  # with a shorter side of 256 and as it is, 4:3, in whole 8x8 pixels
FORWARD_AND_BACK = 3

KINDS = {"compression": "operating points", "compress_dataset": "compressing ImageNet", "classification": "classification",
         "segmentation": "segmentation", "joint": "joint training and its control"}


def main(argv):
  del argv
  FLAGS.scale = "paper"
  totals = {kind: [0, 0, 0] for kind in KINDS.values()}
  counted = Counted()
  for step in paper_plan.plan():
    if step.task in KINDS:
      total = totals[KINDS[step.task]]
      for i, value in enumerate((1, *counted.costs(step))):
        total[i] += value
  totals["all"] = [sum(values) for values in zip(*totals.values())]
  print(f"{FLAGS.speed:g} T multiply-adds a second and GPU, {FLAGS.gpus} GPUs at {100 * FLAGS.scaling:.0f} % each; hours with "
        "compressed sets / without")
  print(f"{'':<34}{'runs':>6}{'P multiply-adds':>20}{'1 GPU':>18}{f'{FLAGS.gpus} GPUs':>18}")
  for kind, (runs, *costs) in totals.items():
    hours = [cost / FLAGS.speed / 1e12 / 3600 for cost in costs]
    cells = [[cost / 1e15 for cost in costs], hours, [hour / FLAGS.gpus / FLAGS.scaling for hour in hours]]
    print(f"{kind:<34}{runs:>6}" + "".join(f"{f'{with_sets:,.0f} / {without:,.0f}':>{width}}"
                                           for (with_sets, without), width in zip(cells, (20, 18, 18))))


class Counted:
  """Multiply-adds of the steps of the plan; each network is counted once for each size."""

  def __init__(self):
    self._known = {}

  def _count(self, name, make, shape):
    if (name, shape) not in self._known:
      self._known[name, shape] = dc.evaluation.multiply_adds(make(), shape)
    return self._known[name, shape]

  def _encoder(self, channels, height, width):
    return self._count(f"encoder {channels}", lambda: dc.models.Encoder(channels), (height, width, 3))

  def _decoder(self, channels, height, width):
    return self._count(f"decoder {channels}", lambda: dc.models.Decoder(channels), (height // STRIDE, width // STRIDE, channels))

  def _network(self, name, channels, edge, dilated=False):
    shape = (edge // STRIDE, edge // STRIDE, channels) if name.startswith("cResNet") else (edge, edge, 3)
    make = lambda: dc.models.DeepLab(make_network(name, None, dilated=True), 21) if dilated else make_network(name, 1000)
    return self._count(f"{name} {dilated}", make, shape)

  def costs(self, step):
    """Multiply-adds of a step with compressed sets, and without."""
    given = step.values
    channels = operating_point.read_info(step.point)["channels"] if step.point else 0
    edge, batch = (int(given.get(name, 0)) for name in ("crop_size", "batch_size"))
    if step.task == "compression":
      cost = int(given["steps"]) * batch * FORWARD_AND_BACK * (
          self._encoder(channels, edge, edge) + self._decoder(channels, edge, edge))
      return cost, cost
    if step.task == "compress_dataset":
      storage = IMAGES["validation"] * self._encoder(channels, *WHOLE_PHOTO)
      return storage + sum(IMAGES.values()) * self._encoder(channels, *PHOTO), storage
    size = int(given.get("image_size", edge))
    if step.task == "joint":
      compression = self._encoder(channels, size, size) + self._decoder(channels, size, size)
      network = self._network("cResNet-51", channels, edge)
      trained = compression + (0 if "compression_only" in given else network)
      cost = int(given["epochs"]) * (
          IMAGES["train"] * FORWARD_AND_BACK * trained + IMAGES["validation"] * (compression + network))
      return cost, cost
    network = self._network(given["network"], channels, edge, dilated=step.task == "segmentation")
    if step.task == "segmentation":
      passes = int(given["steps"]) * batch
      fixed = self._decoder(channels, edge, edge) if given["input"] == "decoded" else 0
      cost = passes * (FORWARD_AND_BACK * network + fixed)
      encoder = self._encoder(channels, edge, edge) if channels else 0
      return cost, cost + passes * encoder
    epochs = int(given["epochs"])
    cost, every = epochs * (IMAGES["train"] * FORWARD_AND_BACK + IMAGES["validation"]) * network, sum(IMAGES.values())
    # Sets hold whole photos; of photos that are compressed in every epoch a square is.
    of_set, of_photos = (self._decoder(channels, *part) if given["input"] == "decoded" else 0 for part in (PHOTO, (size, size)))
    encoder = self._encoder(channels, size, size) if channels else 0
    own_set = self._encoder(channels, *PHOTO) if step.name.startswith("control") and not step.name.endswith("longer") else 0
    return cost + every * (epochs * of_set + own_set), cost + epochs * every * (encoder + of_photos)


if __name__ == "__main__":
  training_flags.main(main)
