"""A log that cannot be written costs lines, and nothing else."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.observability import log_stream
from service.observability.log_stream import LogStream
from tests.helpers.process import ROOT, find_free_port
from tests.helpers.server import wait_until

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full here")


class Broken:
    """A stream whose every line fails."""

    def write(self, line: str) -> int:
        raise OSError(28, "No space left on device")


def test_lines_come_whole_and_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = LogStream()
    with (tmp_path / "log").open("w+") as file:
        monkeypatch.setattr(log_stream.sys, "stderr", file)

        def write(which: int) -> None:
            for place in range(300):
                stream.write(f"{which} {place} {'x' * 200}\n")

        threads = [threading.Thread(target=write, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stream.drain(30)
        lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1_200
    assert all(line.endswith("x" * 200) for line in lines)
    for which in range(4):
        own = [int(line.split()[1]) for line in lines if line.startswith(f"{which} ")]
        assert own == list(range(300))
    assert not stream.dropped


def test_nobody_waits_for_a_reader_who_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was lost is told to one who comes back."""
    there, here = os.pipe()
    told: list[int] = []
    stream = LogStream(most_characters=100_000)
    stream.on_drop = lambda: told.append(1)
    with os.fdopen(here, "w") as file:
        monkeypatch.setattr(log_stream.sys, "stderr", file)
        began = time.monotonic()
        for _ in range(2_000):
            stream.write("x" * 499 + "\n")
        assert time.monotonic() - began < 5
        assert not stream.drain(0.05)
        assert len(told) == stream.dropped > 1_000
        written = bytearray()
        while not stream.drain(0.01):
            written += os.read(there, 1 << 16)
        stream.write("the last\n")
        while b"the last" not in written:
            written += os.read(there, 1 << 16)
    lines = bytes(written).decode().splitlines()
    (lost,) = [json.loads(line) for line in lines if line.startswith("{")]
    assert lost["count"] == stream.dropped
    assert lines[-1] == "the last"
    os.close(there)


@pytest.mark.parametrize("kind", ["closed", "gone", "full", "broken", "none"])
def test_what_cannot_be_written_is_dropped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = LogStream()
    if kind in ("closed", "gone"):
        there, here = os.pipe()
        os.close(there)
        file = os.fdopen(here, "w")
        if kind == "closed":
            file.close()
    elif kind == "full":
        if not FULL.exists():
            pytest.skip("no device that is always full here")
        file = FULL.open("w")
    else:
        file = None if kind == "none" else Broken()  # type: ignore[assignment]
    monkeypatch.setattr(log_stream.sys, "stderr", file)
    for _ in range(5):
        stream.write("lost\n")
    assert stream.drain(10)
    assert stream.dropped == 5


@contextmanager
def start(bundle: Path, stderr: int) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    port = find_free_port()
    environment = {"CLOZE_ACCESS_LOG": "all", "CLOZE_BUNDLES": str(bundle)}
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=stderr,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            def is_ready() -> bool:
                assert process.poll() is None
                try:
                    return client.get("/health/ready").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(is_ready)
            yield process, client
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["a reader that stopped", "a reader that has gone", "a full disk"])
def test_a_service_whose_log_nobody_takes(pretraining_bundle: Path, kind: str) -> None:
    """It starts, answers, counts what it lost, and ends at a signal with 0."""
    if kind == "a full disk":
        if not FULL.exists():
            pytest.skip("no device that is always full here")
        there, here = None, os.open(FULL, os.O_WRONLY)
    else:
        there, here = os.pipe()
        if kind == "a reader that has gone":
            os.close(there)
            there = None
    try:
        with start(pretraining_bundle, here) as (process, client):
            # More than a pipe and the queue hold, where every line has an id of the caller's.
            body = {"input": "rain"}
            for _ in range(300):
                answer = client.post(
                    "/v1/embeddings", json=body, headers={"x-request-id": "a" * 64}
                )
                assert answer.status_code == 200
            assert client.get("/health/live").status_code == 200
            if kind != "a reader that stopped":
                text = client.get("/metrics").text
                (line,) = [
                    line
                    for line in text.splitlines()
                    if line.startswith("cloze_log_lines_dropped_total ")
                ]
                assert float(line.split()[1]) >= 300
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert time.monotonic() - began < 15
    finally:
        os.close(here)
        if there is not None:
            os.close(there)


@needs_full
def test_errors_of_the_start_end_it_all_the_same(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "service", "--bundle", str(tmp_path / "none")],
            cwd=ROOT,
            stderr=full,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
