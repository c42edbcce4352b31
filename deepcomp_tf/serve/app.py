"""The service over HTTP: routes, limits, the token, errors and metrics of a `service.Service`."""

import asyncio
import contextlib
import hmac
import io
import ipaddress
import json
import logging
import os
import re
import time

import fastapi
from fastapi import exceptions as fastapi_exceptions
from fastapi import responses
import prometheus_client as prometheus
from starlette import concurrency
from starlette import exceptions
from starlette import requests

import deepcomp_tf as dc
from deepcomp_tf import samples
from deepcomp_tf.codec.codec import MAX_EFFORT
from deepcomp_tf.codec.images import encode_png
from deepcomp_tf.errors import DeepcompError
from deepcomp_tf.serve import batching
from deepcomp_tf.serve import service as services

# Requests for the networks, and searches, that are served or wait at a time; more are refused.
MOST_WAITING = 32
# Jobs that go through the networks together, at most. Of looks, each takes seconds.
LARGEST_BATCH, LARGEST = 16, {"look": 1}
# Seconds for an upload to arrive, and to finish when the service ends; and those after which one who was refused may come again.
UPLOAD_SECONDS, RETRY_SECONDS = 120, 2
# The least score of a search may be anything; of hits there are at most so many.
MOST_HITS = 1000

_PAGE = os.path.join(os.path.dirname(__file__), "page.html")
_OPEN = ("/", "/health")  # without a token: neither tells anything of the library
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: "
                               "blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_UPLOAD = {"requestBody": {"required": True, "content": {"application/octet-stream": {
    "schema": {"type": "string", "format": "binary", "description": "A photo or a .deepcomp file."}}}}}
_KINDS = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class TooLong(DeepcompError):
  """An upload has too many bytes."""


class Refused(DeepcompError):
  """A request comes from a page of elsewhere."""


class NoToken(DeepcompError):
  """A request has not the token."""


_STATUS = {batching.Busy: 503, services.Missing: 404, TooLong: 413, Refused: 403, NoToken: 401}


def is_loopback(host):
  """Whether a host's name or address is that of this machine alone."""
  with contextlib.suppress(ValueError):
    return ipaddress.ip_address(host.strip("[]")).is_loopback
  return host == "localhost"


class _Metrics:
  """What /metrics tells, of one application."""

  def __init__(self, batcher):
    self.registry = registry = prometheus.CollectorRegistry()
    prometheus.ProcessCollector(registry=registry)
    self.requests = prometheus.Counter("deepcomp_requests", "Answers.", ["route", "status"], registry=registry)
    self.seconds = prometheus.Histogram("deepcomp_request_seconds", "From a request to its answer.", ["route"], registry=registry)
    self.batches = prometheus.Histogram("deepcomp_batch_size", "Requests that went through the networks together.", ["kind"],
                                        buckets=(1, 2, 4, 8, 16, 32), registry=registry)
    self.batch_seconds = prometheus.Histogram("deepcomp_batch_seconds", "What a batch took.", ["kind"], registry=registry)
    waiting = prometheus.Gauge("deepcomp_waiting", "Requests that wait for the networks.", registry=registry)
    waiting.set_function(batcher)

  def batch(self, kind, count, seconds):
    self.batches.labels(kind).observe(count)
    self.batch_seconds.labels(kind).observe(seconds)


