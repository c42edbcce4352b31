"""The command as people run it: refused in a line, ended by a signal, killed."""

import http.client
import json
import pathlib
import re
import signal
import socket
import threading
import time
import urllib.parse

import numpy as np
import pytest

import deepcomp_tf as dc
from deepcomp_tf.codec.images import encode_png
import programs

for package in ("fastapi", "lancedb", "prometheus_client", "uvicorn"):
  pytest.importorskip(package, reason="the extra serve is not installed")
GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FLAGS = [f"--operating_point={GOLDEN}/operating_point", f"--network={GOLDEN}/classifier", "--port=0"]


def _start(library):
  """(program, address) of a service that is ready; its entropy coder is not compiled."""
  program = programs.Program("deepcomp_tf.cli", ["serve", library, *FLAGS],
                             patches=[("deepcomp_tf.codec.entropy_coder", "warm_up", dict)])
  programs.wait_until(lambda: "http://" in program.output, program)
  return program, urllib.parse.urlsplit(re.search(r"http://\S+", program.output)[0]).netloc


def _photo(number):
  return encode_png(np.random.default_rng(number).integers(0, 256, [32, 32, 3], np.uint8))


@pytest.mark.parametrize("arguments, line", [
    (["--host=0.0.0.0"], "expected a token in the environment's DEEPCOMP_TOKEN"),
    (["--host=nowhere.invalid"], "expected a token"),
    (["--port=65536"], "expected --port in 0 to 65535"), (["--effort=10"], "`effort` must be"),
    (["--max_megabytes=0"], "--max_megabytes"), (["--operating_point=none"], "no operating point 'none'")])
def test_what_is_refused_at_once(arguments, line, tmp_path, monkeypatch):
  monkeypatch.delenv("DEEPCOMP_TOKEN", raising=False)
  result = programs.deepcomp_here("serve", tmp_path / "library", *arguments, cwd=tmp_path)
  assert result.returncode == 1 and line in result.stderr and result.stderr.count("\n") == 1
  assert not (tmp_path / "library").exists()


def test_a_port_that_is_taken(tmp_path):
  with socket.create_server(("127.0.0.1", 0)) as other:
    result = programs.deepcomp_here("serve", tmp_path / "library", f"--port={other.getsockname()[1]}", cwd=tmp_path)
  assert result.returncode == 1 and "expected an address and a port that are free" in result.stderr


@pytest.mark.slow
def test_it_finishes_what_it_has_begun(tmp_path):
  program, address = _start(tmp_path / "library")
  photo, host = _photo(0), address.split(":")
  with socket.create_connection((host[0], int(host[1]))) as begun:
    head = f"POST /photos?name=last.png HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(photo)}\r\n\r\n"
    begun.sendall(head.encode() + photo[:100])
    time.sleep(1)
    program.send(signal.SIGTERM)
    time.sleep(1)
    with pytest.raises(OSError):
      socket.create_connection((host[0], int(host[1])), 5)
    begun.sendall(photo[100:])
    answer = http.client.HTTPResponse(begun)
    answer.begin()
    stored = json.loads(answer.read())
  assert answer.status == 201 and program.wait(60)[0] == 0
  assert dc.Library(tmp_path / "library")["last.png"].id == stored["id"]


@pytest.mark.slow
def test_no_answered_upload_is_lost_when_it_is_killed(tmp_path):
  for number in range(3):
    program, address = _start(tmp_path / "library")
    answered = []

    def upload(first):
      connection = http.client.HTTPConnection(address, timeout=60)  # pylint: disable=cell-var-from-loop
      for number in range(first, first + 10_000):
        try:
          connection.request("POST", "/photos", _photo(number))
          answered.append(json.loads(connection.getresponse().read())["id"])  # pylint: disable=cell-var-from-loop
        except (OSError, http.client.HTTPException):
          return

    threads = [threading.Thread(target=upload, args=[10_000 * (4 * number + client)]) for client in range(4)]
    for thread in threads:
      thread.start()
    programs.wait_until(lambda: len(answered) > 10, program)  # pylint: disable=cell-var-from-loop
    program.kill()
    for thread in threads:
      thread.join()
    library = dc.Library(tmp_path / "library")
    assert len(answered) > 10 and set(answered) <= {photo.id for photo in library} and not list(library.verify())
