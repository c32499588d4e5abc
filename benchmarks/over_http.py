"""Requests a second over HTTP: the service against FastAPI around sentence-transformers.

Both answer `POST /v1/embeddings` with one text a request and nothing else said, so in floats, from
the same checkpoint in fp32, as they are started by default; wrk asks, on the same cores, over 16
connections and over one. Before any load their vectors are compared; where these differ, or one
answer is not 200, nothing is reported.

Only one server runs at a time. In each round one is started, warmed, measured with all texts and
stopped, then the other; which comes first alternates. Ratios are taken within a round, and the
median over the rounds is the figure. With `--before` the other is the service of another commit;
then the targets, which are of the baseline, say nothing. benchmarks/sentence_transformers_app.py
says what the baseline is, and how to make its environment:

    python -m venv .venv-baseline
    .venv-baseline/bin/pip install -r benchmarks/requirements-baseline.txt
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import Load, load, require_wrk, write_bodies
from benchmarks.minilm import ensure_bundle
from benchmarks.results import RESULTS, Target, divide, save_results, say, show_table
from benchmarks.servers import (
    BASELINE_PYTHON,
    Server,
    check_out,
    cloze,
    sentence_transformers,
    serve,
    stop_on_terminate,
)
from benchmarks.texts import KINDS, draw_texts, list_words
from models.pipeline import Pipeline

CONNECTIONS = (16, 1)
TOLERANCE = 1e-4
TARGETS = {
    ("short", 16): Target(3.0),
    ("mixed", 16): Target(1.6),
    ("long", 16): Target(1.0),
    ("short", 1): Target(1.0),
    ("mixed", 1): Target(1.0),
    ("long", 1): Target(1.0),
}
_CHECKED_TEXTS = 4
_WARM_UP_S = 3
_PAUSE_S = 1.0

Case = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long is measured, and by which Python the baseline runs."""

    rounds: int = 3
    seconds: int = 6
    baseline_python: Path = BASELINE_PYTHON
    before: str | None = None


@dataclass(slots=True)
class Record:
    """What was measured of one server: a load a round, for each case."""

    loads: dict[Case, list[Load]] = field(default_factory=dict)

    def add(self, case: Case, found: Load) -> None:
        """Keep the load of a round."""
        self.loads.setdefault(case, []).append(found)

    def rates(self, case: Case) -> list[float]:
        """Requests a second, a figure a round."""
        return [found.requests_per_second for found in self.loads[case]]

    def middle(self, case: Case) -> Load:
        """The median of each figure over the rounds."""
        rows = [asdict(found) for found in self.loads[case]]
        return Load(**{name: median(row[name] for row in rows) for name in rows[0]})


def make_texts(bundle: Path) -> dict[str, list[str]]:
    """The texts of each kind, none of which either server has to cut."""
    encoder = Pipeline.open(bundle).encoder
    words = list_words(encoder)
    texts = {kind.name: draw_texts(kind, words) for kind in KINDS}
    for name, some in texts.items():
        for text in some:
            encoder.encode(text, overflow="error")
        write_bodies(bodies_of(name), some)
    return texts


def bodies_of(kind: str) -> Path:
    """Where the requests of a kind of texts lie."""
    return RESULTS / "bodies" / f"{kind}.jsonl"


def verify(servers: Sequence[Server], texts: Mapping[str, Sequence[str]]) -> float:
    """The largest difference between the servers' vectors. Exits where they are not the same."""
    some = [text for kind in texts.values() for text in kind[:_CHECKED_TEXTS]]
    found: list[list[NDArray[np.float32]]] = []
    for server in servers:
        with serve(server) as running:
            found.append([running.embed(text) for text in some])
    if any(one.shape != other.shape for one, other in zip(*found, strict=True)):
        raise SystemExit("the servers give vectors of different sizes; nothing to compare")
    worst = max(float(np.abs(one - other).max()) for one, other in zip(*found, strict=True))
    if not worst <= TOLERANCE:
        raise SystemExit(f"the servers' vectors differ by {worst:.1e}; nothing to compare")
    return worst


