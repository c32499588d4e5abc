"""Goodput and p99 from a tenth of what the service can compute to four times as much.

Requests arrive by themselves (benchmarks/open_loop.py), each wanting its answer within a second
and saying so (X-Request-Timeout). Goodput counts answers within that second. Beside the service
runs the same one with an unbounded queue in order of arrival (benchmarks/fifo_server.py). The
model is all-MiniLM-L6-v2, the texts are mixed, one a request. The capacity is that of 32
connections that always ask, of the service itself. All runs on the same cores: what the load takes
of them is told, in cores, and is missing to the server.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.minilm import ensure_bundle
from benchmarks.open_loop import Seen, Target, offer, saturate
from benchmarks.results import RESULTS, save_results, say, show_table
from benchmarks.results import Target as Bound
from benchmarks.servers import HOST, ROUTE, Server, cloze, serve, stop_on_terminate
from benchmarks.texts import KINDS, draw_texts, list_words
from models.pipeline import Pipeline

LOADS = (0.1, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
DEADLINE_S = 1.0
GOODPUT = Bound(0.9)
KEPT = Bound(0.99)
_FIGURE = RESULTS / "overload.png"
_CONNECTIONS = 32
_WARM_UP_S = 3.0
_DRAIN_S = 20.0
_PAUSE_S = 1.0
_SEED = 7


@dataclass(frozen=True, slots=True)
class Point:
    """What one server did with one load; rates a second. `kept` of those let in were in time.

    `generator` is the part of a core that the load itself took, of those the server might have had.
    """

    load: float
    offered: float
    goodput: float
    refused: float
    failed: float
    kept: float
    p50_ms: float
    p99_ms: float
    late_ms: float
    generator: float


_NAMES = tuple(field.name for field in fields(Point))


def unbounded(bundle: Path) -> Server:
    """The service with an unbounded queue in order of arrival."""
    options = ("--bundle", str(bundle), "--port", "{port}")
    limits = {
        "CLOZE_MAX_QUEUE_MS": "1e15",
        "CLOZE_MAX_BULK_QUEUE_MS": "1e15",
        "CLOZE_TIMEOUT_S": "3600",
    }
    return Server("fifo", (sys.executable, "-m", "benchmarks.fifo_server", *options), limits)


def make_bodies(bundle: Path) -> list[bytes]:
    """The requests: a mixed text each."""
    words = list_words(Pipeline.open(bundle).encoder)
    (kind,) = (kind for kind in KINDS if kind.name == "mixed")
    return [json.dumps({"input": text}).encode() for text in draw_texts(kind, words)]


def sum_up(load: float, seen: Seen) -> Point:
    """The figures of a load."""
    let_in = seen.sent - seen.refused
    return Point(
        load=load,
        offered=seen.sent / seen.seconds,
        goodput=seen.goodput(DEADLINE_S),
        refused=seen.refused / seen.seconds,
        failed=seen.failed / seen.seconds,
        kept=seen.goodput(DEADLINE_S) * seen.seconds / max(1, let_in),
        p50_ms=seen.percentile_ms(0.5),
        p99_ms=seen.percentile_ms(0.99),
        late_ms=seen.late_s * 1e3,
        generator=seen.processor_s / seen.seconds,
    )


def sweep(
    port: int,
    bodies: Sequence[bytes],
    loads: Sequence[float],
    *,
    capacity: float,
    seconds: float,
    headers: dict[str, str],
) -> list[Point]:
    """One server under each load in turn; each begins with an empty queue."""
    points = []
    for load in loads:
        seen = offer(
            Target(HOST, port, ROUTE, headers),
            bodies,
            rate=load * capacity,
            seconds=seconds,
            patience_s=_DRAIN_S,
            seed=_SEED,
        )
        points.append(sum_up(load, seen))
        time.sleep(_PAUSE_S)
    return points


def measure_capacity(server: Server, bodies: Sequence[bytes], seconds: float) -> float:
    """Requests a second that the service answers when it is never without one."""
    with serve(server) as running:
        for each in (_WARM_UP_S, seconds):
            target = Target(HOST, running.port, ROUTE, {})
            rate = saturate(target, bodies, connections=_CONNECTIONS, seconds=each)
            time.sleep(_PAUSE_S)
    return rate


def take_median(points: Sequence[Point]) -> Point:
    """Of each figure the median, but the least part that was in time."""
    middle = {name: median(getattr(point, name) for point in points) for name in _NAMES}
    return Point(**{**middle, "kept": min(point.kept for point in points)})


def run(loads: Sequence[float], seconds: float, rounds: int) -> int:
    """Measure both servers, show and draw what they did, and return 1 where a target is missed."""
    bundle = ensure_bundle()
    bodies = make_bodies(bundle)
    capacity = measure_capacity(cloze(bundle), bodies, seconds)
    say(f"capacity {capacity:.0f} requests a second, {_CONNECTIONS} under way")
    timeout = {"X-Request-Timeout": str(DEADLINE_S)}
    curves: dict[str, list[Point]] = {}
    for server, headers in ((cloze(bundle), timeout), (unbounded(bundle), {})):
        # What is judged is measured several times, every other time in reverse: machines slow down
        # for seconds, and a slow one at one load would look like a slow service.
        times = rounds if server.name == "cloze" else 1
        found = []
        with serve(server) as running:
            warm = Target(HOST, running.port, ROUTE, {})
            saturate(warm, bodies, connections=4, seconds=_WARM_UP_S)
            for place in range(times):
                order = loads if place % 2 == 0 else loads[::-1]
                found += sweep(
                    running.port, bodies, order, capacity=capacity, seconds=seconds, headers=headers
                )
        curves[server.name] = [
            take_median([point for point in found if point.load == load]) for load in loads
        ]
        show(server.name, curves[server.name])
    content: dict[str, Any] = {
        "capacity": capacity,
        "deadline_s": DEADLINE_S,
        "seconds": seconds,
        "rounds": rounds,
        "curves": {name: [asdict(point) for point in points] for name, points in curves.items()},
    }
    say(f"written to {save_results('overload', content)} and {draw(curves, capacity)}")
    return judge(curves["cloze"])


def judge(points: Sequence[Point]) -> int:
    """Say whether goodput stays and deadlines are kept from the knee to three times the load."""
    most = max(point.goodput for point in points)
    beyond = [point for point in points if 1.0 <= point.load <= 3.0]
    least = min(point.goodput for point in beyond) / most
    kept = min(point.kept for point in beyond)
    say(f"goodput beyond the knee, of the most there was: {least:.2f} {GOODPUT.judge(least)}")
    say(f"let in and answered in time: {kept:.3f} {KEPT.judge(kept)}")
    return 0 if GOODPUT.met_by(least) and KEPT.met_by(kept) else 1


def show(name: str, points: Sequence[Point]) -> None:
    """Print the points of a server."""
    show_table(
        f"{name}: requests a second, answers within {DEADLINE_S:g} s count",
        ("load", "offered", "goodput", "refused", "failed", "in time", "p50 ms", "p99 ms", "load"),
        [
            (
                f"{point.load:g}",
                f"{point.offered:.0f}",
                f"{point.goodput:.0f}",
                f"{point.refused:.0f}",
                f"{point.failed:.0f}",
                f"{point.kept:.3f}",
                f"{point.p50_ms:.0f}",
                f"{point.p99_ms:.0f}",
                f"{point.generator:.2f}",
            )
            for point in points
        ],
    )


def draw(curves: dict[str, list[Point]], capacity: float) -> Path:
    """Goodput and p99 against the offered load, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(7, 7), sharex=True)
    names = {"cloze": "Cloze", "fifo": "the same, unbounded and in order of arrival"}
    for name, points in curves.items():
        offered = [point.load for point in points]
        style = "o-" if name == "cloze" else "x--"
        upper.plot(offered, [p.goodput / capacity for p in points], style, label=names[name])
        lower.plot(offered, [point.p99_ms for point in points], style, label=names[name])
    upper.plot([0, 1, max(offered)], [0, 1, 1], ":", color="grey", label="ideal")
    upper.set_ylabel(f"answers within {DEADLINE_S:g} s, of the capacity")
    upper.legend()
    lower.axhline(1e3 * DEADLINE_S, color="grey", linestyle=":")
    lower.set_yscale("log")
    lower.set_ylabel("p99 of what was answered, ms")
    lower.set_xlabel(f"offered load, of a capacity of {capacity:.0f} requests a second")
    figure.tight_layout()
    figure.savefig(_FIGURE, dpi=120)
    pyplot.close(figure)
    return _FIGURE


def main() -> int:
    """Run the command line, and return the exit code: 1 where a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overload",
        description="Goodput and p99 against the offered load: about seven minutes.",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="a load; default: 5")
    parser.add_argument("--rounds", type=int, default=3, help="of which medians count; default: 3")
    parser.add_argument(
        "--loads",
        type=lambda text: tuple(float(part) for part in text.split(",")),
        default=LOADS,
        help="of the capacity; default: " + ",".join(f"{load:g}" for load in LOADS),
    )
    options = parser.parse_args()
    if options.seconds <= 0 or options.rounds < 1:
        parser.error("--seconds is more than 0, and --rounds at least 1")
    stop_on_terminate()
    return run(options.loads, options.seconds, options.rounds)


if __name__ == "__main__":
    sys.exit(main())
