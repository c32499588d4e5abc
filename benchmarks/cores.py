"""What the service makes of the cores it is given: all, one, a quota, a part of one, shared ones.

all-MiniLM-L6-v2 is served anew for each case, bound to cores (taskset), in a control group with a
quota of CPU time (cgroup), or beside a process that never rests; its threads and whether they spin
are its own choice unless the case says otherwise. Two loads by wrk: four connections of eight mixed
texts a request, which keeps the trunk busy, and one connection of one short text, for what waiting
threads cost.

wrk runs on the last core in every case. That core is free of the server where it is bound to
another one, and not where it may use both, so wrk could take from one case what it does not take
from the other: the table shows what it takes. With eight texts a request that is about a hundredth
of a core, and a ratio is wrong by half of that at the most.

What a text costs the service in CPU time tells spinning apart from a slow machine: a thread that
spins uses up its core, or the quota, without computing.

Each round measures every case, every other round in reverse. Ratios are taken within a round, and
the median is the figure.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.groups import GroupRefused, make_group
from benchmarks.load import Load, load, require_wrk, write_bodies, write_requests
from benchmarks.minilm import ensure_bundle
from benchmarks.results import RESULTS, Target, divide, save_results, say, show_table
from benchmarks.servers import Server, cloze, make_body, serve, stop_on_terminate
from benchmarks.texts import KINDS, draw_texts, list_words
from benchmarks.usage import read_children_s, read_used_s
from models.machine.limits import count_cores
from models.pipeline import Pipeline

TARGET = Target(0.45)
_TEXTS = 8
_CONNECTIONS = 4
_WARM_UP_S = 1
_CORES = 2
_BUSY = "while True: pass"


@dataclass(frozen=True, slots=True)
class Case:
    """The cores the service is given and, after a colon in the name, what it is told to do."""

    name: str
    cores: str = "0,1"
    quota: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    beside: bool = False  # a process that never rests
    judged: bool = False  # whether it must reach the target


_ONE, _TWO = {"CLOZE_THREADS": "1"}, {"CLOZE_THREADS": "2"}
_ON, _OFF = {"CLOZE_SPIN": "on"}, {"CLOZE_SPIN": "off"}
BASE = Case("2")
CASES = (
    BASE,
    Case("2: no spin", settings=_OFF),
    Case("1 by affinity", "0", judged=True),
    Case("1 by affinity: 2 spin", "0", settings=_TWO | _ON),
    Case("1 by quota", quota=1, judged=True),
    Case("1 by quota: 2", quota=1, settings=_TWO | _OFF),
    Case("1 by quota: 2 spin", quota=1, settings=_TWO | _ON),
    Case("1.5 by quota", quota=1.5, judged=True),
    Case("1.5 by quota: 1", quota=1.5, settings=_ONE),
    Case("1.5 by quota: 2 spin", quota=1.5, settings=_TWO | _ON),
    Case("0.5 by quota", quota=0.5),
    Case("2, shared", beside=True),
    Case("2, shared: no spin", beside=True, settings=_OFF),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one case showed in one round.

    `used` and `generator` are how many cores the service and wrk kept busy, on average, while there
    was the load that keeps the trunk busy.
    """

    threads: int
    spin: bool
    busy: Load
    alone: Load
    used: float
    generator: float

    @property
    def texts_per_second(self) -> float:
        """Texts a second of the requests that keep it busy."""
        return self.busy.requests_per_second * _TEXTS

    @property
    def cpu_ms_per_text(self) -> float:
        """What a text costs the service, in milliseconds of a core."""
        return 1e3 * self.used / self.texts_per_second


