"""An operating point: a trained compression network with the tables of its entropy coder, and the folder it is kept in.

  operating_point.json  its name, its architecture, how it was trained, on what, what it reached, and the statistics
                        of its representation; written last in a remote folder: without it the folder is half written
  weights.npz           float16 weights of encoder and decoder, float32 centers
  context.npz           the integer tables and coefficients of the entropy coder
  encoder1.npz, ...     float16 weights of earlier encoders, if there are any: what writes files may be trained further without
                        any change of what reads them
"""

import functools
import hashlib
import os

import numpy as np

from deepcomp_tf import files
from deepcomp_tf import shipped
from deepcomp_tf.codec.context import ContextModel
from deepcomp_tf.errors import DeepcompError

KIND = "operating point"
_CENTERS = "quantizer/centers"
_WEIGHTS, _CONTEXT, _INFO = "weights.npz", "context.npz", "operating_point.json"
_EARLIER_ENCODER = "encoder{}.npz"


class OperatingPoint:
  """What files are written and read with.

  Only `model` takes TensorFlow; everything else, and so reading the symbols of a file, works without.

  Attributes:
    name: of the operating point.
    info: dict of how it was trained, on what, and what it reached.
    channels: C.
    centers: float32 `[L]`.
    context_model: `ContextModel` of the symbols.
    fingerprint: 3 bytes made of the centers and the context model, which files bear.
    mean, deviation: float32 `[C]`, of the quantized representation's channels over the training photos. Networks are
      given it centered and scaled by them.
    encoder_version: 1 for the encoder that the tables were fitted to; higher for those that were trained further since.
    source: the name or the absolute path that it was loaded from; None where it was not.
  """

  def __init__(self, name, centers, context_model, fingerprint=b"", info=None, mean=None, deviation=None, model=None,
               weights=None, encoder_version=1, source=None):
    self.name, self.centers, self.context_model = name, np.asarray(centers, np.float32), context_model
    self.channels = context_model.channels
    self.fingerprint, self.info, self.mean, self.deviation = fingerprint, info or {}, mean, deviation
    self.encoder_version, self._weights, self.source = encoder_version, weights, source
    if model is not None:
      self.model = model

  @classmethod
  def load(cls, name, encoder_version=None):
    """The operating point of a name, see `names`, or of a folder that training wrote; see `Codec.load`.

    Raises:
      DeepcompError: there is none, or it is damaged, or has no such encoder.
    """
    folder, info = shipped.find(KIND, name), read_info(name)
    newest = newest_encoder(info)
    version = newest if encoder_version is None else encoder_version
    if version not in range(1, newest + 1):
      raise DeepcompError(f"`encoder_version` must be in 1..{newest} for {name}. Received: encoder_version={version}")
    if version < newest and not files.exists(path := _encoder_path(folder, version)):
      raise DeepcompError(f"encoder {version} of {name} is missing, which a wheel leaves out between the first and the newest: "
                          f"expected {path}, from the repository")
    try:
      arrays, weights = (files.read_arrays(os.path.join(folder, name)) for name in (_CONTEXT, _WEIGHTS))
      if version < newest:
        weights.update(files.read_arrays(_encoder_path(folder, version)))
      mean, deviation = (np.asarray(info["representation"][key], np.float32) for key in ("mean", "deviation"))
      centers = weights[_CENTERS]
      if (info["channels"], info["num_centers"]) != (len(mean), len(centers)):
        raise KeyError("channels or centers")
      return cls(info["name"], centers, ContextModel.from_arrays(arrays), fingerprint_of(centers, arrays), info, mean,
                 deviation, weights=weights, encoder_version=version, source=shipped.source(KIND, name))
    except (OSError, KeyError, ValueError) as error:
      raise DeepcompError(f"the operating point in {folder} is damaged or incomplete ({error})") from None

  @property
  def decoder_version(self):
    """1 for the decoder that was trained with the encoder; higher for those that were trained further since."""
    return decoder_version(self.info)

  def digest_of(self, part):
    """Digest of the weights of its "encoder" or "decoder", those that it was loaded with."""
    return files.digest_of(*(self._weights[key].tobytes() for key in sorted(self._weights) if key.startswith(f"{part}/")))

  @property
  def bits_per_pixel(self):
    """Of its files on the validation photos; where that was not measured, 0.330, the middle of the paper's three."""
    return self.info.get("reached_on_validation", {}).get("bits_per_pixel", 0.330)

  @functools.cached_property
  def model(self):
    """The trained `models.CompressionModel`."""
    import tensorflow as tf  # which reading symbols does not need
    from deepcomp_tf.models.compression import CompressionModel
    with tf.init_scope():  # also where it is first asked for while a graph is made
      model = CompressionModel(self.channels, len(self.centers), name="compression", dtype="float32")
      model.build([None, None, None, 3])
      try:
        for key, variable in model.named_variables().items():
          variable.assign(self._weights[key].astype(np.float32))
      except (KeyError, ValueError) as error:
        raise DeepcompError(f"the operating point {self.name} is damaged or incomplete ({error})") from None
    return model


