"""`reproduce` trains what is not recorded, at either scale."""

import functools
import itertools
import json
import os
import pathlib
import re
import shutil

from absl import flags
from absl.testing import flagsaver
import numpy as np
from PIL import Image
import programs
import pytest
from skimage.metrics import peak_signal_noise_ratio
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import mask_classes
from deepcomp_tf.codec import operating_point
from deepcomp_tf import samples
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.data.voc import VocSegmentation
from deepcomp_tf.files import write_file
from deepcomp_tf.evaluation import rate_distortion
from deepcomp_tf.models import resnet
from deepcomp_tf.codec.inputs import NetworkInput
from experiments import paper_plan
from experiments import paper_steps
from experiments import reproduce


@pytest.fixture(name="folders")
def fixture_folders(images, tmp_path):
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(images=str(images), work_dir=str(tmp_path / "work"), results_dir=str(tmp_path / "results")):
    yield tmp_path


def _step(point):
  return paper_steps.Step(
      "classification_row", "train_classification", "--flagfile=flags/classification/small.flags", "--network=cResNet-12",
      "--input=representation", f"--operating_point={point}", "--width=0.125", "--crop_size=32", "--batch_size=8",
      "--epochs=2", "--decay_epochs=1", f"--dataset={flags.FLAGS.images}", "--crop=representation", "--image_size=40",
      point=point)


def _execute(command, cwd=programs.ROOT, patches=()):
  """As `reproduce.execute`, with the tests' small networks."""
  code, output = programs.finish(programs.Program(command[1], command[2:], cwd=cwd, patches=patches))
  assert code == 0, output[-3000:]


@pytest.mark.slow
def test_a_step_is_recorded_once(folders, capsys, monkeypatch):
  monkeypatch.setattr(reproduce, "execute", _execute)
  step = _step("bpp0.330")
  assert step.record() is None
  reproduce.run(step)
  record = step.record()
  assert [line["epoch"] for line in record["history"]] == [1, 2] and record["settings"]["network"] == "cResNet-12"
  assert (record["operating_point"], record["settings"]["width"]) == ("bpp0.330", 0.125)
  network = dc.models.CResNet(12, 2, width=0.125)
  assert record["multiply_adds"] == dc.evaluation.multiply_adds(network, (4, 4, 16)) and record["seconds"] >= 0
  with open(step.run_dir + "/history.jsonl", "a", encoding="utf-8") as file:
    file.write('{"step": 8, "top_')  # as a kill leaves it
  assert reproduce.trained(step)["history"] == record["history"]
  reproduce.print_plan([step])
  assert re.search(r"done  classification_row: \d+ min, \S+\n", capsys.readouterr().out)
  monkeypatch.setattr(reproduce, "software", lambda: {**record["software"][-1], "commit": "another"})
  reproduce.print_plan([step])
  assert re.search(r"done  classification_row: .* \(commit was [\w-]* and is now another\)", capsys.readouterr().out)
  # The same row on other networks is left to do.
  other = _step("bpp0.0983")
  reproduce.print_plan([other])
  out = capsys.readouterr().out
  assert other.record() is None and "recorded on an earlier operating point" in out and "1 of 1" in out
  assert [path.name for path in (folders / "results").iterdir()] == ["classification_row.json"]


@pytest.mark.slow
def test_what_a_set_takes_is_recorded(folders):
  with flagsaver.flagsaver(scale="small"):
    step, = paper_steps.select(list(paper_plan.plan()), "storage_bpp0.330")
    reproduce.run(step)
    record = step.record()
    assert (record["examples"], record["skipped"], record["symbol_bytes"]) == (36, 1, 36 * 5 * 5 * 16)
    files = [path for path in pathlib.Path(flags.FLAGS.images).rglob("*") if path.is_file()]
    assert record["source_bytes"] == sum(path.stat().st_size for path in files)
    assert 36 * 16 < record["bitstream_bytes"] < record["set_bytes"]
    (folders / "results" / "storage_bpp0.330.json").unlink()
    reproduce.run(step)  # the set is there; its record is made again
    assert {**step.record(), "seconds": 0} == {**record, "seconds": 0}


