"""What the paper reports, for the columns beside ours."""

# G multiply-adds for 224x224 pixels, C=32: Table 1 and section 3.1, and section 4.5's 2.85 for the decoder.
MULTIPLY_ADDS = {"ResNet-50": 3.86, "ResNet-71": 5.38, "cResNet-39": 2.95, "cResNet-51": 3.83, "cResNet-72": 5.36,
                 "encoder": 3.56, "decoder": 2.85}

# Table 2, in its order. (operating point or None, network): (top-5, top-1, mIoU), in percent.
TABLE_2 = {
    (None, "ResNet-50"): (89.96, 71.06, 65.75),
    ("bpp0.635", "ResNet-50"): (88.34, 68.26, 62.97),
    ("bpp0.635", "cResNet-51"): (87.85, 67.68, 62.86),
    ("bpp0.635", "cResNet-39"): (87.47, 67.17, 61.85),
    ("bpp0.330", "ResNet-50"): (86.25, 65.18, 60.75),
    ("bpp0.330", "cResNet-51"): (85.87, 64.78, 61.12),
    ("bpp0.330", "cResNet-39"): (85.46, 64.14, 60.78),
    ("bpp0.0983", "ResNet-50"): (78.52, 55.30, 52.97),
    ("bpp0.0983", "cResNet-51"): (78.20, 55.18, 54.62),
    ("bpp0.0983", "cResNet-39"): (77.65, 54.31, 53.51),
    ("bpp0.0983", "ResNet-71"): (79.28, 56.23, 54.55),
    ("bpp0.0983", "cResNet-72"): (79.02, 55.82, 55.78)}

# ImageNet in GB, its original files (None) and compressed, section 4.5.
STORAGE_GB = {None: 144, "bpp0.635": 24.8}

# Sections 4.5 and 5.4, at 0.0983 bits per pixel: points by which decoded pixels are above the representation at equal cost, and
# G multiply-adds that they cost more at equal accuracy, without and with the decoder.
EQUAL_COST = {"top-5 accuracy": (0.25, -0.6, 2.2), "mIoU of 21 classes": (-0.7, 3.3, 6.1)}

# Section 6.2, at 0.0983 bits per pixel: points that joint training gains on its control, and percent more multiply-adds than
# cResNet-51's that a deeper network needs for as much.
JOINT_GAINS = {"classification": (2.0, 75), "segmentation": (1.7, 40)}


def label(point, prefix):
  """What an operating point of ours is called; see `records.SHIPPED` and `records.PAPER`."""
  return f"{point}, the paper's setting" if prefix else point
