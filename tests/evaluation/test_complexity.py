"""Multiply-adds against the figures of the paper and hand counts."""

import pytest
import tensorflow as tf

import deepcomp_tf as dc


@pytest.mark.parametrize("channels, encoder", [(32, 3.557e9), (8, 3.497e9)])
def test_encoder_and_decoder(channels, encoder):
  """The paper gives 3.56 G for the encoder; the decoder mirrors it."""
  hand = (112**2 * 25 * 3 * 64 + 56**2 * 25 * 64 * 128 + 6 * 56**2 * 9 * 128 * 128 + 28**2 * 25 * 128 * channels)
  assert dc.evaluation.multiply_adds(dc.models.Encoder(channels), (224, 224, 3)) == hand
  assert hand == pytest.approx(encoder, rel=5e-4)
  # A transposed convolution multiplies as often as the convolution that it mirrors.
  assert dc.evaluation.multiply_adds(dc.models.Decoder(channels), (28, 28, channels)) == hand


def test_papers_decoder_is_the_first_transposed_convolution_and_the_units():
  decoder = dc.models.Decoder(32)
  inner = tf.keras.Sequential([decoder.conv1, *decoder.units])
  assert dc.evaluation.multiply_adds(inner, (28, 28, 32)) == pytest.approx(2.85e9, rel=3e-3)


def test_dense_layers_and_unknown_shapes():
  network = tf.keras.Sequential([tf.keras.layers.GlobalAveragePooling2D(), tf.keras.layers.Dense(5)])
  assert dc.evaluation.multiply_adds(network, (4, 4, 7)) == 35
  with pytest.raises(dc.DeepcompError, match="shapes follow"):
    dc.evaluation.multiply_adds(tf.keras.layers.Conv2D(3, 3), (None, 8, 1))
