"""Load by wrk: as many requests as the connections carry, each sent when the last is answered.

Owns the call of wrk and its figures. The Lua script beside this file cycles through the bodies.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.servers import make_body

_SCRIPT = Path(__file__).with_name("embeddings.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk found."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> str:
    """Where wrk is. Exits with how to get it where it is not."""
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("wrk is not installed; on Debian and Ubuntu: apt-get install wrk")
    return found


def write_bodies(file: Path, texts: Sequence[str]) -> Path:
    """Write the request of each text, one a line, and return the file."""
    return write_requests(file, [make_body(text) for text in texts])


def write_requests(file: Path, bodies: Sequence[bytes]) -> Path:
    """Write the bodies, one a line, and return the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(body + b"\n" for body in bodies))
    return file


def load(
    url: str, bodies: Path, *, connections: int, seconds: int, prefix: Sequence[str] = ()
) -> Load:
    """Ask for so many seconds. Exits if a single answer is not 200, or a connection breaks.

    `prefix` is a command that starts wrk, such as taskset.
    """
    command = [
        *prefix,
        require_wrk(),
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "30s",
    ]
    finished = subprocess.run(
        [*command, "-s", str(_SCRIPT), url, "--", str(bodies)],
        check=False,
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        raise SystemExit(f"wrk failed: {finished.stderr.strip() or finished.stdout.strip()}")
    figures: dict[str, Any] = json.loads(finished.stdout.strip().splitlines()[-1])
    if figures["not_ok"] or figures["broken"]:
        raise SystemExit(
            f"{figures['not_ok']} answers that are not 200 and {figures['broken']} broken or late "
            f"of {figures['requests']} at {connections} connections: no figure is taken from that"
        )
    return Load(
        requests_per_second=figures["requests"] / figures["seconds"],
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
    )
