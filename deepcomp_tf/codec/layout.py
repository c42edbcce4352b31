"""What the compiled coder's kernels work on: the context model as arrays, a thread's memory, and how a map lies in it.

**The map** holds the symbols minus the origin, int32, 0 where they are not known yet. A channel is four planes: of the
even and the odd rows, and of these the even and the odd columns, each with a margin that repeats what is mirrored at the
edge. The positions of the two finest passes, three quarters of all, then fill a plane, and their neighbours at one offset
lie in another in the same order: predictions are sums of shifted planes, loops over unit strides that become vector
instructions. (What is computed for lanes on the margin is not used.) For the coarser
passes, and for maps narrower than the margin, each feature's values are copied to the tail of the map first.
"""

import collections

import numba

# Positions beyond each edge that a map's margin holds: at least the reach of the finest passes; even.
MARGIN = 4
_HALF_MARGIN = MARGIN // 2

# Positions that are predicted together, in whole rows, rounded up to whole VECTORs.
LANES = 512
VECTOR = 32

# Terms of a prediction are summed this many at a time, thresholds compared: lists of them are filled up to multiples.
TERMS = 4

jit = numba.njit(nogil=True, error_model="numpy")
# For functions that are called at one place: what is compiled apart is optimized again with each function that it is called from.
inlined = numba.njit(nogil=True, error_model="numpy", inline="always")


class ModelArrays(collections.namedtuple("ModelArrays", [
    "channels", "low", "high", "reach", "fraction_shift", "parts", "features", "mean_features", "mean_weights", "scale_features",
    "scale_weights", "thresholds", "table_steps", "cumulative"])):
  """A `ContextModel` as the kernels read it. A part is a (channel, pass); P = 7 C of them, in that order.

  channels, low, high: C, and the least and the largest symbol minus the origin.
  reach: no feature is further away than this, in rows or columns.
  fraction_shift: log2(ONE / fractions).
  parts: int64 `[P, 9]`: first and last + 1 of its features, of its mean's terms and of its scale's terms; bias of the
    mean and of the scale; how far away its features are.
  features: int64 `[., 3]`, channel, dy, dx.
  mean_features: int64, places among the part's features, where the number of features means 0; mean_weights: int32.
  scale_features: int64 `[., 2]`, likewise; scale_weights: int32.
  thresholds: int32; table_steps: number of tables a threshold stands for.
  cumulative: uint32 `[tables, 2L]`, in units of 2^-24.
  """


class Scratch(collections.namedtuple("Scratch", [
    "map", "truth", "rows", "columns", "offsets", "means", "scales", "lane_tables", "lane_bases", "stage_tables", "stage_bases",
    "stage_places", "bases", "places", "ends"])):
  """Memory of one thread, which `compiled.CompiledCoder` makes.

  map: int32, the map and its tail; truth: int32, a map to encode, laid out alike.
  rows, columns: int64, where the rows and columns of a plane lie, from `reach` before the first to `reach` behind the
    last, mirrored at the edges; -1 where context.neighbours stays at the position itself.
  offsets: uint64, where the values of a part's features begin; the last is of zeros.
  means, scales, lane_tables, lane_bases: int32, of `lanes` positions that are predicted together.
  stage_tables, stage_bases: int32; stage_places: int64, of the symbols of a stage, in the order of their positions.
  bases, places: likewise, sorted by table; ends: int64, where the symbols of each table end.
  """


def plane_side(side):
  """Rows or columns of a plane, with the margin, for `side` of the map's."""
  return (side >> 1) + MARGIN + 1


_plane_side = jit(plane_side)


@jit
def place_of(at, step, plane):
  """Where row (column) `at` of a channel lies: `step` from the next but one, `plane` between even and odd."""
  return (at & 1) * plane + ((at >> 1) + _HALF_MARGIN) * step


@jit
def geometry(height, width):
  """Elements of a plane's row, of two planes of columns, and of a channel."""
  columns = _plane_side(width)
  plane = _plane_side(height) * columns
  return columns, plane, 4 * plane
