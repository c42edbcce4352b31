"""Reads the tensors of a file that PyTorch's `torch.save` wrote before version 1.6, without PyTorch."""

import collections
import io
import pickle
from typing import NamedTuple

import numpy as np

from deepcomp_tf.errors import DeepcompError

_MAGIC = 0x1950a86a20f9469cfc6c
_DTYPES = {"FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16, "LongStorage": np.int64,
           "IntStorage": np.int32, "ByteStorage": np.uint8, "BoolStorage": np.bool_}


class _Storage(NamedTuple):
  key: str
  dtype: object


class _Tensor(NamedTuple):
  storage: _Storage
  offset: int
  shape: tuple
  strides: tuple


class _Unpickler(pickle.Unpickler):
  """Knows dicts of tensors and nothing else: what a pickle names is looked up here, and never imported or called."""

  def find_class(self, module, name):
    if module == "torch" and name in _DTYPES:
      return _DTYPES[name]
    known = {("collections", "OrderedDict"): collections.OrderedDict,
             ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: _Tensor(
                 storage, offset, shape, strides)}
    if (module, name) not in known:
      raise pickle.UnpicklingError(f"it names {module}.{name}, where tensors alone are expected")
    return known[module, name]

  def persistent_load(self, pid):
    _, dtype, key, *_ = pid
    return _Storage(key, dtype)


def read_tensors(data):
  """The tensors of a state dict: bytes of the file -> dict of arrays by their names.

  Raises:
    DeepcompError: it is no such file, it is damaged, or holds something else than tensors.
  """
  file = io.BytesIO(data)
  try:
    if pickle.Unpickler.load(_Unpickler(file)) != _MAGIC:
      raise pickle.UnpicklingError("it does not begin as such files do")
    for _ in ("version", "machine"):
      _Unpickler(file).load()
    state, keys = _Unpickler(file).load(), _Unpickler(file).load()
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    storages = {}
    for key in keys:
      count, dtype = int(np.frombuffer(file.read(8), "<i8")[0]), np.dtype(dtypes[key])
      storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return {name: _array(storages[tensor.storage.key], tensor) for name, tensor in state.items()}
  except (pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
    raise DeepcompError(f"expected a dict of tensors that torch.save wrote before PyTorch 1.6. Received: something else ({error})"
                        ) from None


def _array(storage, tensor):
  last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides))
  # With a stride below 0 the last value would not be the furthest. PyTorch has no such strides.
  if min(tensor.strides, default=0) < 0 or min(tensor.shape, default=1) > 0 and not 0 <= tensor.offset <= last < storage.size:
    raise ValueError(f"a tensor of shape {tensor.shape} and strides {tensor.strides} in a storage of {storage.size} values")
  return np.lib.stride_tricks.as_strided(storage[tensor.offset:], tensor.shape,
                                         [stride * storage.itemsize for stride in tensor.strides]).copy()
