"""Classes of masks: VOC's colours, files of classes, and what is wrong in them."""

import json

import pytest

import deepcomp_tf as dc
from deepcomp_tf import mask_classes


def test_colors_are_vocs():
  # Background, aeroplane, bicycle, bird, person, void, as in VOC's development kit.
  assert mask_classes.voc_colors()[[0, 1, 2, 3, 15, 255]].tolist() == [
      [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [192, 128, 128], [224, 224, 192]]
  assert mask_classes.VOC[15] == ("person", 15, (192, 128, 128)) and len(mask_classes.VOC) == 21


def test_a_file_of_classes(tmp_path):
  path = tmp_path / "classes.json"
  path.write_text('[{"id": 7, "name": "road", "color": [128, 64, 127]}, {"id": 1, "name": "car"}]')
  classes = mask_classes.read_classes(path)
  assert classes == [("road", 7, (128, 64, 127)), ("car", 1, (128, 0, 0))]
  assert mask_classes.palette(classes)[[0, 1, 7]].tolist() == [[0, 0, 0], [128, 0, 0], [128, 64, 127]]
  path.write_text(json.dumps(mask_classes.describe_classes(classes)))
  assert mask_classes.read_classes(path) == classes


@pytest.mark.parametrize("text, message", [
    ("[", "expected a JSON file of classes"), ("{}", 'expected a list of {"id": 0'), ("[]", "Received: "),
    ('[{"id": 255, "name": "road"}]', "0..254"), ('[{"id": 1}]', 'Received: {"id": 1}'), ('["road"]', 'Received: "road"'),
    ('[{"id": 1, "name": "a", "color": [0, 0, 256]}]', "256"), ('[{"id": "1", "name": "a"}]', "0..254"),
    ('[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', "each id once in .*. Received: 1 more"),
    ('[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]', "each name once in .*. Received: a more"),
])
def test_bad_files(tmp_path, text, message):
  (tmp_path / "classes.json").write_text(text)
  with pytest.raises(dc.DeepcompError, match=message):
    mask_classes.read_classes(tmp_path / "classes.json")
  with pytest.raises(dc.DeepcompError, match="nowhere.json"):
    mask_classes.read_classes(tmp_path / "nowhere.json")
