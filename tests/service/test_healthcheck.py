"""What a container asks itself."""

import json
import socket

import pytest

from service.healthcheck import main
from tests.helpers.server import Server


def check(port: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("CLOZE_PORT", str(port))
    return main()


def test_a_ready_service(
    tiny: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tiny.client.base_url.port or 0, monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"status": "ready"}


def test_one_that_is_not(
    tiny: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiny.manager, "ready", False)
    monkeypatch.setattr(tiny.manager, "reason", "the models are loading")
    assert check(tiny.client.base_url.port or 0, monkeypatch) == 1
    assert "the models are loading" in capsys.readouterr().out


def test_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert check(port, monkeypatch) == 1
    assert capsys.readouterr().out.startswith(f"no answer on port {port}: ")


def test_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.healthcheck._TIMEOUT_S", 0.1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert check(listener.getsockname()[1], monkeypatch) == 1