def names() -> list[str]:
  """Names of the shipped operating points, in order of their rate."""
  return shipped.names(KIND)


def read_info(name):
  """What an operating point's JSON file says; a DeepcompError where there is none, or it is damaged."""
  path = shipped.info_path(KIND, name)
  try:
    return files.read_json(path)
  except ValueError as error:
    raise DeepcompError(f"the operating point in {os.path.dirname(path)} is damaged or incomplete ({error})") from None


def decoder_version(info):
  """Which version of its decoder an operating point has, from what `read_info` returns; 1 is the first."""
  return info.get("decoder", {}).get("version", 1)


def newest_encoder(info):
  """The version of the newest encoder of an operating point, from what `read_info` returns; 1 is the first."""
  return info.get("encoder", {}).get("version", 1)


def fingerprint(name):
  """The 3 bytes that mark files of an operating point, without reading its weights."""
  return bytes.fromhex(read_info(name)["fingerprint"])


def earlier_encoders(name):
  """The encoders of an operating point before the newest, those that are there, for `save`: dict from their versions to dicts of
  float16 arrays."""
  folder, info = shipped.find(KIND, name), read_info(name)
  return {version: files.read_arrays(path) for version in range(1, newest_encoder(info))
          if files.exists(path := _encoder_path(folder, version))}


def encoder_weights(model):
  """The weights of a model's encoder as they are kept: dict of float16 arrays."""
  return {key: weights for key, weights in _kept_weights(model).items() if key.startswith("encoder/")}


def _encoder_path(folder, version):
  return os.path.join(folder, _EARLIER_ENCODER.format(version))


def save(folder, model, context_model, info, mean, deviation, earlier=None):
  """Writes an operating point to a folder, in place of what is there.

  Args:
    folder: made where it is missing.
    model: a `CompressionModel` whose centers ascend.
    context_model: a `ContextModel` of its symbols.
    info: dict for people: name, how it was trained, what it reached.
    mean, deviation: `[C]`, see `OperatingPoint`.
    earlier: see `earlier_encoders`, where `info` says that the model's encoder is not the first.
  """
  centers = model.quantizer.centers.numpy()
  if (np.diff(centers) <= 0).any():
    raise DeepcompError("centers must ascend, so that symbols of neighbouring values are neighbours")
  arrays = context_model.to_arrays()
  weights = _kept_weights(model)
  statistics = {"mean": np.asarray(mean, np.float32).tolist(), "deviation": np.asarray(deviation, np.float32).tolist()}
  info = {**info, "channels": model.channels, "num_centers": len(centers),
          "fingerprint": fingerprint_of(weights[_CENTERS], arrays).hex(), "representation": statistics}
  with files.whole_folder(folder, last=_INFO) as new:
    np.savez_compressed(os.path.join(new, _WEIGHTS), **weights)
    np.savez_compressed(os.path.join(new, _CONTEXT), **arrays)
    for version, encoder in (earlier or {}).items():
      np.savez_compressed(os.path.join(new, _EARLIER_ENCODER.format(version)), **encoder)
    files.write_json(os.path.join(new, _INFO), info)


def round_weights(model):
  """Rounds a model's weights to the float16 that `save` keeps, so that what is measured is what is shipped."""
  variables = model.named_variables()
  for key, kept in _kept_weights(model).items():
    variables[key].assign(kept.astype(np.float32))


def _kept_weights(model):
  """The arrays of weights.npz: all of a `CompressionModel`'s except the entropy layer's."""
  return {key: variable.numpy().astype(np.float32 if key == _CENTERS else np.float16)
          for key, variable in model.named_variables().items() if not key.startswith("entropy/")}


def fingerprint_of(centers, arrays):
  """The 3 bytes of centers and of the arrays of a `ContextModel`."""
  digest = hashlib.sha256(centers.astype("<f4").tobytes())
  for key in sorted(arrays):
    digest.update(key.encode() + arrays[key].astype("<i4").tobytes())
  return digest.digest()[:3]
