"""Photos for grafts: squares, what is kept of them, and the batches."""

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

import deepcomp_tf as dc
from deepcomp_tf.codec.inputs import NetworkInput
from deepcomp_tf.data.answers import Answers
from deepcomp_tf.data.answers import Squares
from deepcomp_tf.data.part import Part
from deepcomp_tf.tasks import halving


class _Teacher:
  """Its maps are the mean colours of 8x8 blocks, its logits the mean colour."""

  identity, class_names = "mean colours", ["red", "green", "blue"]

  segments = False

  def __init__(self):
    self.asked = 0

  def channels_at(self, cut):
    return {"blocks": 3}[cut]

  def answers(self, cut):
    def answer(pixels):
      self.asked += len(pixels)
      maps = tf.nn.avg_pool2d(tf.cast(pixels, tf.float32), 8, 8, "VALID")
      return maps, tf.reduce_mean(maps, [1, 2])

    return answer


@pytest.fixture(name="inputs", scope="module")
def fixture_inputs():
  return NetworkInput("representation", dc.Codec.load("bpp0.0983"))


@pytest.fixture(name="photos", scope="module")
def fixture_photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("photos")
  rng = np.random.default_rng(0)
  for number in range(7):
    pixels = rng.integers(0, 256, [6, 8 + number, 3], np.uint8).repeat(8, 0).repeat(8, 1)
    (folder / f"part{number % 2}").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / f"part{number % 2}/{number}.png")
  return folder


def test_squares_are_the_middles_of_photos(photos):
  squares = Squares([str(photos)], 48)
  assert len(squares) == 7 and squares.name == photos.name
  found = list(squares)
  for number, one in zip((0, 2, 4, 6, 1, 3, 5), found):
    whole = np.asarray(Image.open(photos / f"part{number % 2}/{number}.png"))
    begin = (whole.shape[1] - 48) // 2
    np.testing.assert_array_equal(one, whole[:, begin:begin + 48])
  assert {one.shape for one in Squares([str(photos)], 24)} == {(24, 24, 3)}
  identities = {Squares(names, size).identity for names, size in (
      ([str(photos)], 48), ([str(photos)], 24), ([str(photos / "part0")], 48))}
  assert len(identities) == 3


def test_answers_are_computed_once_and_are_the_teachers(photos, inputs, tmp_path):
  squares, teacher = Squares([str(photos)], 48), _Teacher()
  answers = Answers(squares, inputs, teacher, "blocks", str(tmp_path))
  again = Answers(squares, inputs, teacher, "blocks", str(tmp_path))
  assert teacher.asked == len(answers) == len(again) == 7
  for number, pixels in enumerate(squares):
    np.testing.assert_array_equal(again.stored[number], inputs.codec.model.symbols_of(pixels[np.newaxis])[0])
    blocks = pixels.reshape(6, 8, 6, 8, 3).mean((1, 3))
    np.testing.assert_allclose(again.maps[number], blocks, atol=0.1)
    np.testing.assert_allclose(again.logits[number], pixels.mean((0, 1)), atol=0.1)
  mean, deviation = answers.map_statistics()
  np.testing.assert_allclose(mean, answers.maps.astype(np.float64).mean((0, 1, 2)), rtol=1e-4)
  np.testing.assert_allclose(deviation, answers.maps.astype(np.float64).std((0, 1, 2)), rtol=1e-3)


def test_crops_are_cut_at_one_place_from_symbols_and_maps(photos, inputs, tmp_path):
  answers = Answers(Squares([str(photos)], 48), inputs, _Teacher(), "blocks", str(tmp_path))
  seen = []
  for symbols, maps, logits in answers.training_batches(3, 32, seed=1):
    assert symbols.shape == (3, 4, 4, 8) and maps.shape == (3, 4, 4, 3) and logits.shape == (3, 3)
    for one, its_maps, its_logits in zip(symbols.numpy(), maps.numpy(), logits.numpy()):
      places = [(number, top, left) for number in range(7) for top in range(3) for left in range(3)
                if np.array_equal(answers.maps[number, top:top + 4, left:left + 4], its_maps)]
      (number, top, left), = places
      np.testing.assert_array_equal(answers.stored[number, top:top + 4, left:left + 4], one)
      np.testing.assert_array_equal(answers.logits[number], its_logits)
      seen.append(number)
  assert len(seen) == len(set(seen)) == 6


