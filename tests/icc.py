"""Small ICC profiles made by hand, and what their colours are in sRGB by the formulas."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)

# Columns of the matrix from linear Display P3 and linear sRGB to XYZ, adapted to D50.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def _fixed(*values):
  return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def _curve(gamma):
  return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma))


def _profile(space, connection, kind, tags):
  tags = [(b"desc", b"desc\0\0\0\0" + struct.pack(">I", 2) + b"p\0" + bytes(79)), (b"cprt", b"text\0\0\0\0x\0"),
          (b"wtpt", b"XYZ \0\0\0\0" + _fixed(*D50)), *tags]
  place, table, body = 132 + 12 * len(tags), b"", b""
  for name, data in tags:
    data += bytes(-len(data) % 4)
    table += name + struct.pack(">II", place + len(body), len(data))
    body += data
  head = (bytes(4) + struct.pack(">I", 0x02100000) + kind + space + connection + bytes(12) + b"acsp" + bytes(28) + _fixed(*D50)
          + bytes(48))
  data = bytes(4) + head[:4] + head[4:] + struct.pack(">I", len(tags)) + table + body
  return struct.pack(">I", len(data)) + data[4:]


def rgb(matrix, gamma, more=0):
  """The profile of a display: columns of its primaries in XYZ, the exponent of its channels, and bytes that say nothing."""
  tags = [(name, b"XYZ \0\0\0\0" + _fixed(*column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T)]
  tags += [(name, _curve(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC")]
  noise = np.random.default_rng(0).integers(0, 256, more, np.uint8).tobytes()
  return _profile(b"RGB ", b"XYZ ", b"mntr", tags + [(b"priv", b"data\0\0\0\0" + noise)] * bool(more))


def gray(gamma):
  """The profile of a gray scale."""
  return _profile(b"GRAY", b"XYZ ", b"mntr", [(b"kTRC", _curve(gamma))])


def cmyk(colors):
  """The profile of a printer: dict of inks, such as (1, 0, 0, 0), to their Lab colours; what is not named is black."""
  grid = np.zeros([16, 3], np.uint8)
  grid[:] = 0, 128, 128
  for (c, m, y, k), (lightness, a, b) in colors.items():
    grid[8 * c + 4 * m + 2 * y + k] = round(2.55 * lightness), a + 128, b + 128
  ramp = bytes(range(256))
  table = (b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + 4 * ramp + grid.tobytes() + 3 * ramp)
  return _profile(b"CMYK", b"Lab ", b"prtr", [(b"A2B0", table), (b"A2B1", table)])


def to_srgb(colors, matrix, gamma):
  """Colours 0..255 of a display `[..., 3]` as those of sRGB, by the formulas."""
  return _encoded((np.asarray(colors, np.float64) / 255) ** gamma @ matrix.T)


def lab_to_srgb(lightness, a, b):
  """A Lab colour as that of sRGB."""
  f = np.array([(lightness + 16) / 116 + a / 500, (lightness + 16) / 116, (lightness + 16) / 116 - b / 200])
  return _encoded(np.where(f > 6 / 29, f ** 3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50)


def _encoded(xyz):
  linear = np.clip(xyz @ np.linalg.inv(SRGB).T, 0, 1)
  return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
