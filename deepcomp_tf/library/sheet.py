"""Contact sheets of what a search found."""

import functools

from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

import deepcomp_tf as dc
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.errors import printable

import numpy as np

# Pixels of a picture's side, of the text below it, and pictures in a row.
_SIDE, _TEXT, _COLUMNS = 192, 36, 6


def contact_sheet(library, hits):
  """A PNG file of small pictures of hits, in their order, with scores, first labels and names.

  Args:
    library: a `Library`.
    hits: list of its `Hit`s.
  """
  photos = {photo.name: photo for photo in library.photos([hit.name for hit in hits])}
  codec = functools.lru_cache(maxsize=None)(dc.Codec.load)
  columns = min(_COLUMNS, len(hits))
  canvas = Image.new("RGB", (columns * (_SIDE + 8) + 8, -(-len(hits) // columns) * (_SIDE + _TEXT + 8) + 8), "white")
  draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
  for number, hit in enumerate(hits):
    left, top = 8 + number % columns * (_SIDE + 8), 8 + number // columns * (_SIDE + _TEXT + 8)
    photo = photos[hit.name]
    picture = Image.fromarray(codec(photo.operating_point).decompress(photo.data))
    picture.thumbnail((_SIDE, _SIDE))
    canvas.paste(picture, (left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
    score = "" if hit.score is None else f"{hit.score:.2f}  "
    for line, text in enumerate((score + (hit.labels[0][0] if hit.labels else ""), printable(hit.name))):
      while text and draw.textlength(text, font) > _SIDE:
        text = text[1:] if line else text[:-1]  # of a name the end tells most
      draw.text((left, top + _SIDE + 2 + 16 * line), text, "black", font)
  return encode_png(np.asarray(canvas))
