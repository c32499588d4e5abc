"""What is looked at before a server is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import preflight
from loadtest.preflight import NoServer, find_tasks
from tests.helpers.process import find_free_port
from tests.helpers.server import serve

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("embed", "fill-mask", "classify", "question-answering", "rerank")
KEY = "right"


def test_what_a_server_does_not_answer_is_not_asked(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, api_keys=KEY) as server:
        host = str(server.client.base_url)
        assert find_tasks(host, KEY, TASKS) == ["embed", "fill-mask", "rerank"]
        for key in ("", "wrong"):
            with pytest.raises(NoServer, match="wants a key that it knows; give it with --key"):
                find_tasks(host, key, TASKS)
        # One that says nothing of its models is asked for everything.
        assert find_tasks(f"{host}/nothing/here", KEY, TASKS) == list(TASKS)


def test_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_PATIENCE_S", 0.0)
    host = f"http://127.0.0.1:{find_free_port()}"
    with pytest.raises(NoServer, match=f"no server answers at {host} .*; start one"):
        find_tasks(host, "", TASKS)


def test_a_test_of_nothing_ends_before_it_begins() -> None:
    host = f"http://127.0.0.1:{find_free_port()}"
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"]
    done = subprocess.run(
        [*command, "--host", host, "--run-time", "60s"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert f"error: no server answers at {host}" in done.stderr
