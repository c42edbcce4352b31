"""The compiled kernels against the numpy form and constriction: the same bytes, the same symbols, the same refusals."""

import concurrent.futures
import os

import constriction
import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf.codec import compiled
from deepcomp_tf.codec import container
from deepcomp_tf.codec import context
from deepcomp_tf.codec import entropy_coder
from deepcomp_tf.codec import fitting
from deepcomp_tf.codec import kernels
from deepcomp_tf.codec import layout
from deepcomp_tf.codec.entropy_coder import EntropyCoder
from deepcomp_tf.codec.entropy_coder import Job
from deepcomp_tf.errors import BitstreamError

GOLDEN = os.path.join(os.path.dirname(__file__), "golden")


@pytest.fixture(autouse=True)
def compile_first(monkeypatch):
  monkeypatch.setattr(entropy_coder, "_coded", entropy_coder.WORTH_COMPILING)


def random_model(rng, reach=3):
  """A context model of random predictors, tables, and numbers of everything."""
  channels, num_symbols = int(rng.integers(1, 6)), int(rng.choice([2, 3, 41, 256]))
  origin = int(rng.integers(0, num_symbols))

  def predictor(channel, index):
    unit = context.PASSES[index][2]
    features = [(int(rng.integers(0, channel + 1)), *(int(d) * int(rng.choice([1, unit])) for d in
                                                     rng.integers(-reach, reach + 1, 2)))
                for _ in range(rng.integers(0, 9))]
    count = int(rng.integers(0, 6)) if features else 0
    scale = int(rng.choice([3, 300]))
    return context.Predictor(
        features, rng.integers(-scale, scale + 1, len(features)).tolist(), int(rng.integers(-2000, 2000)),
        [(int(rng.integers(0, len(features))), int(rng.integers(-1, len(features)))) for _ in range(count)],
        rng.integers(-20, 200, count).tolist(), int(rng.integers(-100, 3000)))

  thresholds = sorted(rng.choice(20_000, int(rng.integers(0, 12)), replace=False).tolist())
  fractions, size = int(rng.choice([1, 2, 8])), 2 * num_symbols - 1
  distance = np.abs(np.arange(size) - num_symbols + 1)
  tables = np.empty([len(thresholds) + 1, fractions, size], np.int64)
  for table in tables.reshape(-1, size):
    shares = rng.random(size) * np.exp(-distance / rng.choice([0.05, 1, 30]))
    table[:] = 1 + shares / shares.sum() * (context.LARGEST_COUNT - size)
    table[rng.integers(0, size)] += context.TABLE_TOTAL - table.sum()
    if table.max() > context.LARGEST_COUNT:
      table[table.argmax()] -= 1100
      table[table.argmin()] += 1100
  return context.ContextModel(num_symbols, origin, [[predictor(channel, index) for index in range(len(context.PASSES))]
                                                    for channel in range(channels)], thresholds, tables)


def random_maps(rng, model, sizes):
  """Maps near the origin, as the predictions mostly are, and maps of anything."""
  maps = []
  for size in sizes:
    shape = [*size, model.channels]
    near = np.clip(np.round(rng.normal(model.origin, 2, shape)), 0, model.num_symbols - 1)
    maps.append((near if rng.random() < 0.7 else rng.integers(0, model.num_symbols, shape)).astype(np.uint8))
  return maps


def jobs_of(payloads, maps):
  """Jobs that decode whole maps, and the symbols they decode to."""
  ends = np.cumsum([m.size for m in maps])
  return ([Job(p, *m.shape[:2], 0, 0, *m.shape[:2], int(end) - m.size) for p, m, end in zip(payloads, maps, ends)],
          np.full(ends[-1], 255, np.uint8))