def test_decoded_pixels_are_cut_where_their_maps_are(photos, inputs, tmp_path):
  squares, decoded = Squares([str(photos)], 48), NetworkInput("decoded", inputs.codec)
  answers = Answers(squares, decoded, _Teacher(), "blocks", str(tmp_path))
  pictures = [inputs.codec.decompress(inputs.codec.compress(photo)) for photo in squares]
  difference = np.abs(answers.stored.astype(int) - pictures)  # a batch's sums may be in another order
  assert difference.max() <= 1 and difference.mean() < 1e-3
  (pixels, maps, _), = answers.training_batches(7, 32, seed=1)
  assert pixels.shape == (7, 32, 32, 3) and maps.shape == (7, 4, 4, 3)
  for one, its_maps in zip(pixels.numpy(), maps.numpy()):
    (number, top, left), = [(number, top, left) for number in range(7) for top in range(3) for left in range(3)
                            if np.array_equal(answers.maps[number, top:top + 4, left:left + 4], its_maps)]
    np.testing.assert_array_equal(answers.stored[number, 8 * top:8 * top + 32, 8 * left:8 * left + 32], one)


def test_batches_follow_from_the_seed_and_the_place_in_the_run(photos, inputs, tmp_path):
  answers = Answers(Squares([str(photos)], 48), inputs, _Teacher(), "blocks", str(tmp_path))
  take = lambda *place: [[x.numpy() for x in batch] for batch in answers.training_batches(2, 32, 5, *place)]
  whole = take(1)
  assert len(whole) == 3
  for ours, expected in zip(take(1, 1), whole[1:]):
    for one, other in zip(ours, expected):
      np.testing.assert_array_equal(one, other)
  for first, second, expected in zip(take(1, 0, Part(0, 2)), take(1, 0, Part(1, 2)), whole):
    for one, other, both in zip(first, second, expected):
      np.testing.assert_array_equal(np.concatenate([one, other]), both)
  assert any(not np.array_equal(one[0], other[0]) for one, other in zip(whole, take(2)))
  sizes = [len(logits) for _, _, logits in answers.whole_batches(3)]
  assert sizes == [3, 3, 1]


def test_photos_of_several_sizes_take_turns(photos, inputs, tmp_path):
  small, large = (Answers(Squares([str(photos)], size), inputs, _Teacher(), "blocks", str(tmp_path)) for size in (32, 48))
  alone = [[[x.numpy() for x in batch] for batch in answers.training_batches(2, 32, 5)] for answers in (small, large)]
  for number, batch in enumerate(small.training_batches(2, 32, 5, beside=[large])):
    for found, expected in zip(batch, alone[number % 2][number]):
      np.testing.assert_array_equal(found, expected)
  assert number == 2


