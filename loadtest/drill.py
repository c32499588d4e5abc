"""`python -m loadtest.drill`: what becomes of requests while the stack under them breaks.

Each drill loads the proxy of a stack that `docker compose up` has started, breaks one thing on
the way, and counts what failed. Killing a replica as the kernel would needs root.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_WARM_UP_S = 10.0
_AFTERWARDS_S = 5.0
_BREAK_S = 8.0
_PATIENCE_S = 120.0
# The proxy's image has bash, and neither curl nor wget.
_READ_METRICS = (
    "exec 3<>/dev/tcp/127.0.0.1/8405; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
)
_DOWN, _UP = " DOWN", " is UP"  # what the proxy logs
_ACTIVE = 'haproxy_backend_active_servers{proxy="cloze"}'


class Stack:
    """A stack that runs, by docker's command line."""

    def __init__(self) -> None:
        self.replicas = self._list_replicas()

    def docker(self, *arguments: str) -> str:
        """What docker says to a command. Raises SystemExit with its complaint."""
        try:
            done = subprocess.run(
                ["docker", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            sys.exit("docker is not there; a drill breaks a stack that docker compose has started")
        if done.returncode:
            sys.exit(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def compose(self, *arguments: str) -> str:
        """What docker compose says to a command."""
        return self.docker("compose", *arguments)

    def count_active(self) -> int:
        """The replicas that the proxy sends requests to; 0 while there is no proxy."""
        command = ["docker", "compose", "exec", "-T", "proxy", "bash", "-c", _READ_METRICS]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            if line.startswith(_ACTIVE):
                return int(float(line.rsplit(" ", 1)[1]))
        return 0

    def wait_for(self, replicas: int, event: str, since: datetime) -> float:
        """Seconds until the proxy has so many replicas, by the time of the event in its log."""
        end = time.monotonic() + _PATIENCE_S
        while self.count_active() != replicas:
            if time.monotonic() > end:
                sys.exit(f"the proxy does not come to {replicas} replicas; see docker compose ps")
        proxy = self.compose("ps", "--quiet", "proxy")
        log = self.docker("logs", "--timestamps", "--since", since.isoformat(), proxy)
        lines = log.splitlines()
        times = [datetime.fromisoformat(line.split()[0]) for line in lines if event in line]
        if not times:
            sys.exit(f"the proxy came to {replicas} replicas and did not log{event}")
        return (times[-1] - since).total_seconds()

    def find_process(self, replica: str) -> int:
        """The process of a replica, as this machine numbers it."""
        process = int(self.docker("inspect", "--format", "{{.State.Pid}}", replica))
        # The engine may run on another machine, where the number is somebody else's.
        groups = Path(f"/proc/{process}/cgroup")
        if not groups.exists() or self._find_id(replica) not in groups.read_text(encoding="utf-8"):
            sys.exit(f"process {process} is not the replica's: the engine is not on this machine")
        return process

    def _find_id(self, replica: str) -> str:
        return self.docker("inspect", "--format", "{{.Id}}", replica)

    def _list_replicas(self) -> list[str]:
        replicas = self.compose("ps", "--quiet", "cloze").split()
        if len(replicas) < 2:
            sys.exit("a drill needs two replicas or more; start them with docker compose up")
        return replicas


def kill(stack: Stack) -> str:
    """The process of a replica dies at once."""
    began = _now()
    os.kill(stack.find_process(stack.replicas[0]), signal.SIGKILL)
    time.sleep(_BREAK_S)
    return f"back after {stack.wait_for(len(stack.replicas), _UP, began):.1f} s"


def pause(stack: Stack) -> str:
    """A replica stands still, and goes on later."""
    return _lose(
        stack,
        lambda: stack.docker("pause", stack.replicas[0]),
        lambda: stack.docker("unpause", stack.replicas[0]),
    )


def cut(stack: Stack) -> str:
    """A replica loses its network, and gets it back."""
    replica = stack.replicas[0]
    (network,) = stack.docker(
        "inspect",
        "--format",
        "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}",
        replica,
    ).split()
    return _lose(
        stack,
        lambda: stack.docker("network", "disconnect", network, replica),
        lambda: stack.docker("network", "connect", "--alias", "cloze", network, replica),
    )


def roll(stack: Stack) -> str:
    """Every replica is replaced by a new one."""
    began = time.monotonic()
    subprocess.run([_ROOT / "deploy/roll.sh"], cwd=_ROOT, check=True, capture_output=True)
    return f"{len(stack.replicas)} replicas in {time.monotonic() - began:.0f} s"


def prometheus(stack: Stack) -> str:
    """Nobody measures."""
    stack.compose("stop", "prometheus")
    time.sleep(_BREAK_S)
    stack.compose("start", "prometheus")
    return ""


def proxy(stack: Stack) -> str:
    """The proxy is restarted: there is one, and who connects meanwhile is refused."""
    began = _now()
    stack.compose("restart", "proxy")
    return f"all replicas again after {stack.wait_for(len(stack.replicas), _UP, began):.1f} s"


def nothing(_: Stack) -> str:
    """What the rest is to be compared with."""
    time.sleep(_BREAK_S)
    return ""


def _lose(stack: Stack, take: Callable[[], str], give: Callable[[], str]) -> str:
    began = _now()
    take()
    try:
        out_s = stack.wait_for(len(stack.replicas) - 1, _DOWN, began)
        time.sleep(_BREAK_S)
    finally:
        mended = _now()
        give()
    back_s = stack.wait_for(len(stack.replicas), _UP, mended)
    return f"taken out after {out_s:.1f} s, back after {back_s:.1f} s"


def _now() -> datetime:
    return datetime.now(UTC)


DRILLS: dict[str, Callable[[Stack], str]] = {
    drill.__name__: drill for drill in (nothing, kill, pause, cut, roll, prometheus, proxy)
}


@contextmanager
def load(host: str, users: int, folder: Path, options: Sequence[str]) -> Iterator[None]:
    """Locust on the host, from a while before the block until a while after."""
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"]
    command += [f"--host={host}", f"--users={users}", "--run-time=1h", f"--report={folder}"]
    with (folder / "locust.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "--only-summary", *options], cwd=_ROOT, stdout=log, stderr=log
        )
        try:
            time.sleep(_WARM_UP_S)
            yield
            time.sleep(_AFTERWARDS_S)
        finally:
            process.terminate()
            process.wait()
        if not (folder / "report.json").exists():
            log.seek(0)
            sys.exit(f"locust did not report:\n{log.read()}")


def main() -> int:
    """Run the drills that are named, or all; exit 1 if one but the proxy's lost a request."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.drill", description=__doc__)
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=", ".join(DRILLS))
    parser.add_argument("--host", default="http://127.0.0.1:8080", help="where the proxy listens")
    parser.add_argument("--users", type=int, default=16, help="at a time (16)")
    given, options = parser.parse_known_args()
    unknown = set(given.drills) - DRILLS.keys()
    if unknown:
        parser.error(f"there is no drill {', '.join(unknown)}; there are {', '.join(DRILLS)}")
    lost = 0
    sys.stdout.write("| drill | requests | failed | p50, p99 ms | |\n|---|---|---|---|---|\n")
    for name in given.drills or DRILLS:
        with tempfile.TemporaryDirectory() as folder:
            stack = Stack()
            with load(given.host, given.users, Path(folder), options):
                note = DRILLS[name](stack)
            report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
        figures = report["tasks"]["all"]
        sys.stdout.write(_lay_out(name, figures, note))
        sys.stdout.flush()
        lost += figures["failed"] if name != "proxy" else 0
    return 1 if lost else 0


def _lay_out(name: str, figures: dict[str, Any], note: str) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in figures["failures"].items())
    failed = f"{figures['failed']:,}" + (f" ({kinds})" if kinds else "")
    times = f"{figures['p50_ms']:.0f}, {figures['p99_ms']:.0f}"
    return f"| {name} | {figures['requests']:,} | {failed} | {times} | {note} |\n"


if __name__ == "__main__":
    sys.exit(main())
