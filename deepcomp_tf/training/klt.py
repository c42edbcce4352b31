"""Starting the compression network as the best linear block transform.

The encoder's architecture can represent exactly the Karhunen-Loeve transform of 8x8 RGB blocks, cut to its
first C components, and the decoder its inverse. Training that starts there learns only what a linear
transform cannot do, which takes minutes where a random start takes hours (docs/training.md).

How it fits the networks: with SAME padding, a 5x5 kernel of stride 2 covers its own 2x2 block at rows and
columns 1 and 2. The first convolution lays out the 2x2x3 pixel values v as +v and -v (24 of 64 channels),
since v = relu(v) - relu(-v); the second likewise 4x4x3 of them (96 of 128); the residual units start as the
identity; the last applies the basis vectors. The decoder does the same backwards. The channels left over
start random, and nothing depends on them yet.
"""

import itertools

import numpy as np
import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.models.compression import PIXEL_DEVIATION
from deepcomp_tf.representation import STRIDE


def block_basis(batches, channels):
  """The first components of the KLT of 8x8 RGB blocks, with variances falling: float64 `[channels, 8, 8, 3]`, orthonormal.

  `batches` is an iterable of `[batch, h, w, 3]` pixels, h and w multiples of 8; there are at most 192 components.
  """
  if channels > STRIDE * STRIDE * 3:
    raise DeepcompError(f"8x8 RGB blocks have 192 components. Received: channels={channels}")
  total, outer, count = 0.0, 0.0, 0
  for batch in batches:
    batch = np.asarray(batch, np.float64)
    n, h, w, _ = batch.shape
    blocks = batch.reshape(n, h // STRIDE, STRIDE, w // STRIDE, STRIDE, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 192)
    total = total + blocks.sum(axis=0)
    outer = outer + blocks.T @ blocks
    count += len(blocks)
  mean = total / count
  _, vectors = np.linalg.eigh(outer / count - np.outer(mean, mean))
  basis = vectors[:, ::-1].T[:channels]
  # eigh leaves the signs open; fix them so that the same photos give the same start.
  basis = basis * np.where(basis.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
  return basis.reshape(channels, STRIDE, STRIDE, 3)


def set_weights(model, basis, step):
  """Sets a built `CompressionModel`'s networks to the block transform `basis`, `[C, 8, 8, 3]`, orthonormal.

  The representation becomes (basis . (pixels - mean)) / step, so centers one apart quantize it in steps of
  `step` on the 0..255 scale. The random part of the weights is left as it is.
  """
  encoder, decoder = model.encoder, model.decoder
  analysis = basis * np.asarray(PIXEL_DEVIATION) / step
  synthesis = basis / np.asarray(PIXEL_DEVIATION) * step

  pixels = list(itertools.product(range(2), range(2), range(3)))  # dy, dx, colour
  halves = list(itertools.product(range(2), range(2), range(12)))  # dy, dx, which of `pixels`

  layers = [getattr(network, name) for network in (encoder, decoder) for name in ("conv1", "conv2", "conv3")]
  kernels = down1, down2, down3, up1, up2, up3 = [layer.kernel.numpy() for layer in layers]
  for taken in (down1[..., :24], down2[..., :96], down3, up1[..., :96, :], up2[..., :24, :], up3):
    taken[...] = 0.0
  for a, (dy, dx, colour) in enumerate(pixels):
    for sign, out in ((1.0, a), (-1.0, 12 + a)):
      down1[1 + dy, 1 + dx, colour, out] = sign
      up3[1 + dy, 1 + dx, colour, out] = sign
  for b, (ey, ex, a) in enumerate(halves):
    for sign_in, source in ((1.0, a), (-1.0, 12 + a)):
      for sign_out, out in ((1.0, b), (-1.0, 48 + b)):
        down2[1 + ey, 1 + ex, source, out] = sign_in * sign_out
        up2[1 + ey, 1 + ex, source, out] = sign_in * sign_out
    dy, dx, colour = pixels[a]
    for fy, fx in itertools.product(range(2), range(2)):
      y, x = 4 * fy + 2 * ey + dy, 4 * fx + 2 * ex + dx
      for sign, out in ((1.0, b), (-1.0, 48 + b)):
        down3[1 + fy, 1 + fx, out, :] = sign * analysis[:, y, x, colour]
        up1[1 + fy, 1 + fx, out, :] = sign * synthesis[:, y, x, colour]
  for layer, kernel in zip(layers, kernels):
    layer.kernel.assign(kernel)
    layer.bias.assign(tf.zeros_like(layer.bias))
  for unit in (*encoder.units, *decoder.units):
    for variable in (unit.conv2.kernel, unit.conv2.bias):
      variable.assign(tf.zeros_like(variable))


def centers(num_centers):
  """Centers one apart around 0, as many as asked, for a representation scaled by the quantizer step."""
  return [float(k - num_centers // 2) for k in range(num_centers)]
