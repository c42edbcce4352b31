"""The exceptions of the library, every one also a `ValueError`, and the messages of others."""


class DeepcompError(ValueError):
  """Something given to the library is not what it must be; the message says what was expected and what came."""


class BitstreamError(DeepcompError):
  """A compressed file is damaged, truncated, of another operating point, or not a compressed file at all."""


class UnreadableError(DeepcompError):
  """A file is missing or cannot be read, which says nothing of what is in it: it does not count as damaged."""


def one_line(error):
  """An error's message without what TensorFlow wraps around it."""
  line = (str(error).strip() or type(error).__name__).splitlines()[0]
  return line.split("}} ")[-1].split(" [Op:")[0]