def test_segmentation_starts_from_classifiers(folders, capsys):
  with flagsaver.flagsaver(scale="small"):
    steps = paper_steps.select(list(paper_plan.plan()), "^segmentation_cresnet51_bpp0.330")
    # The classifier is not there, so it is trained first.
    assert [step.name for step in steps] == ["classification_cresnet51_bpp0.330", "segmentation_cresnet51_bpp0.330"]
    assert f"--classifier={steps[0].network_dir}" in steps[1].command
    (folders / "results").mkdir()
    record = {"fingerprint": steps[0].networks["fingerprint"], "seconds": 60, "date": "2026-01-01"}
    (folders / "results" / f"{steps[0].name}.json").write_text(json.dumps(record))
    reproduce.print_plan(steps)
    assert "its network is not in --work_dir" in capsys.readouterr().out
    pathlib.Path(steps[0].network_dir).mkdir(parents=True)
    steps = paper_steps.select(list(paper_plan.plan()), "^segmentation_cresnet51_bpp0.330")
    assert [step.name for step in steps] == ["segmentation_cresnet51_bpp0.330"]
    with pytest.raises(dc.DeepcompError, match="--masks=None"):
      reproduce.check_data(steps)


def test_own_data_do_not_count_as_done_what_the_repository_has_recorded(tmp_path, capsys):
  flags.FLAGS.mark_as_parsed()
  for work_dir in (None, str(tmp_path / "work")):
    with flagsaver.flagsaver(scale="small", plan=True, work_dir=work_dir):
      flags.FLAGS["results_dir"].present = 0
      reproduce.main([])
      assert flags.FLAGS.results_dir == (os.path.join(work_dir, "results") if work_dir else "docs/results/runs")
    said = capsys.readouterr().out
    assert ("done  " in said) == (work_dir is None)


def test_the_papers_own_setting_is_trained_and_measured(folders, capsys):
  """At small scale; a shipped operating point's record is neither needed nor touched."""
  with flagsaver.flagsaver(scale="small"):
    training, measuring = paper_steps.select(list(paper_plan.plan()), "^paper_setting_bpp0.330_rate")
    assert (training.name, training.networks["fingerprint"], measuring.needs) == ("paper_setting_bpp0.330", None, training)
    assert f"--operating_point={training.run_dir}/operating_point" in measuring.command
    with pytest.raises(dc.DeepcompError, match="--photos=None"):
      reproduce.check_data([training, measuring])
    (folders / "results").mkdir()
    (folders / "results/paper_setting_bpp0.330.json").write_text(json.dumps({"fingerprint": None, "seconds": 60, "date": "-"}))
    pathlib.Path(training.result_dir).mkdir(parents=True)
    chosen = paper_steps.select(list(paper_plan.plan()), "^(paper_setting|storage)_bpp0.330")
    reproduce.print_plan(chosen)
    assert "left: 2 of 3 steps" in capsys.readouterr().out


