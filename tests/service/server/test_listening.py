"""Wherever a service is told to listen: it does, says where, and its health check finds it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.server.addresses import bind, write_url
from tests.helpers.process import ROOT, find_free_port
from tests.helpers.server import wait_until


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("*", "http://127.0.0.1:80"),
        ("", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:80"),
        ("localhost", "http://localhost:80"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_how_an_address_is_written(host: str, url: str) -> None:
    assert write_url(host, 80) == url
    if not host.startswith("unix:"):
        assert write_url(host, 80, "/bert") == f"{url}/bert"
    assert bind(host, 80) in ({"uds": "/run/x.sock"}, {"host": host.strip("*"), "port": 80})


@contextmanager
def listen(bundle: Path, host: str, port: int) -> Iterator[subprocess.Popen[str]]:
    given = {"CLOZE_HOST": host, "CLOZE_PORT": str(port), "CLOZE_BUNDLES": str(bundle)}
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=os.environ | given,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def check_health(host: str, port: int, *options: str) -> bool:
    given = {"CLOZE_HOST": host, "CLOZE_PORT": str(port)}
    command = [sys.executable, "-m", "service.healthcheck", *options]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | given, check=False, capture_output=True
    )
    return done.returncode == 0


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", ["http://127.0.0.1"]),
        ("0.0.0.0", ["http://127.0.0.1"]),
        ("localhost", ["http://localhost"]),
        pytest.param("::1", ["http://[::1]"], marks=needs_ipv6),
        pytest.param("::", ["http://[::1]"], marks=needs_ipv6),
        pytest.param("*", ["http://127.0.0.1", "http://[::1]"], marks=needs_ipv6),
        ("unix:", ["http://socket"]),
    ],
)
def test_it_listens_there(
    pretraining_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
    host: str,
    asked: Sequence[str],
) -> None:
    port = find_free_port()
    socket_path = tmp_path_factory.mktemp("s") / "c.sock"
    if host == "unix:":
        host = f"unix:{socket_path}"
    with listen(pretraining_bundle, host, port) as process:
        wait_until(lambda: process.poll() is not None or check_health(host, port))
        assert process.poll() is None
        for base in asked:
            unix = str(socket_path) if base == "http://socket" else None
            transport = httpx.HTTPTransport(uds=unix)
            url = base if unix else f"{base}:{port}"
            with httpx.Client(transport=transport, base_url=url, timeout=30) as client:
                answer = client.post("/v1/embeddings", json={"input": "rain"})
                assert answer.status_code == 200
        # A flag wins over the environment, as the service's does.
        assert check_health("not.an.address.invalid", 1, "--host", host, "--port", str(port))
        assert not check_health(f"{host}x", port)
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    (told,) = [line["url"] for line in lines if line["event"] == "serving"]
    assert told == write_url(host, port)


def test_an_address_that_is_taken_is_named(pretraining_bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        with listen(pretraining_bundle, "127.0.0.1", port) as process:
            assert process.wait(60) == 1
            assert process.stderr is not None
            last = process.stderr.read().splitlines()[-1]
        assert time.monotonic() - began < 60
    assert last == (
        f"error: cannot listen on 127.0.0.1:{port}; free it, or choose another with --host and "
        "--port (CLOZE_HOST, CLOZE_PORT)"
    )
