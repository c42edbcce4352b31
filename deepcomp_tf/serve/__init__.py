"""The service of a library over HTTP, and its page: `deepcomp serve` and `deepcomp demo`. It takes the extra `serve`.

  batching.py  requests that wait at the same time go through the networks together, on one thread; the queue is bounded
  service.py   what requests ask of a library and its networks
  looking.py   what the page shows of one photo at all operating points
  app.py       HTTP: routes, limits, the token, errors, metrics
  running.py   the application on a socket, until it is told to end
  page.html    the page
"""