def test_classifiers_that_are_kept_are_started_from(folders):
  """Beside the operating points in the paper's setting, where the folder of runs has none, once they are recorded."""
  kept = folders / "kept"
  shutil.copytree(programs.ROOT / "docs/results/paper_setting/bpp0.330", kept / "bpp0.330")
  (kept / "paper_classification_cresnet51_bpp0.330").mkdir()
  with flagsaver.flagsaver(scale="small", paper_setting=str(kept)):
    def planned():
      """The two steps, and the names of those that the second one takes."""
      steps = list(paper_plan.plan())
      start, segments = (next(step for step in steps if step.name == f"paper_{task}_cresnet51_bpp0.330")
                         for task in ("classification", "segmentation"))
      return start, segments, [step.name for step in paper_steps.select(steps, f"^{segments.name}$")]

    start, segments, chosen = planned()
    own = os.path.join(start.run_dir, "classifier")
    assert chosen == [start.name, segments.name] and f"--classifier={own}" in segments.command  # it is not recorded
    (folders / "results").mkdir()
    pathlib.Path(start.record_path).write_text(json.dumps(start.networks))
    start, segments, chosen = planned()
    assert chosen == [segments.name] and f"--classifier={kept / start.name}" in segments.command
    os.makedirs(own)
    assert f"--classifier={own}" in planned()[1].command


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_pictures_are_measured_anew_with_a_newer_network_and_classifiers_are_not_trained_anew(folders, monkeypatch, part):
  read_info = paper_plan.operating_point.read_info
  monkeypatch.setattr(paper_plan.operating_point, "read_info", lambda name: {
      **read_info(name), "encoder": {"version": 1}, "decoder": {"version": 1}, part: {"version": 2}})
  (folders / "results").mkdir()
  with flagsaver.flagsaver(scale="small"):
    names = "bpp0.330_rate_distortion", "classification_resnet50_bpp0.330", "joint_bpp0.635"
    steps = [step for step in paper_plan.plan() if step.name in names]
    for step in steps:
      pathlib.Path(step.record_path).write_text(json.dumps({"fingerprint": step.networks["fingerprint"]}))
    assert {step.task: step.record() is None for step in steps} == {"evaluate": True, "classification": False, "joint": True}
    for step in steps:
      pathlib.Path(step.record_path).write_text(json.dumps({"fingerprint": step.networks["fingerprint"], f"{part}_version": 2}))
    assert all(step.record() for step in steps)


def test_the_plan_of_the_paper(tmp_path):
  code, output = programs.finish(programs.start("reproduce", "--scale=paper", "--plan", f"--results_dir={tmp_path}"))
  assert code == 0, output[-3000:]
  commands = [line for line in output.splitlines() if line.startswith("python -m experiments.")]
  assert not any("_small" in line for line in commands)
  for program in ("classification", "segmentation"):  # the rows of Table 2, and the controls of section 6.1
    rows = [line for line in commands if f"train_{program}" in line]
    assert len(rows) == 12 + 4
  assert sum("train_joint" in line for line in commands) == 4
  # The operating points come first, and everything rests on them.
  trained = [number for number, line in enumerate(commands) if "train_compression" in line]
  assert len(trained) == 3 and trained[0] == 0
  for line in commands:
    if "train_classification" in line and "_original" not in line and "control_" not in line:
      # Its own operating point, and the set that was compressed at it.
      assert f"--operating_point={tmp_path}/operating_points/bpp" in line and "WORK/sets" in line
      assert "--dataset=compressed_classification/imagenet2012-bpp" in line
  code, output = programs.finish(programs.start("reproduce", "--plan", f"--results_dir={tmp_path}", "--images=SET",
                                                "--only=^classification_cresnet51"))
  assert code == 0 and "left: 5 of 5 steps" in output, output[-3000:]


class _Imagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A few small photos with the name, the version and the features of TFDS's imagenet2012."""

  name, VERSION = "imagenet2012", tfds.core.Version("5.1.0")

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
        "image": tfds.features.Image(encoding_format="jpeg"), "file_name": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=tfds.builder(self.name).info.features["label"].names)}))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples(16), "validation": self._generate_examples(6)}

  def _generate_examples(self, count):
    photos = samples.photos(120)
    for number, (name, photo) in zip(range(count), itertools.cycle(photos.items())):
      yield number, {"image": photo[:, :80 + number], "file_name": f"{name}_{number}.JPEG", "label": 250 * number % 1000}


class _Voc(VocSegmentation, skip_registration=True):
  """A few small photos as VOC 2012 with SBD."""

  name = "voc_segmentation"

  def _split_generators(self, dl_manager):
    return {split: self._examples(count) for split, count in (("train", 4), ("train_voc", 2), ("validation", 2))}

  def _examples(self, count):
    for number, photo in zip(range(count), samples.photos(96).values()):
      mask = np.zeros([*photo.shape[:2], 1], np.uint8)
      mask[8:40, 8:40] = (8, 15, 4, 5)[number]
      yield number, {"image": photo, "mask": mask, "name": str(number)}


