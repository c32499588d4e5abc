"""Texts a second in one process: the flat trunk against padded batches and one text at a time.

Three ways to do the same work, the hidden states of every token of the same texts, in arrival
order and tokenised beforehand:

- `one`     a text at a time, by whichever graph is fastest for that: the flat one, the padded one,
            or a padded one without a mask;
- `padded`  batches of 16, each padded to its longest text (benchmarks/padded.py says why this is
            the strongest fair baseline);
- `flat`    what the product does: batches of up to 512 tokens, packed without padding.

All run in sessions of models.engines, set as the product sets them, and the time each takes to lay
out its batches counts. Before anything is timed the hidden states are compared, text by text. The
ways take turns, in another order each round, and ratios are taken within a round; the median over
the rounds is the figure, since neighbours on a shared machine disturb a round, not a ratio.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.minilm import ensure_bundle
from benchmarks.padded import ensure_padded_trunk, pad
from benchmarks.results import Target, divide, save_results, say, show_table
from benchmarks.texts import KINDS, Kind, draw_texts, list_words
from models.choice import MAX_BATCH_TOKENS
from models.engines import Session, open_session
from models.heads import EmbedOptions, Job
from models.pipeline import Pipeline, form_batches, prepare
from models.text.encoded import Encoded

ROUNDS = 7
PADDED_BATCH_TEXTS = 16
TOLERANCE = 1e-4
TARGETS = {
    ("short", "flat/padded"): Target(1.6),
    ("mixed", "flat/padded"): Target(2.8),
    ("long", "flat/padded"): Target(1.45),
    ("short", "flat/one"): Target(1.6),
    ("mixed", "flat/one"): Target(1.05),
    ("long", "flat/one"): Target(0.95),
}

Hidden = NDArray[np.float32]
# A way takes jobs in order and gives the hidden states [tokens, H] of each.
Way = Callable[[Sequence[Job]], Iterator[Hidden]]


class Ways:
    """The ways to compute the same hidden states, by name; those of one text begin with `one`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._start = pipeline.manifest.position_start
        padded = ensure_padded_trunk(pipeline.bundle)
        unmasked = ensure_padded_trunk(pipeline.bundle, masked=False)
        self._padded = open_session(padded, "trunk", spin="on")
        self._unmasked = open_session(unmasked, "trunk", spin="on")
        self.by_name: dict[str, Way] = {
            "flat": self.run_flat,
            "padded": self.run_padded,
            "one, flat graph": self.run_one_flat,
            "one, padded graph": lambda jobs: self.run_one_padded(jobs, self._padded),
            "one, unmasked graph": lambda jobs: self.run_one_padded(jobs, self._unmasked),
        }

    def run_flat(self, jobs: Sequence[Job]) -> Iterator[Hidden]:
        """As the product does."""
        for batch in form_batches(jobs, MAX_BATCH_TOKENS):
            yield from self._run_packed([job.encoded for job in batch])

    def run_padded(self, jobs: Sequence[Job]) -> Iterator[Hidden]:
        """Sixteen texts at a time, padded to the longest."""
        for first in range(0, len(jobs), PADDED_BATCH_TEXTS):
            batch = [job.encoded for job in jobs[first : first + PADDED_BATCH_TEXTS]]
            hidden = self._padded.run(pad(batch, self._start)).whole()
            yield from (rows[: len(text.ids)] for rows, text in zip(hidden, batch, strict=True))

    def run_one_flat(self, jobs: Sequence[Job]) -> Iterator[Hidden]:
        """A text at a time, packed alone."""
        for job in jobs:
            yield from self._run_packed([job.encoded])

    def run_one_padded(self, jobs: Sequence[Job], session: Session) -> Iterator[Hidden]:
        """A text at a time, in a rectangle of one row."""
        for job in jobs:
            yield from session.run(pad([job.encoded], self._start)).whole()

    def _run_packed(self, texts: Sequence[Encoded]) -> Iterator[Hidden]:
        output, packed = self._pipeline.run_trunk(texts)
        hidden = output.whole()
        ends = (packed.starts + packed.lengths).tolist()
        yield from (
            hidden[start:end] for start, end in zip(packed.starts.tolist(), ends, strict=True)
        )