def check_against_reference(model, maps):
  coder, reference = EntropyCoder(model, compiled=True), EntropyCoder(model, compiled=False)
  payloads = coder.encode_batch(maps)
  assert payloads == [reference.encode(m) for m in maps]
  jobs, symbols = jobs_of(payloads, maps)
  assert coder.decode_batch(jobs, symbols) == [None] * len(maps)
  np.testing.assert_array_equal(symbols, np.concatenate([m.ravel() for m in maps]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_models_on_every_small_size(seed):
  rng = np.random.default_rng(seed)
  model = random_model(rng, reach=int(rng.integers(1, 6)))
  sizes = [(height, width) for height in range(1, 14) for width in range(1, 14)]
  check_against_reference(model, random_maps(rng, model, sizes + [(1, 40), (40, 1), (33, 19), (5, 70), (70, 5), (40, 41)]))


@pytest.mark.slow
def test_a_map_wider_than_a_block_of_lanes():
  rng = np.random.default_rng(99)
  model = random_model(rng)
  check_against_reference(model, random_maps(rng, model, [(9, 2 * layout.LANES + 70), (2 * layout.LANES + 7, 6)]))


def test_tables_are_constrictions():
  """The state of the library's encoder after one symbol tells its fixed-point probabilities."""
  rng = np.random.default_rng(1)
  tables = random_model(rng).tables.reshape(-1, random_model(np.random.default_rng(1)).tables.shape[-1])
  tables = np.concatenate([tables, fitting.flat_model(1, tables.shape[1] // 2 + 1, 0).tables.reshape(1, -1)])
  scale = ((1 << 64) - 1) >> kernels.PRECISION
  for counts, cumulative in zip(tables[:20], compiled.cumulative_counts(tables).tolist()):
    distribution = constriction.stream.model.Categorical(counts / context.TABLE_TOTAL, perfect=False)
    assert cumulative[0] == 0 and cumulative[-1] == 1 << kernels.PRECISION
    for symbol in range(len(counts)):
      encoder = constriction.stream.queue.RangeEncoder()
      encoder.encode(symbol, distribution)
      lower, extent = encoder.pos()[1]
      assert (lower, extent) == (scale * cumulative[symbol], scale * (cumulative[symbol + 1] - cumulative[symbol]))


def test_carries_are_as_constrictions():
  """Many symbols at the upper ends of their tables keep the coder's words undecided for long."""
  model = fitting.flat_model(1, 2, 0)
  model.tables[:] = [[[1 << 10, (1 << 20) - (1 << 11), 1 << 10]]]
  coder, reference = EntropyCoder(model, compiled=True), EntropyCoder(model, compiled=False)
  rng = np.random.default_rng(2)
  for _ in range(80):
    symbols = (rng.random([20, 20, 1]) < rng.choice([0.0, 0.01, 0.5, 0.99, 1.0])).astype(np.uint8)
    payload = coder.encode(symbols)
    assert payload == reference.encode(symbols)
    np.testing.assert_array_equal(coder.decode(payload, 20, 20), symbols)


@pytest.mark.parametrize("name", dc.operating_points.names())
def test_golden_files(name):
  codec = dc.Codec.load(name)
  with open(os.path.join(GOLDEN, f"{name}.deepcomp"), "rb") as file:
    data = file.read()
  with np.load(os.path.join(GOLDEN, "symbols.npz")) as golden:
    expected = golden[name]
  symbols, errors = codec.symbols_of([data, data])
  assert not errors
  for one in (*symbols, codec.symbols(data)):
    np.testing.assert_array_equal(one, expected)
  header = container.read_header(data)
  assert codec.encode_symbols(expected) == data[header.size:]


@pytest.mark.parametrize("compiled_form", [True, False])
@pytest.mark.parametrize("symbols, said", [
    (np.array([[[-1]]], np.int64), "0..1. Received: symbols in -1..-1"), (np.array([[[0], [2]]], np.uint8), "symbols in 0..2"),
    (np.array([[[256]]], np.int64), "symbols in 256..256"), (np.array([[[0.5]]]), "must be integers. Received: dtype=float64")])
def test_what_is_no_symbol_reaches_no_kernel(symbols, said, compiled_form):
  coder = EntropyCoder(fitting.flat_model(1, 2, 0), compiled=compiled_form)
  with pytest.raises(dc.DeepcompError, match=said):
    coder.encode(symbols)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads):
  rng = np.random.default_rng(7)
  model = random_model(rng)
  maps = random_maps(rng, model, [tuple(rng.integers(1, 30, 2)) for _ in range(45)])
  coder, reference = EntropyCoder(model, compiled=True), EntropyCoder(model, compiled=False)
  payloads = coder.encode_batch(maps, threads)
  assert payloads == [reference.encode(m) for m in maps]
  jobs, symbols = jobs_of(payloads, maps)
  with concurrent.futures.ThreadPoolExecutor(3) as callers:
    for errors in callers.map(lambda _: coder.decode_batch(jobs, symbols, threads), range(6)):
      assert errors == [None] * len(maps)
  np.testing.assert_array_equal(symbols, np.concatenate([m.ravel() for m in maps]))


def test_the_numpy_form_reads_in_parallel():
  """Its cache of neighbourhoods is shared by the threads."""
  rng = np.random.default_rng(8)
  model = random_model(rng)
  maps = random_maps(rng, model, [(4 + i % 7, 5 + i % 5) for i in range(120)])
  coder = EntropyCoder(model, compiled=False)
  payloads = [coder.encode(m) for m in maps]
  with concurrent.futures.ThreadPoolExecutor(8) as callers:
    for decoded, m in zip(callers.map(lambda p, m: coder.decode(p, *m.shape[:2]), payloads, maps), maps):
      np.testing.assert_array_equal(decoded, m)


@pytest.fixture(scope="module")
def codec():
  return dc.Codec.load("bpp0.0983")


@pytest.fixture(scope="module")
def files(codec):
  """Five files and their symbols; the fourth is damaged, the fifth is small."""
  rng = np.random.default_rng(3)
  shapes = [(9, 12), (20, 7), (8, 8), (11, 9), (5, 16)]
  maps = [np.clip(np.round(rng.normal(40, 1.5, [*s, codec.channels])), 0, 80).astype(np.uint8) for s in shapes]
  files = [container.pack(codec.fingerprint, 8 * m.shape[0] - 3, 8 * m.shape[1], codec.encode_symbols(m)) for m in maps]
  files[3] = files[3][:-9] + bytes([files[3][-9] ^ 4]) + files[3][-8:]
  return files, maps


@pytest.mark.parametrize("coded", [entropy_coder.WORTH_COMPILING, -1 << 40])
def test_damaged_files_are_named(codec, files, monkeypatch, coded):
  monkeypatch.setattr(entropy_coder, "_coded", coded)
  symbols, errors = codec.symbols_of(files[0])
  assert list(errors) == [3] and isinstance(errors[3], BitstreamError) and "checksum" in str(errors[3])
  assert symbols[3] is None
  for number in (0, 1, 2, 4):
    np.testing.assert_array_equal(symbols[number], files[1][number])


@pytest.mark.parametrize("coded", [entropy_coder.WORTH_COMPILING, -1 << 40])
@pytest.mark.parametrize("size,place,corners", [
    (7, None, [(1, 2), (6, 0), (0, 0)]), (7, (0, 0), [(0, 0)] * 3), (6, (0.999, 0.999), [(3, 6), (14, 1), (2, 2)])])
def test_crops(codec, files, monkeypatch, coded, size, place, corners):
  """The center and both corners; what is damaged and what is too small."""
  monkeypatch.setattr(entropy_coder, "_coded", coded)
  crops, errors = codec.crops_of(files[0], size, place and [place] * 5)
  assert crops.shape == (5, size, size, codec.channels) and errors[:3] == [None] * 3 and len(errors) == 5
  assert isinstance(errors[3], BitstreamError) and "at least" in str(errors[4]) and not crops[3:].any()
  for number, (top, left) in enumerate(corners):
    np.testing.assert_array_equal(crops[number], files[1][number][top:top + size, left:left + size])


def test_batches_of_nothing(codec, files):
  assert codec.symbols_of([]) == ([], {})
  assert codec.crops_of([], 4)[0].shape == (0, 4, 4, codec.channels)
  assert list(codec.symbols_of([files[0][3]])[1]) == [0]


@pytest.mark.parametrize("seed", range(4))
def test_damage_ends_as_in_the_reference(seed):
  """Whatever a payload is, both forms decode it to the same symbols or refuse it."""
  rng = np.random.default_rng(seed)
  model = random_model(rng)
  coder, reference = EntropyCoder(model, compiled=True), EntropyCoder(model, compiled=False)
  maps = random_maps(rng, model, [tuple(rng.integers(1, 12, 2)) for _ in range(150)])
  payloads = []
  for payload in coder.encode_batch(maps):
    kind, words = rng.integers(4), len(payload) // 4
    if kind == 0 and words:
      damaged = bytearray(payload)
      damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
      payload = bytes(damaged)
    elif kind == 1:
      payload = payload[:4 * rng.integers(words + 1)]
    elif kind == 2:
      payload = rng.bytes(4 * rng.integers(0, words + 3))
    else:
      payload = payload + rng.choice([b"", b"\xff" * 4, b"\0" * 8])
    payloads.append(payload)
  jobs, symbols = jobs_of(payloads, maps)
  errors = coder.decode_batch(jobs, symbols)
  refused = 0
  for job, error, m in zip(jobs, errors, maps):
    try:
      expected = reference.decode(job.payload, job.height, job.width)
    except BitstreamError:
      refused += 1
      assert isinstance(error, BitstreamError)
    else:
      assert error is None
      np.testing.assert_array_equal(symbols[job.begin:job.begin + m.size].reshape(m.shape), expected)
  assert 5 < refused < 150


def test_a_process_compiles_when_that_pays(monkeypatch, codec, files):
  """Not for the first file; for the second, if two are as much work as compiling."""
  symbols = files[1][0]
  monkeypatch.setattr(entropy_coder, "_coded", 0)
  monkeypatch.setattr(entropy_coder, "WORTH_COMPILING", 2 * symbols.size)
  coder, used = EntropyCoder(codec._coder.model), []
  monkeypatch.setattr(compiled.CompiledCoder, "encode", lambda self, maps, threads: used.append(maps) or [b""])
  coder.encode(symbols)
  assert not used
  coder.encode(symbols)
  assert used


def test_files_that_claim_too_much(codec, monkeypatch):
  data = container.pack(codec.fingerprint, 20_000, 20_000, b"1234")
  _, errors = codec.symbols_of([data])
  assert "at most 178956970 pixels" in str(errors[0])
  monkeypatch.setattr(container, "MAX_PIXELS", 1 << 30)
  _, errors = codec.symbols_of([data])
  assert "cannot hold" in str(errors[0])
