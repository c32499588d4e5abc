"""`python -m service` as its users start it: a process of its own, on a free port."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.helpers.server import PATIENCE_S, wait_until

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def start_service(
    *arguments: str,
    awaited: str = "/health/ready",
    program: Sequence[str] = ("-m", "service"),
    **environment: str,
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run it until what is awaited answers 200, and kill it if the block does not end it.

    `program` is what Python runs, for a service that is spoiled on purpose.
    """
    port = find_free_port()
    process = subprocess.Popen(
        [sys.executable, *program, "--port", str(port), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:

            def answers() -> bool:
                assert process.poll() is None
                try:
                    return client.get(awaited).status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(answers)
            yield process, client
    finally:
        process.kill()
        process.communicate()


def find_free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
