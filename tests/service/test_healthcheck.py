"""What a container asks itself."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from service.healthcheck import main
from tests.helpers.process import ROOT
from tests.helpers.server import Server


def check(port: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("CLOZE_PORT", str(port))
    return main([])


def test_a_ready_service(
    tiny: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tiny.client.base_url.port or 0, monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"status": "ready"}


def test_one_that_is_not(
    tiny: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiny.manager.registry, "unready", "the models are loading")
    assert check(tiny.client.base_url.port or 0, monkeypatch) == 1
    assert "the models are loading" in capsys.readouterr().out


def test_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert check(port, monkeypatch) == 1
    assert capsys.readouterr().out.startswith(f"no answer on port {port}: ")


def test_flags_win_over_the_environment(
    tiny: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that was started with --port is not judged by whoever has the usual one."""
    monkeypatch.setenv("CLOZE_PORT", "1")
    monkeypatch.setenv("CLOZE_HOST", "not.an.address.invalid")
    port = str(tiny.client.base_url.port)
    assert main(["--host", "127.0.0.1", "--port", port]) == 0
    assert main(["--host", "127.0.0.1"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("no answer on port 1: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "", "localhost"])
def test_a_service_that_listens_everywhere_is_asked_on_this_machine(
    host: str, tiny: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = tiny.client.base_url.port or 0
    monkeypatch.setenv("CLOZE_HOST", host)
    assert check(port, monkeypatch) == 0
    monkeypatch.setenv("CLOZE_HOST", "not.an.address.invalid")
    assert main(["--host", host]) == 0


class Ready(BaseHTTPRequestHandler):
    """Ready, whoever asks."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


class Six(HTTPServer):
    """A server on the machine's own address of version 6."""

    address_family = socket.AF_INET6


@pytest.fixture
def six() -> Iterator[int]:
    try:
        server = Six(("::1", 0), Ready)
    except OSError as reason:
        pytest.skip(f"no IPv6 here: {reason}")
    with server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["::", "::1"])
def test_one_that_listens_on_version_6(
    host: str, six: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ready, "log_message", lambda *_: None)
    assert main(["--host", host, "--port", str(six)]) == 0


@pytest.mark.parametrize("port", ["no", "", "65536", "-1", "9" * 30])
def test_a_port_that_is_none(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOZE_PORT", port)
    assert main([]) == 1
    assert capsys.readouterr().out.startswith(f"no answer on port {port}: ")


def test_it_is_light() -> None:
    """It comes every few seconds, beside a service that wants the cores."""
    code = "import sys, service.healthcheck; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"pydantic", "numpy", "fastapi", "models"} & set(done.stdout.split())


def test_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.healthcheck._TIMEOUT_S", 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert check(listener.getsockname()[1], monkeypatch) == 1
