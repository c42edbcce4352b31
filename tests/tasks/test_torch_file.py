"""Files of torch.save, made here as PyTorch made them before 1.6."""

import collections
import io
import pickle
import struct
import sys
import types

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf.tasks.torch_file import read_tensors


def test_tensors_are_read_by_their_offsets_and_strides(torch_names):
  values = np.arange(24, dtype=np.float32)
  state = collections.OrderedDict(
      whole=_tensor(torch_names, "a", 0, (4, 6), (6, 1)), part=_tensor(torch_names, "a", 7, (2, 3), (6, 1)),
      turned=_tensor(torch_names, "a", 0, (6, 4), (1, 6)), count=_tensor(torch_names, "b", 0, (), (), "LongStorage"))
  tensors = read_tensors(_file(state, {"a": values, "b": np.array([7], np.int64)}))
  whole = values.reshape(4, 6)
  for name, expected in (("whole", whole), ("part", whole[1:3, 1:4]), ("turned", whole.T), ("count", np.array(7))):
    np.testing.assert_array_equal(tensors[name], expected)
  assert tensors["whole"].dtype == np.float32 and tensors["count"].dtype == np.int64


def test_what_a_pickle_names_is_never_called(torch_names, tmp_path):
  class Evil:
    def __reduce__(self):
      return eval, (f"open({str(tmp_path / 'called')!r}, 'w')",)

  with pytest.raises(dc.DeepcompError, match=r"it names \w+\.eval"):
    read_tensors(_file({"evil": Evil()}, {}))
  assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-5], lambda data: data[:100], lambda data: b"PK\3\4" + data])
def test_damaged_files(torch_names, damage):
  data = _file({"a": _tensor(torch_names, "a", 0, (4,), (1,))}, {"a": np.zeros(4, np.float32)})
  with pytest.raises(dc.DeepcompError, match="before PyTorch 1.6. Received: something else"):
    read_tensors(damage(data))


@pytest.mark.parametrize("offset, shape, strides", [
    (1, (4,), (1,)), (0, (2, 2), (-1, 2)), (3, (4,), (-1,)), (0, (8, 2), (-1000, 7001))])
def test_a_tensor_that_reaches_beyond_its_storage(torch_names, offset, shape, strides):
  data = _file({"a": _tensor(torch_names, "a", offset, shape, strides)}, {"a": np.zeros(4, np.float32)})
  with pytest.raises(dc.DeepcompError, match="in a storage of 4 values"):
    read_tensors(data)


@pytest.fixture(name="torch_names")
def fixture_torch_names(monkeypatch):
  """The names that such pickles use, without PyTorch."""
  torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
  for name in ("FloatStorage", "LongStorage"):
    setattr(torch, name, type(name, (), {"__module__": "torch"}))
  exec("def _rebuild_tensor_v2(*args): raise AssertionError", utils.__dict__)  # so that it belongs to that module
  utils._rebuild_tensor_v2.__module__ = "torch._utils"
  for module in (torch, utils):
    monkeypatch.setitem(sys.modules, module.__name__, module)
  return torch, utils


class _Storage:
  def __init__(self, kind, key):
    self.kind, self.key = kind, key


def _tensor(torch_names, key, offset, shape, strides, kind="FloatStorage"):
  torch, utils = torch_names

  class Tensor:
    def __reduce__(self):
      storage = _Storage(getattr(torch, kind), key)
      return utils._rebuild_tensor_v2, (storage, offset, shape, strides, False, collections.OrderedDict())

  return Tensor()


class _Pickler(pickle.Pickler):
  def persistent_id(self, obj):
    return ("storage", obj.kind, obj.key, "cpu", 0, None) if isinstance(obj, _Storage) else None


def _file(state, storages):
  file = io.BytesIO()
  for part in (0x1950a86a20f9469cfc6c, 1001, {"little_endian": True}, state, list(storages)):
    _Pickler(file, 2).dump(part)
  for values in storages.values():
    file.write(struct.pack("<q", values.size) + values.tobytes())
  return file.getvalue()
