"""What Keras may be set to by people who use it for other things, too."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from deepcomp_tf.keras_version import KERAS_3
from programs import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("setting, said, command", [
    ("KERAS_BACKEND=torch", "backend tensorflow. Received: KERAS_BACKEND=torch", ("deepcomp_tf.cli", "compress", "a.png")),
    ("TF_USE_LEGACY_KERAS=1", "Received: TF_USE_LEGACY_KERAS=1 without it", ("experiments.model_complexity",)),
    ("KERAS_HOME=.", "image_data_format channels_last. Received: channels_first, which ./keras.json",
     ("deepcomp_tf.cli", "compress", "a.png"))])
def test_other_settings_are_named_in_a_line(setting, said, command, tmp_path):
  name, value = setting.split("=")
  if name == "KERAS_BACKEND" and not KERAS_3:
    pytest.skip("Keras 2 has TensorFlow alone")
  if name == "TF_USE_LEGACY_KERAS" and importlib.util.find_spec("tf_keras"):
    pytest.skip("with tf_keras networks run")
  (tmp_path / "keras.json").write_text('{"floatx": "float32", "backend": "tensorflow", "image_data_format": "channels_first"}')
  Image.fromarray(np.zeros([16, 16, 3], np.uint8)).save(tmp_path / "a.png")
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", name: value}
  environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
  result = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          check=False)
  assert result.returncode == 1 and said in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
  assert not (tmp_path / "a.deepcomp").exists()
