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
# A service that says so when it begins to compute a text with HELD in it, and computes none
# until it reads a line: however fast it is, it is not done before.
HELD = """
import sys, threading
from models.pipeline import Pipeline
from service.__main__ import main
from service.server.process import end_process

compute, let_go = Pipeline.compute, threading.Event()

def listen():
    sys.stdin.readline()
    let_go.set()

def compute_when_let(self, jobs):
    if not let_go.is_set() and any("HELD" in str(job.item) for job in jobs):
        print("held", flush=True)
        let_go.wait()
    return compute(self, jobs)

threading.Thread(target=listen, daemon=True).start()
Pipeline.compute = compute_when_let
end_process(main())
"""


@contextmanager
def start_service(
    *arguments: str,
    awaited: str = "/health/ready",
    program: Sequence[str] = ("-m", "service"),
    **environment: str,
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run it until what is awaited answers 200, and kill it if the block does not end it.

    `program` is what Python runs, for a service that is spoiled on purpose, or held.
    """
    port = find_free_port()
    process = subprocess.Popen(
        [sys.executable, *program, "--port", str(port), *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
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