def measure(server: Server, seconds: int) -> Iterator[tuple[Case, Load]]:
    """Start, warm up and measure one server with every kind of texts, and stop it."""
    with serve(server) as running:
        for kind in KINDS:
            load(running.url, bodies_of(kind.name), connections=16, seconds=_WARM_UP_S)
        for kind in KINDS:
            for connections in CONNECTIONS:
                # What the last load left unanswered is computed meanwhile.
                time.sleep(_PAUSE_S)
                bodies = bodies_of(kind.name)
                found = load(running.url, bodies, connections=connections, seconds=seconds)
                yield (kind.name, connections), found


def run(plan: Plan) -> None:
    """Verify, measure in rounds, show the tables, write the results."""
    require_wrk()
    bundle = ensure_bundle().resolve()
    if plan.before is None:
        _compare(plan, bundle, cloze(bundle), sentence_transformers(plan.baseline_python))
        return
    with check_out(plan.before) as tree:
        _compare(plan, bundle, cloze(bundle), cloze(bundle, tree, "before"))


def _compare(plan: Plan, bundle: Path, ours: Server, baseline: Server) -> None:
    difference = verify((baseline, ours), make_texts(bundle))
    say(f"vectors equal within {difference:.1e}; {plan.rounds} rounds of {plan.seconds} s a figure")
    records = {ours.name: Record(), baseline.name: Record()}
    for turn in range(plan.rounds):
        for server in (baseline, ours) if turn % 2 == 0 else (ours, baseline):
            say(f"round {turn + 1}: {server.name}")
            for case, found in measure(server, plan.seconds):
                records[server.name].add(case, found)
    results = [
        {
            "kind": kind,
            "connections": connections,
            "ratio": divide(
                records[ours.name].rates((kind, connections)),
                records[baseline.name].rates((kind, connections)),
            ),
            "median": {
                name: asdict(record.middle((kind, connections))) for name, record in records.items()
            },
            "rounds": {
                name: [asdict(found) for found in record.loads[kind, connections]]
                for name, record in records.items()
            },
        }
        for kind, connections in TARGETS
    ]
    show(results, baseline.name)
    content = {"rounds": plan.rounds, "seconds": plan.seconds, "results": results}
    say(f"written to {save_results('over_http', content)}")


def show(results: Sequence[Mapping[str, Any]], baseline: str) -> None:
    """Print the figures, then the ratios with their targets."""
    show_table(
        "Over HTTP: medians of the rounds",
        ("texts, connections, server", "requests/s", "p50 ms", "p99 ms"),
        [
            (
                f"{result['kind']}, {result['connections']}, {name}",
                f"{found['requests_per_second']:,.0f}",
                f"{found['p50_ms']:,.1f}",
                f"{found['p99_ms']:,.1f}",
            )
            for result in results
            for name, found in result["median"].items()
        ],
    )
    show_table(
        f"Over HTTP: requests a second, cloze / {baseline}",
        ("texts, connections", "median", "least to most", "target"),
        [
            (
                f"{result['kind']}, {result['connections']}",
                f"{result['ratio']['median']:.2f}",
                f"{result['ratio']['least']:.2f} to {result['ratio']['most']:.2f}",
                TARGETS[result["kind"], result["connections"]].judge(result["ratio"]["median"]),
            )
            for result in results
        ],
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option that every command line which loads the baseline has."""
    parser.add_argument(
        "--baseline-python",
        type=Path,
        default=BASELINE_PYTHON,
        help=f"Python with benchmarks/requirements-baseline.txt; default: {BASELINE_PYTHON}",
    )


def main() -> None:
    """Run the command line."""
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.over_http",
        description="Requests a second: the service against FastAPI and sentence-transformers.",
    )
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=plan.rounds, help=f"default: {plan.rounds}")
    parser.add_argument(
        "--seconds", type=int, default=plan.seconds, help=f"a figure; default: {plan.seconds}"
    )
    parser.add_argument(
        "--before", metavar="COMMIT", help="compare with the service of that commit instead"
    )
    stop_on_terminate()
    run(Plan(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
