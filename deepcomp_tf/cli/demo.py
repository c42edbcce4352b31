"""A page on this machine to try it all on, in a browser: `serve` with the sample photos; needs the extra 'serve'."""

import tempfile
import threading

from deepcomp_tf import samples
from deepcomp_tf.cli import serve
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.tasks import quick


def add_arguments(parser):
  """Adds the flags."""
  serve.add_port_and_limit(parser, 4)


def run(args):
  """Serves the page until it is interrupted. Returns the exit code."""
  serve.check(args)
  bound, token = serve.listen("127.0.0.1", args.port)
  from deepcomp_tf.serve import app
  from deepcomp_tf.serve import running

  with tempfile.TemporaryDirectory(prefix="deepcomp_demo") as library:
    service = serve.make_service(library, args, compiled=False, loader=quick.Loader())
    photos = {name: encode_png(photo) for name, photo in samples.photos().items()}

    ended = threading.Event()
    looks = threading.Thread(target=service.warm_up_looks, args=[lambda: not ended.is_set()])

    def ready(submit):
      for name, photo in photos.items():
        submit("add", (f"{name}.png", photo))
      looks.start()

    try:
      # No photo of that many pixels takes more bytes.
      running.run(app.make_app(service, token, 16 * service.max_pixels + 2 ** 20, show_samples=True), bound, ready)
    finally:
      ended.set()
      if looks.ident:
        looks.join()
  return 0
