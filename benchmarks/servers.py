"""A server under measurement: started on a free port of this machine, and stopped in every case.

Owns the process, and asking it a text. Knows two kinds of servers: the service, and the baseline.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.minilm import ROOT, find_checkpoint
from benchmarks.results import RESULTS

HOST = "127.0.0.1"
ROUTE = "/v1/embeddings"
READY = "/health/ready"
BASELINE_PYTHON = Path(".venv-baseline/bin/python")
_START_LIMIT_S = 120.0
_STOP_LIMIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started, where it is asked, and what answers 200 once it is ready.

    `{port}` in its command is replaced.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    route: str = ROUTE
    ready: str = READY


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers, its process, and how long it took until it did."""

    process: "subprocess.Popen[bytes]"
    port: int
    ready_after_s: float

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid

    @property
    def url(self) -> str:
        """Where embeddings are asked for."""
        return f"http://{HOST}:{self.port}{ROUTE}"

    def embed(self, text: str) -> NDArray[np.float32]:
        """The vector of a text. Raises RuntimeError for any answer but 200."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", ROUTE, make_body(text), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"{response.status} for a text: {content[:200]!r}")
        answer: dict[str, Any] = json.loads(content)
        return np.array(answer["data"][0]["embedding"], np.float32)


def make_body(texts: str | Sequence[str]) -> bytes:
    """The request for one text or several, everything else left at its default."""
    return json.dumps({"input": texts}).encode()


def cloze(bundle: Path, folder: Path = ROOT, name: str = "cloze") -> Server:
    """The service, as an operator starts it, of this or another commit in a folder."""
    command = ("-m", "service", "--bundle", str(bundle), "--port", "{port}")
    return Server(name, (sys.executable, *command), folder=folder)


@contextmanager
def check_out(commit: str) -> Iterator[Path]:
    """Another commit of this project in a folder of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="before-") as folder:
        tree = Path(folder) / "before"
        _git("worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)  # noqa: S607 - wherever it is


def sentence_transformers(python: Path) -> Server:
    """The baseline, its model exported first if that was not done yet."""
    if shutil.which(python) is None:
        raise SystemExit(
            f"{python} is not there; make the baseline's environment as the docstring of "
            "benchmarks/sentence_transformers_app.py says, or name its Python with "
            "--baseline-python"
        )
    # Not resolved: the Python of a virtual environment is a link that must be called as it is.
    interpreter = str(Path.cwd() / python)
    app = "benchmarks.sentence_transformers_app"
    model = RESULTS / "sentence-transformers"
    if not model.exists():
        partial = model.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(
            [interpreter, "-m", app, str(find_checkpoint()), str(partial)],
            cwd=ROOT,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        partial.rename(model)
    found = [file.relative_to(model).as_posix() for file in model.rglob("*.onnx")]
    if found != ["onnx/model.onnx"]:
        raise SystemExit(f"{model} should hold onnx/model.onnx alone, not {', '.join(found)}")
    environment = {"BASELINE_MODEL": str(model), "HF_HUB_OFFLINE": "1"}
    return baseline_app("sentence-transformers", python, app, environment)


def baseline_app(name: str, python: Path, app: str, environment: Mapping[str, str]) -> Server:
    """An application of the baseline's environment, as uvicorn runs it."""
    options = ("--host", HOST, "--port", "{port}", "--loop", "uvloop", "--http", "httptools")
    quiet = ("--log-level", "warning", "--no-access-log")
    interpreter = str(Path.cwd() / python)
    command = (interpreter, "-m", "uvicorn", "--factory", f"{app}:create_app", *options, *quiet)
    return Server(name, command, environment)


@contextmanager
def serve(server: Server) -> Iterator[Running]:
    """Start a server, wait until it is ready, and stop it whatever happens."""
    port = find_free_port()
    logs = RESULTS / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{server.name}.log"
    began = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in server.command],
            cwd=server.folder,
            env={**clean_environment(), **server.environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, server.ready, began, log)
        yield Running(process, port, time.perf_counter() - began)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Workers of its own that outlive it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """The environment without what would change the defaults that are measured."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLOZE_", "OMP_", "MKL_"))
    }


def find_free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def stop_on_terminate() -> None:
    """Let SIGTERM unwind, as an interrupt does, so that servers are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", port: int, path: str, began: float, log: Path
) -> None:
    while time.perf_counter() - began < _START_LIMIT_S:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}; see {log}")
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            # Not listening yet: asked again until the limit, and a process that ended is noticed.
            pass
        finally:
            connection.close()
        time.sleep(0.01)
    raise SystemExit(f"the server was not ready after {_START_LIMIT_S:.0f} s; see {log}")