def test_views_are_parts_of_the_photos_and_are_encoded_and_answered_on_anew(inputs, tmp_path):
  """Photos of a chessboard, on which the sides of a view can be counted, whose green grows to the right."""
  columns, rows = np.meshgrid(np.arange(160), np.arange(120))
  (tmp_path / "photos").mkdir()
  for number in range(40):
    Image.fromarray(np.stack([255 * ((columns // 10 + rows // 10) % 2), columns, 0 * rows], -1).astype(np.uint8)).save(
        tmp_path / f"photos/{number:02}.png")
  views = np.stack(list(Squares([str(tmp_path / "photos")], 96, view=1)))
  assert 8 < sum(np.diff(views[..., 1].astype(np.float64), axis=2).mean((1, 2)) < 0) < 32  # mirrored
  bright = views[..., 0] > views[..., 0].mean((1, 2), keepdims=True)
  # Where the edges of the board's squares are not crossed at an angle, their number in the rows and columns of a view.
  wide, high = (np.median((np.diff(bright, axis=axis) != 0).sum(axis), axis=1) for axis in (2, 1))
  areas, ratios = (wide + 0.5) * (high + 0.5) / (16 * 12), (wide + 0.5) / (high + 0.5)
  assert 0.25 < areas.min() < 0.5 < 0.8 < areas.max() < 1.1 and 0.6 < ratios.min() < 0.9 < 1.1 < ratios.max() < 1.6
  means = views.mean((1, 2, 3))
  assert means.max() > 1.3 * means.min()  # lights
  np.testing.assert_array_equal(views, list(Squares([str(tmp_path / "photos")], 96, view=1)))
  assert len({view.tobytes() for view in [*views, *Squares([str(tmp_path / "photos")], 96, view=2)]}) == 80

  halves = next(iter(Squares([str(tmp_path / "photos")], 96, view=1).at(48))).astype(np.float64)
  assert np.abs(halves - views[0].reshape(48, 2, 48, 2, 3).mean((1, 3))).mean() < 10  # the same part
  answers = Answers(Squares([str(tmp_path / "photos")], 96, view=1), inputs, _Teacher(), "blocks", str(tmp_path / "cache"))
  np.testing.assert_allclose(answers.logits, views.mean((1, 2)), atol=0.1)
  np.testing.assert_array_equal(answers.stored[7], inputs.codec.model.symbols_of(views[7:8])[0])


def test_symbols_of_photos_at_twice_the_size_are_cut_where_the_maps_are(photos, inputs, tmp_path):
  """Smooth photos, on which the place of a crop shows: halved, the symbols are nearly those of the photo at the maps' size."""
  (tmp_path / "smooth").mkdir()
  rows, columns = np.mgrid[:96, :96].astype(np.uint8)
  for number in range(2):
    Image.fromarray(np.stack([2 * rows, 2 * columns, 255 - rows - columns][::1 - 2 * number], -1)).save(
        tmp_path / f"smooth/{number}.png")
  squares, teacher = Squares([str(tmp_path / "smooth")], 48), _Teacher()
  plain, large = (Answers(squares, inputs, teacher, "blocks", str(tmp_path), stored) for stored in (None, 96))
  assert large.stored.shape == (2, 12, 12, 8) and large.maps is not plain.maps and np.array_equal(large.maps, plain.maps)
  for number, batch in enumerate(plain.training_batches(1, 32, 5, beside=[large])):
    stored, maps, logits = batch
    assert stored.shape == ((1, 4, 4, 8), (1, 8, 8, 8))[number] and maps.shape == (1, 4, 4, 3)
    x = halving.input_for(inputs, stored, maps)
    of_photo = int(np.argmin([np.abs(its - logits[0]).sum() for its in plain.logits]))
    (top, left), = [(top, left) for top in range(3) for left in range(3)
                    if np.array_equal(plain.maps[of_photo, top:top + 4, left:left + 4], maps[0])]
    errors = {(row, column): np.mean((inputs(plain.stored[of_photo:of_photo + 1])[:, row:row + 4, column:column + 4] - x) ** 2)
              for row in range(3) for column in range(3)}
    assert min(errors, key=errors.get) == (top, left)
  assert number == 1
  for kind, stored in (("representation", 64), ("decoded", 96)):
    with pytest.raises(dc.DeepcompError, match=f"at twice that. Received: {kind} at {stored} and 48"):
      Answers(squares, NetworkInput(kind, inputs.codec), teacher, "blocks", str(tmp_path), stored)


def test_photos_that_cannot_be_read_are_left_out_of_everything(photos, inputs, tmp_path):
  for number in range(3):
    (tmp_path / "photos").mkdir(exist_ok=True)
    Image.open(photos / f"part{number % 2}/{number}.png").save(tmp_path / f"photos/{number}.png")
  (tmp_path / "photos/1.png").write_bytes(b"no picture")
  answers = Answers(Squares([str(tmp_path / "photos")], 48), inputs, _Teacher(), "blocks", str(tmp_path / "cache"))
  assert len(answers) == len(answers.stored) == len(answers.maps) == 2
  for number in (0, 2):
    (tmp_path / f"photos/{number}.png").write_bytes(b"neither")
  with pytest.raises(dc.DeepcompError, match="expected at most 5 % of the 3"):
    Answers(Squares([str(tmp_path / "photos")], 48), inputs, _Teacher(), "blocks", str(tmp_path / "cache"))


def test_places_without_photos(tmp_path):
  for names, size, message in (([str(tmp_path)], 48, "a folder with images"), (["nowhere"], 48, "a TFDS set and its split"),
                               ([str(tmp_path)], 50, "positive multiple of 8")):
    with pytest.raises(dc.DeepcompError, match=message):
      Squares(names, size)
