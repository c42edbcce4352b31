"""The exceptions of the library; every one is also a `ValueError`."""


class DeepcompError(ValueError):
  """Something given to the library is not what it must be; the message says what was expected and what came."""


class BitstreamError(DeepcompError):
  """A compressed file is damaged, truncated, of another operating point, or not a compressed file at all."""