def verify(ways: Mapping[str, Way], jobs: Sequence[Job]) -> float:
    """The largest difference of any way from `flat`. Raises where it is above the tolerance."""
    expected = [rows.copy() for rows in ways["flat"](jobs)]
    worst = 0.0
    for name, way in ways.items():
        found = list(way(jobs))
        if [rows.shape for rows in found] != [rows.shape for rows in expected]:
            raise SystemExit(f"{name} and flat give hidden states of different shapes")
        difference = max(
            float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)
        )
        if not difference <= TOLERANCE:
            raise SystemExit(
                f"{name} and flat differ by {difference:.1e}: not the same work, nothing to compare"
            )
        worst = max(worst, difference)
    return worst


def measure(ways: Mapping[str, Way], jobs: Sequence[Job], rounds: int) -> dict[str, list[float]]:
    """Texts a second of each way, a figure a round."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begin = time.perf_counter()
            for _ in ways[name](jobs):
                pass
            rates[name].append(len(jobs) / (time.perf_counter() - begin))
    return rates


def compare(kind: Kind, rates: Mapping[str, list[float]]) -> dict[str, Any]:
    """The rates of a kind of texts with the ratios that the targets are about."""
    ones = [name for name in rates if name.startswith("one")]
    best_one = max(ones, key=lambda name: median(rates[name]))
    return {
        "kind": kind.name,
        "texts": kind.texts,
        "one_graph": best_one,
        "texts_per_second": {name: median(values) for name, values in rates.items()},
        "ratios": {
            "flat/padded": divide(rates["flat"], rates["padded"]),
            "flat/one": divide(rates["flat"], rates[best_one]),
        },
        "rounds": dict(rates),
    }


def run(rounds: int) -> list[dict[str, Any]]:
    """Measure all kinds of texts, show the tables, write the results."""
    pipeline = Pipeline.open(ensure_bundle())
    head = pipeline.find_head("embed")
    words = list_words(pipeline.encoder)
    ways = Ways(pipeline).by_name
    results = []
    for kind in KINDS:
        options = head.resolve(EmbedOptions(overflow="truncate"))
        jobs = prepare(head, draw_texts(kind, words), options)
        difference = verify(ways, jobs)
        result = compare(kind, measure(ways, jobs, rounds))
        result["mean_tokens"] = sum(job.tokens for job in jobs) / len(jobs)
        result["largest_difference"] = difference
        results.append(result)
        say(f"{kind.name}: {kind.texts} texts, equal within {difference:.1e}, {rounds} rounds")
    show(results)
    say(f"written to {save_results('in_process', {'rounds': rounds, 'results': results})}")
    return results


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the rates, then the ratios with their targets."""
    names = list(results[0]["texts_per_second"])
    show_table(
        "In process: texts a second, median of the rounds",
        ("texts (mean tokens)", *names),
        [
            (
                f"{result['kind']} ({result['mean_tokens']:.0f})",
                *(f"{result['texts_per_second'][name]:,.0f}" for name in names),
            )
            for result in results
        ],
    )
    rows = []
    for result in results:
        for name, ratio in result["ratios"].items():
            target = TARGETS[result["kind"], name]
            spread = f"{ratio['least']:.2f} to {ratio['most']:.2f}"
            rows.append(
                (
                    f"{result['kind']}, {name}",
                    f"{ratio['median']:.2f}",
                    spread,
                    target.judge(ratio["median"]),
                )
            )
    show_table(
        "In process: ratios (one: the fastest of its graphs)",
        ("texts, ratio", "median", "least to most", "target"),
        rows,
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.in_process",
        description="Texts a second: the flat trunk against padding and one at a time.",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    run(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
