"""Facts of the representation that every part of the library rests on, without TensorFlow."""

# The representation is this many times smaller than the image in both directions (section 3.1).
STRIDE = 8

# What a network for inference is given of a photo (section 4.4).
INPUTS = ("original", "decoded", "representation")
