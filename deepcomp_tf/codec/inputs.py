"""What the inference networks see of a photo: its pixels, its decoded pixels, or its representation (section 4.4)."""

import tensorflow as tf

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.models.compression import PIXEL_MEAN
from deepcomp_tf.representation import INPUTS
from deepcomp_tf.representation import STRIDE


# Per channel, R, G, B: that of ImageNet that the coder's networks have, TF-Slim's VGG preprocessing's,
# and that of VOC in DeepLab's code.
PIXEL_MEANS = {"imagenet": PIXEL_MEAN, "slim": (123.68, 116.78, 103.94), "voc": (122.679, 116.669, 104.007)}


class NetworkInput:
  """From what is stored, symbols or pixels, to what a network takes.

  Args:
    kind: "original" pixels, "decoded" ones, or the "representation". Pixels are centered by their mean over a set
      (appendix A.4, A.5), the representation's channels centered and scaled by theirs over the training photos.
    codec: the operating point's `Codec`; None for original pixels.
    effort: of `Codec.encode`, for `encode`; above 0, that takes arrays, not the tensors of a graph.
    pixel_mean: one of `PIXEL_MEANS`.

  Attributes:
    channels: of what is stored: 3 for pixels, C for symbols.
    stride: pixels per position of it.
  """

  def __init__(self, kind, codec=None, effort=0, pixel_mean="imagenet"):
    if kind not in INPUTS:
      raise DeepcompError(f"`input` must be one of {', '.join(INPUTS)}. Received: input={kind!r}")
    if kind != "original" and codec is None:
      raise DeepcompError(f"`input` {kind} takes an operating point. Received: none")
    self.kind, self.codec, self.effort, self.pixel_mean = kind, codec, effort, pixel_mean
    if codec is not None:
      codec.model  # made now, on the device of the caller, not within a replica's step  # pylint: disable=pointless-statement
    self.channels, self.stride = (codec.channels, STRIDE) if kind == "representation" else (3, 1)

  def encode(self, pixels):
    """uint8 `[batch, h, w, 3]` photos -> what a file would hold of them, by the fixed networks.

    Returns:
      uint8 `[batch, ceil(h/8), ceil(w/8), C]` symbols, or `[batch, h, w, 3]` decoded pixels.
    """
    if self.kind == "original":
      return pixels
    symbols = self.codec.model.symbols_of(pixels)
    if self.effort:
      symbols = tf.stack([self.codec.improve(photo, chosen, self.effort) for photo, chosen in zip(pixels, symbols.numpy())])
    if self.kind == "representation":
      return symbols
    return self.picture(symbols)[:, :tf.shape(pixels)[1], :tf.shape(pixels)[2]]

  def picture(self, symbols):
    """uint8 `[batch, h, w, C]` symbols -> the pixels that the fixed networks make of them, uint8 `[batch, 8*h, 8*w, 3]`."""
    return self.codec.model.picture_of(symbols)

  def __call__(self, stored):
    """uint8 `[batch, h, w, channels]` pixels or symbols -> float32 network input of that shape."""
    if self.kind != "representation":
      return tf.cast(stored, tf.float32) - PIXEL_MEANS[self.pixel_mean]
    return self.normalize(self.codec.model.quantizer.values(stored))

  def normalize(self, representation):
    """Centers and scales the values of a representation, float32 `[batch, h, w, C]`."""
    return (representation - self.codec.mean) / self.codec.deviation