def make_app(service, token="", max_bytes=64 << 20, show_samples=False, most_waiting=MOST_WAITING):
  """The FastAPI application.

  Args:
    service: a `service.Service`.
    token: that requests must have; empty: none, then only this machine's own page and programs may ask.
    max_bytes: longer uploads are refused.
    show_samples: whether the page offers the sample photos.
    most_waiting: see MOST_WAITING.
  """
  batcher = metrics = None
  places, searches = batching.Places(most_waiting), batching.Places(most_waiting)

  @contextlib.asynccontextmanager
  async def lifespan(app):
    nonlocal batcher, metrics
    metrics = _Metrics(lambda: len(batcher))
    largest = {kind: LARGEST.get(kind, LARGEST_BATCH) for kind in service.work}
    batcher = batching.Batcher(service.work, largest, seen=metrics.batch)
    app.state.batcher = batcher
    yield
    service.looking.close()
    await concurrency.run_in_threadpool(batcher.close)

  app = fastapi.FastAPI(title="deepcomp_tf", version=dc.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

  async def done(kind, item):
    return await asyncio.wrap_future(batcher.submit(kind, item))

  async def body(request):
    """The bytes of an upload."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes:
      raise TooLong(f"expected at most {max_bytes / 2 ** 20:g} MB. Received: more")
    received = io.BytesIO()

    async def receive():
      async for part in request.stream():
        received.write(part)
        if received.tell() > max_bytes:
          raise TooLong(f"expected at most {max_bytes / 2 ** 20:g} MB. Received: more")
    try:
      await asyncio.wait_for(receive(), UPLOAD_SECONDS)
    except (asyncio.TimeoutError, requests.ClientDisconnect):
      raise DeepcompError(f"expected an upload within {UPLOAD_SECONDS} seconds. Received: a part of one") from None
    return received.getvalue()

  def refusal(error):
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
    headers = {503: {"Retry-After": str(RETRY_SECONDS)}, 401: {"WWW-Authenticate": "Bearer"}}.get(status)
    return responses.JSONResponse({"error": str(error)}, status, headers)

  def check(request):
    """Refuses who may not ask: without the token, or, where there is none, pages of elsewhere."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if token:
      given = request.headers.get("authorization", "")
      if request.url.path not in _OPEN and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise NoToken("expected the service's token, as the header Authorization: Bearer TOKEN. Received: "
                      + ("another" if given else "none"))
    # Their requests name another host, or say where they come from.
    elif not is_loopback(re.sub(r":\d+$", "", host)) or origin not in (None, f"http://{host}"):
      raise Refused("expected a request of this machine's own page. Received: one from elsewhere")

  @app.middleware("http")
  async def around(request, call_next):
    begin = time.monotonic()
    try:
      check(request)
      response = await call_next(request)
    except DeepcompError as error:
      response = refusal(error)
    except Exception:  # said in one form, too  # pylint: disable=broad-except
      logging.getLogger("uvicorn.error").exception("a request failed")
      response = responses.JSONResponse({"error": "the service failed; its log says more"}, 500)
    for name, value in _HEADERS.items():
      response.headers.setdefault(name, value)
    route = getattr(request.scope.get("route"), "path", "none")
    metrics.requests.labels(route, response.status_code).inc()
    metrics.seconds.labels(route).observe(time.monotonic() - begin)
    return response

  @app.exception_handler(DeepcompError)
  async def refuse(request, error):
    del request
    return refusal(error)

  @app.exception_handler(exceptions.HTTPException)
  async def refuse_request(request, error):
    del request
    return responses.JSONResponse({"error": error.detail}, error.status_code, error.headers)

  @app.exception_handler(fastapi_exceptions.RequestValidationError)
  async def refuse_values(request, error):
    del request
    wrong = error.errors()[0]
    return responses.JSONResponse({"error": f"expected another value of {wrong['loc'][-1]} ({wrong['msg']}). Received: "
                                            f"{wrong.get('input')!r:.80}"}, 400)

  @app.get("/", response_class=responses.HTMLResponse, include_in_schema=False)
  def page():
    settings = {"points": dc.operating_points.names(), "first": service.points()[0], "efforts": MAX_EFFORT,
                "megapixels": service.max_pixels / 1e6, "samples": list(samples.photos()) if show_samples else [],
                "token": bool(token)}
    with open(_PAGE, encoding="utf-8") as file:
      return file.read().replace("SETTINGS", json.dumps(settings))

  @app.get("/health")
  async def health():
    """Answers once the networks are loaded."""
    return {"status": "ok", "waiting": len(batcher)}

  @app.get("/metrics", response_class=responses.PlainTextResponse)
  async def tell_metrics():
    """For Prometheus."""
    return responses.PlainTextResponse(prometheus.generate_latest(metrics.registry), media_type=prometheus.CONTENT_TYPE_LATEST)

  @app.post("/photos", openapi_extra=_UPLOAD, status_code=201)
  async def add(request: fastapi.Request, response: fastapi.Response, name: str = fastapi.Query("", max_length=300)):
    """Stores a photo or a .deepcomp file and answers with what the networks say of it, once it is in the table. 200 if it was
    there before, by its content."""
    with places:
      data = await body(request)
      stored = await done("add", (services.checked_name(name, data), data))
    response.status_code = 201 if stored["new"] else 200
    return stored

  @app.get("/photos/{photo}", response_class=responses.Response)
  async def picture(photo: str, width: int = fastapi.Query(None, ge=1, le=1 << 16),
                    format: str = fastapi.Query("jpg", pattern="^(jpg|png|webp)$")):  # pylint: disable=redefined-builtin
    """The picture in a photo's file, no wider than `width`."""
    return await cached((photo, width, format), _KINDS[format], "picture", lambda data: (data, width, format))

  @app.get("/photos/{photo}/mask", response_class=responses.Response)
  async def mask(photo: str):
    """The class of every pixel: a PNG file of ids, with their colours as its palette."""
    return await cached((photo, "mask"), "image/png", "mask", lambda data: data)

  async def cached(key, media_type, kind, item):
    file = await concurrency.run_in_threadpool(service.file, key[0])
    made = service.cached(key)
    if made is None:
      with places:
        made = await done(kind, item(file))
      service.keep(key, made)
    return responses.Response(made, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})

  @app.get("/photos/{photo}/file", response_class=responses.Response)
  def file(photo: str):
    """The bytes of a photo's .deepcomp file."""
    return responses.Response(service.file(photo), media_type="application/octet-stream", headers={
        "Content-Disposition": f'attachment; filename="{photo}.deepcomp"'})

  @app.get("/photos/{photo}/labels")
  def labels(photo: str):
    """What is known of a photo: labels, shares of the mask's classes, size, times."""
    return service.photo(photo)

  @app.get("/search")
  async def search(text: str = None, like: str = None, label: str = None, class_share: str = None, before: str = None,
                   after: str = None, top: int = fastapi.Query(20, ge=1, le=MOST_HITS), at_least: float = None):
    """Photos by words, like one (its id or name), or by filters; best first. Without text and `like` the latest first."""
    with searches:
      return {"hits": await concurrency.run_in_threadpool(
          service.search, text, like, label=label, class_share=class_share, before=before, after=after, top=top,
          at_least=at_least)}

  async def understood(request):
    with places:
      return await done("understand", await body(request))

  @app.post("/classify", openapi_extra=_UPLOAD)
  async def classify(request: fastapi.Request):
    """The most probable classes of a photo or a .deepcomp file, which is not stored."""
    answer = await understood(request)
    return {"labels": answer["labels"], "network": answer["network"]}

  @app.post("/embed", openapi_extra=_UPLOAD)
  async def embed(request: fastapi.Request):
    """The vector of a photo or a .deepcomp file, which is not stored, as the library has them. Vectors of one `space` compare."""
    answer = await understood(request)
    return {"vector": answer["vector"], "network": answer["network"], "space": answer["space"]}

  @app.post("/segment", openapi_extra=_UPLOAD, response_class=responses.Response)
  async def segment(request: fastapi.Request):
    """The mask of a photo or a .deepcomp file, which is not stored: a PNG file as of /photos/{photo}/mask."""
    with places:
      return responses.Response(await done("segment", await body(request)), media_type="image/png")

  @app.post("/look", openapi_extra=_UPLOAD, include_in_schema=False)
  async def look(request: fastapi.Request, operating_point: str = "", effort: int = fastapi.Query(0, ge=0, le=MAX_EFFORT)):
    """What the page shows of a photo at an operating point, or of a file."""
    with places:
      return await done("look", (operating_point, await body(request), effort))

  @app.get("/samples/{name}", include_in_schema=False)
  def sample(name: str):
    photos = samples.photos() if show_samples else {}
    if name not in photos:
      raise services.Missing(f"expected a sample photo, {', '.join(photos) or 'of which there are none here'}. Received: {name}")
    return responses.Response(encode_png(photos[name]), media_type="image/png")

  return app