# With learning rates at which what is hardly trained stays finite.
_FEW_STEPS = {
    "compression/bpp0.0983.flags": "--steps=8 --batch_size=2 --crop_size=32 --validation_split=validation[:2] "
                                   "--measured_split=validation[:3] --tables_from=4",
    "classification/imagenet.flags": "--width=0.125 --epochs=2 --decay_epochs=1 --batch_size=4 "
                                     "--resize=72,72 --image_size=72 --crop_size=64",
    "segmentation/voc.flags": "--steps=8 --batch_size=2 --crop_size=48 --learning_rate=1e-9 --head_learning_rate=1e-9",
    "joint/imagenet.flags": "--batch_size=4 --resize=72,72 --image_size=72 --crop_size=64 --tables_from=4 --held_out=2",
    "joint/schedule.flags": "--epochs=2 --decay_epochs=1 --learning_rate=1e-9"}


@pytest.mark.slow
def test_the_papers_scale_from_imagenet_to_the_figures(tmp_path, monkeypatch, capsys, make_figures):
  """On stand-ins of ImageNet and VOC, with few steps and small networks: all kinds of steps at one operating point."""
  small = {name: programs.SMALL_NETWORKS["ResNet-14" if units[0] else "cResNet-12"]
           for name, units in resnet.ARCHITECTURES.items()}
  monkeypatch.setattr(resnet, "ARCHITECTURES", small)
  patches = [("deepcomp_tf.models.resnet", "ARCHITECTURES", small)]
  for stand_in in (_Imagenet, _Voc):
    stand_in(data_dir=str(tmp_path / "tfds")).download_and_prepare()
  shutil.copytree(programs.ROOT / "flags", tmp_path / "flags")
  for name, few in _FEW_STEPS.items():
    with open(tmp_path / "flags" / name, "a", encoding="utf-8") as file:
      file.write("\n".join(few.split()) + "\n")
  monkeypatch.setattr(paper_plan, "MEASURED", 3)

  def reproduce_at(only, plan=False):
    with flagsaver.flagsaver(scale="paper", share=0.5, only=only, plan=plan, data_dir=str(tmp_path / "tfds"),
                             work_dir=str(tmp_path / "work")):
      reproduce.main([])
    return capsys.readouterr().out

  flags.FLAGS.mark_as_parsed()
  monkeypatch.setattr(reproduce, "execute", functools.partial(_execute, cwd=tmp_path, patches=patches))
  monkeypatch.chdir(tmp_path)
  reproduce_at("original|storage_bpp0.0983|^bpp0.0983|cresnet51_bpp0.0983|resnet50_bpp0.0983|(joint|control)_bpp0.0983")
  results = tmp_path / "work/results"
  records = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
  assert len(records) == 17 and all(record["scale"] == "paper" and record["share"] == 0.5 for record in records.values())
  # Everything rests on the operating point that was trained here, which the asked for steps need.
  trained = dc.Codec.load(str(results / "operating_points/bpp0.0983"))
  shipped = operating_point.fingerprint("bpp0.0983")
  assert trained.operating_point == "bpp0.0983" and trained.fingerprint != shipped
  assert {record["fingerprint"] for record in records.values()} == {None, trained.fingerprint.hex()}
  # Half of the photos and of the steps, read from sets that were compressed once.
  assert all(records[f"classification_{row}_bpp0.0983"]["settings"]["source"].startswith("compressed_classification/imagenet2012")
             for row in ("resnet50", "cresnet51"))
  # All rows have photos of one size, and what a set takes is told of photos as they are.
  assert records["classification_resnet50_original"]["settings"]["resize"] == ["72", "72"]
  assert records["storage_bpp0.0983"]["examples"] == 6
  whole = sum(-(-photo.shape[0] // 8) * -(-min(80 + number, photo.shape[1]) // 8) for number, photo in zip(
      range(6), itertools.cycle(samples.photos(120).values())))
  assert records["storage_bpp0.0983"]["symbol_bytes"] == 8 * whole
  assert records["classification_cresnet51_bpp0.0983"]["settings"]["epochs"] == 2
  assert records["segmentation_cresnet51_bpp0.0983"]["settings"]["steps"] == 4
  assert records["compression_bpp0.0983"]["operating_point_info"]["trained"]["steps"] == 4
  assert sorted(path.name for path in (tmp_path / "work/sets/compressed_classification").iterdir()) == [
      "imagenet2012-bpp0.0983", "imagenet2012-bpp0.0983_compression_only"]

  assert "train_segmentation" in reproduce_at("0.0983|original", plan=True)
  assert "left: 0 of" in reproduce_at("^bpp0.0983|original|(joint|control)_bpp0.0983")
  make_figures(results_dir=results, output_dir=tmp_path / "pictures", page=tmp_path / "pictures/results.md")
  page = (tmp_path / "pictures/results.md").read_text()
  # Rates are the paper's where it was trained for these; other formats have curves.
  rows = rate_distortion.from_csv((results / "joint_bpp0.0983_rate_distortion.csv").read_text())
  pooled, = (row["bits_per_pixel_pooled"] for row in rate_distortion.means(rows) if row["codec"] == rate_distortion.OURS)
  assert f"| bpp0.0983 | joint | {pooled:.4f} |" in page and records["joint_bpp0.0983_rate_distortion"]["photos"].endswith("[:3]")
  of_jpeg = {row["setting"] for row in rate_distortion.from_csv((results / "bpp0.0983_rate_distortion.csv").read_text())
             if row["codec"] == "jpeg"}
  assert len(of_jpeg) == 1 + 8
  assert re.search(r"\| 0\.0983 \| [\d.]+ \| [\d.]+ \| cResNet-51 \|", page)
  pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
  assert {f"figure_{number}.png" for number in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11)} <= pictures
  for number in (1, 2):  # beside photos of the set's own, which have true masks
    with Image.open(results / f"segmented_validation{number}_truth.png") as truth:
      assert set(np.unique(truth)) == {0, (8, 15)[number - 1]}