def measure(case: Case, bundle: Path, bodies: Sequence[Path], seconds: int) -> Found:
    """Start the service as the case says, warm it, load it twice, and stop it.

    Raises GroupRefused where the case needs a group and none can be made.
    """
    many, one = bodies
    with ExitStack() as stack:
        enter = stack.enter_context(make_group(case.quota)) if case.quota else ()
        server = cloze(bundle)
        command = (*enter, "taskset", "--cpu-list", case.cores, *server.command)
        if case.beside:
            stack.enter_context(_keep_busy())
        running = stack.enter_context(serve(Server(server.name, command, case.settings)))
        pin = ("taskset", "--cpu-list", str(_CORES - 1))
        load(running.url, many, connections=_CONNECTIONS, seconds=_WARM_UP_S, prefix=pin)
        time.sleep(1)
        used, generator = read_used_s(running.pid), read_children_s()
        busy = load(running.url, many, connections=_CONNECTIONS, seconds=seconds, prefix=pin)
        used = (read_used_s(running.pid) - used) / seconds
        generator = (read_children_s() - generator) / seconds
        time.sleep(1)
        alone = load(running.url, one, connections=1, seconds=max(1, seconds // 2), prefix=pin)
        choice = _read_choice(RESULTS / "logs" / f"{server.name}.log")
    return Found(choice["threads"], choice["spin"], busy, alone, used, generator)


def make_bodies(bundle: Path) -> tuple[Path, Path]:
    """The requests of eight mixed texts, and those of one short text."""
    words = list_words(Pipeline.open(bundle, threads=1).encoder)
    short, mixed = (draw_texts(kind, words) for kind in KINDS if kind.name in ("short", "mixed"))
    groups = [mixed[place : place + _TEXTS] for place in range(0, len(mixed), _TEXTS)]
    folder = RESULTS / "bodies"
    return (
        write_requests(folder / "cores-mixed.jsonl", [make_body(group) for group in groups]),
        write_bodies(folder / "cores-short.jsonl", short),
    )


def run(rounds: int, seconds: int) -> None:
    """Measure all cases in rounds, show the tables, write the results."""
    require_wrk()
    if count_cores() != _CORES:
        say(f"{count_cores()} cores are free here; cores 0 and 1 are measured")
    bundle = ensure_bundle()
    bodies = make_bodies(bundle)
    found: dict[str, list[Found]] = {case.name: [] for case in CASES}
    refused: dict[str, str] = {}
    for turn in range(rounds):
        for case in CASES if turn % 2 == 0 else CASES[::-1]:
            if case.name in refused:
                continue
            say(f"round {turn + 1}: {case.name}")
            try:
                found[case.name].append(measure(case, bundle, bodies, seconds))
            except GroupRefused as reason:
                refused[case.name] = str(reason)
    show(found, refused)
    content = {
        "rounds": rounds,
        "seconds": seconds,
        "cases": {name: [asdict(one) for one in some] for name, some in found.items()},
        "ratios": {name: _compare(some, found) for name, some in found.items() if some},
        "refused": refused,
    }
    say(f"written to {save_results('cores', content)}")


def show(found: Mapping[str, Sequence[Found]], refused: Mapping[str, str]) -> None:
    """Print the ratios to two cores with their targets, then what was paid for them."""
    cases = [case for case in CASES if found[case.name]]
    ratios = {case.name: _compare(found[case.name], found) for case in cases}
    show_table(
        f"{_CONNECTIONS} connections of {_TEXTS} mixed texts: medians of the rounds",
        ("cores", "threads", "texts/s", "p50 ms", "p99 ms", "of 2 cores", "target"),
        [
            (
                case.name,
                f"{found[case.name][0].threads}{' spin' if found[case.name][0].spin else ''}",
                f"{_middle(found[case.name], lambda one: one.texts_per_second):,.0f}",
                f"{_middle(found[case.name], lambda one: one.busy.p50_ms):,.0f}",
                f"{_middle(found[case.name], lambda one: one.busy.p99_ms):,.0f}",
                f"{ratios[case.name]['median']:.2f}",
                TARGET.judge(ratios[case.name]["median"]) if case.judged else "",
            )
            for case in cases
        ],
    )
    show_table(
        "The same, and alone: one connection, a short text a request",
        ("cores", "least to most", "CPU ms/text", "wrk cores", "alone p50 ms", "p99 ms"),
        [
            (
                case.name,
                f"{ratios[case.name]['least']:.2f} to {ratios[case.name]['most']:.2f}",
                f"{_middle(found[case.name], lambda one: one.cpu_ms_per_text):.1f}",
                f"{_middle(found[case.name], lambda one: one.generator):.3f}",
                f"{_middle(found[case.name], lambda one: one.alone.p50_ms):,.1f}",
                f"{_middle(found[case.name], lambda one: one.alone.p99_ms):,.1f}",
            )
            for case in cases
        ],
    )
    for name, reason in refused.items():
        say(f"not measured: {name}: {reason}")


def _middle(some: Sequence[Found], figure: Callable[[Found], float]) -> float:
    return median(figure(one) for one in some)


def _compare(some: Sequence[Found], found: Mapping[str, Sequence[Found]]) -> dict[str, float]:
    rates = [one.texts_per_second for one in some]
    return divide(rates, [one.texts_per_second for one in found[BASE.name]])


def _read_choice(log: Path) -> dict[str, Any]:
    """The threads that the service chose, as it tells in its log."""
    for line in log.read_text(encoding="utf-8").splitlines():
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == "threads":
            return entry
    raise RuntimeError(f"{log} does not tell of any threads")


@contextmanager
def _keep_busy() -> Iterator[None]:
    """A process that never rests, on whichever core it finds."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cores",
        description="Texts a second by the cores the service is given, and whether threads spin.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=int, default=6, help="of each load; default: 6")
    stop_on_terminate()
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
