"""Serving an application on a socket, until SIGTERM or Ctrl-C."""

import signal
import socket

import uvicorn

from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.serve.app import UPLOAD_SECONDS


def listen(host, port):
  """A socket bound to an address. A DeepcompError says that it cannot be had."""
  try:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(address)
  except OSError as error:
    raise DeepcompError(f"expected an address and a port that are free. Received: --host={host} --port={port} ({error.strerror})"
                        ) from None
  return bound


def run(app, bound, ready=lambda submit: None):
  """Serves an application on a bound socket until SIGTERM or Ctrl-C, and finishes what was begun.

  Args:
    app: of `make_app`.
    bound: socket.
    ready: called once requests are answered, with a function of a kind and an item, as of `Batcher.submit`.
  """
  class Server(uvicorn.Server):
    """It says when it is ready."""

    async def startup(self, sockets=None):
      await super().startup(sockets)
      host, port = bound.getsockname()[:2]
      print(f"http://{f'[{host}]' if ':' in host else host}:{port}/ (Ctrl-C ends it)", flush=True)
      ready(app.state.batcher.submit)

  signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when it has finished; then the exit code is 0
  Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=UPLOAD_SECONDS, lifespan="on")
         ).run([bound])
