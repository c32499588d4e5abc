"""The way of a request through the code, and what it costs where the trunk costs nothing.

Two figures of the service of this folder and, with `--before`, of another commit, which is checked
out beside it for as long as that takes. One request of each task, after a warm-up, recorded: the
calls of the project's own functions in all threads, the files these lie in, and how often one file
hands on to another. And requests a second with their CPU time, 16 connections of wrk on the same
cores, with a trunk that answers at once; rounds alternate, ratios are taken within a round.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.load import load, require_wrk, write_bodies
from benchmarks.minilm import ROOT
from benchmarks.results import RESULTS, Target, divide, save_results, say, show_table
from benchmarks.servers import Server, check_out, serve, stop_on_terminate
from benchmarks.texts import KINDS, draw_texts, list_words
from benchmarks.usage import read_used_s
from models.pipeline import Pipeline

CONNECTIONS = 16
TARGETS = {"files": Target(24, most=True), "moves": Target(130, most=True), "rate": Target(2.2)}
REQUESTS: dict[str, tuple[str, Any]] = {
    "embed": ("/v1/embeddings", {"input": "The river rose overnight."}),
    "fill-mask": ("/v1/fill-mask", {"inputs": "The capital of [MASK] is Paris."}),
    "next-sentence": (
        "/v1/next-sentence",
        {"inputs": {"first": "The river rose.", "second": "The bridge was under water."}},
    ),
    "classify": ("/v1/classify", {"inputs": "A warm and funny film."}),
}
_BUNDLE = ROOT / "bundles" / "lacuna-mini"
_WARM_UP = 20
_WARM_UP_S = 3
_SETTLE_S = 0.3
_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Way:
    """What one request entered: files, functions, calls, and moves from one file to another."""

    files: int
    functions: int
    calls: int
    moves: int

    @classmethod
    def of(cls, calls: Sequence[Sequence[str]]) -> "Way":
        """The way of recorded calls, each a file and the name of a function."""
        files = [file for file, _ in calls]
        return cls(
            files=len(set(files)),
            functions=len({tuple(call) for call in calls}),
            calls=len(calls),
            moves=sum(one != other for one, other in pairwise(files)),
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What requests cost where the trunk costs nothing."""

    requests_per_second: float
    cpu_ms: float


def start(tree: Path, record: Path | None = None) -> Server:
    """The service of a tree, as the benchmark looks at it."""
    script = str(ROOT / "benchmarks" / "path_server.py")
    command = (sys.executable, script, "--bundle", str(_BUNDLE), "--port", "{port}")
    environment = {"PATH_TREE": str(tree)}
    if record is not None:
        environment["PATH_RECORD"] = str(record)
    return Server(f"path-{tree.name}", command, environment)


def record_ways(tree: Path, folder: Path) -> dict[str, Way]:
    """The way of one request of each task."""
    file = folder / "calls.json"
    found = {}
    with serve(start(tree, file)) as running:
        base = running.url.removesuffix("/v1/embeddings")
        with httpx.Client(base_url=base) as client:
            for task, (path, body) in REQUESTS.items():
                for _ in range(_WARM_UP):
                    client.post(path, json=body).raise_for_status()
                time.sleep(_SETTLE_S)
                file.unlink(missing_ok=True)
                running.process.send_signal(signal.SIGUSR2)
                time.sleep(_SETTLE_S)
                client.post(path, json=body).raise_for_status()
                time.sleep(_SETTLE_S)
                running.process.send_signal(signal.SIGUSR2)
                found[task] = Way.of(_read_calls(file))
    return found


def measure(tree: Path, bodies: Path, seconds: int) -> Cost:
    """Requests a second, and CPU milliseconds of each."""
    with serve(start(tree)) as running:
        running.process.send_signal(signal.SIGUSR1)
        time.sleep(_SETTLE_S)
        load(running.url, bodies, connections=CONNECTIONS, seconds=_WARM_UP_S)
        before = read_used_s(running.pid)
        began = time.perf_counter()
        found = load(running.url, bodies, connections=CONNECTIONS, seconds=seconds)
        used, passed = read_used_s(running.pid) - before, time.perf_counter() - began
    return Cost(found.requests_per_second, 1e3 * used / (found.requests_per_second * passed))


def run(before: str | None, rounds: int, seconds: int) -> None:
    """Record, measure in rounds, show the tables, write the results."""
    require_wrk()
    words = list_words(Pipeline.open(_BUNDLE).encoder)
    bodies = write_bodies(RESULTS / "bodies" / "path.jsonl", draw_texts(KINDS[0], words))
    if before is None:
        _compare({"now": ROOT}, bodies, rounds, seconds)
    else:
        with check_out(before) as tree:
            _compare({"before": tree, "now": ROOT}, bodies, rounds, seconds)


def _compare(trees: dict[str, Path], bodies: Path, rounds: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ways = {name: record_ways(tree, Path(folder)) for name, tree in trees.items()}
    show_table(
        "One request",
        ("task, code", "files", "functions", "calls", "moves"),
        [
            (f"{task}, {name}", *(f"{figure}" for figure in asdict(found[task]).values()))
            for task in REQUESTS
            for name, found in ways.items()
        ],
    )
    costs: dict[str, list[Cost]] = {name: [] for name in trees}
    for turn in range(rounds):
        order = list(trees) if turn % 2 == 0 else list(reversed(trees))
        for name in order:
            costs[name].append(measure(trees[name], bodies, seconds))
    rates = {name: [one.requests_per_second for one in found] for name, found in costs.items()}
    show_table(
        f"A trunk that answers at once, {CONNECTIONS} connections: medians of {rounds} rounds",
        ("code", "requests/s", "CPU ms a request"),
        [
            (name, f"{median(rates[name]):,.0f}", f"{median(one.cpu_ms for one in found):.3f}")
            for name, found in costs.items()
        ],
    )
    figures: dict[str, Any] = {"embed": asdict(ways["now"]["embed"])}
    judged = [(name, figures["embed"][name]) for name in ("files", "moves")]
    if "before" in rates:
        figures["rate"] = divide(rates["now"], rates["before"])
        judged.append(("rate", figures["rate"]["median"]))
    show_table(
        "An embeddings request; rate: requests a second, now / before",
        ("figure", "found", "target"),
        [(name, f"{figure:.3g}", TARGETS[name].judge(figure)) for name, figure in judged],
    )
    figures |= {
        "ways": {name: {task: asdict(way) for task, way in w.items()} for name, w in ways.items()},
        "costs": {name: [asdict(one) for one in found] for name, found in costs.items()},
    }
    say(f"written to {save_results('path', figures)}")


def _read_calls(file: Path) -> list[list[str]]:
    end = time.monotonic() + _LIMIT_S
    while not file.exists():
        if time.monotonic() > end:
            raise SystemExit("the server did not write what it had recorded")
        time.sleep(0.01)
    calls: list[list[str]] = json.loads(file.read_text())
    return calls


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.path",
        description="The way of a request through the code, and what it costs.",
    )
    parser.add_argument("--before", metavar="COMMIT", help="another commit to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=int, default=6, help="a figure; default: 6")
    stop_on_terminate()
    given = parser.parse_args()
    run(given.before, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