@pytest.mark.slow
def test_masks_and_rates_are_kept_beside_the_records(folders):
  photos = folders / "photos"
  photos.mkdir()
  photo = samples.photos(96)["chelsea"]
  write_file(photos / "cat.png", encode_png(photo))
  with flagsaver.flagsaver(scale="small", test_photos=str(photos)):
    step, = paper_steps.select(list(paper_plan.plan()), "^bpp0.330_rate_distortion")
    reproduce.run(step)
    assert step.done() and step.record()["photos"] == "photos"
  rows = rate_distortion.from_csv((folders / "results" / "bpp0.330_rate_distortion.csv").read_text())
  ours, = (row for row in rows if row["codec"] == rate_distortion.OURS)
  codec = dc.Codec.load("bpp0.330")
  data = codec.compress(photo)
  assert (ours["image"], ours["bytes"]) == ("cat.png", len(data)) and len(rows) == 5
  np.testing.assert_allclose(ours["psnr"], peak_signal_noise_ratio(photo, codec.decompress(data)), rtol=1e-4)

  network = dc.models.DeepLab(dc.models.CResNet(12, None, width=0.125, dilated=True), 3)
  segmenter = dc.Segmenter(network, NetworkInput("representation", codec), [mask_classes.VOC[i] for i in (8, 15, 0)])
  reproduce.segment_photos(step, segmenter)
  photo = samples.photos(reproduce.LONGER_SIDE)["chelsea"]
  with Image.open(folders / "results" / "bpp0.330_rate_distortion_chelsea.png") as image:
    mask = np.asarray(image)
  assert max(mask.shape) == 256
  classes = segmenter.predict(codec.encode(photo), *photo.shape[:2])
  np.testing.assert_array_equal(mask, np.array([8, 15, 0])[classes])
