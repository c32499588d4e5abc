"""The memory of a service that runs for long: resident bytes over requests of ever new shapes.

The default model is served as an operator starts it, and asked over eight connections for all of
its tasks and heads in turn: mostly one text a request, in every tenth up to 32, of lengths
log-uniform from the shortest to the longest the model takes. After the last come requests of 32 of
the longest texts, for the peak. The figure is what is resident (VmRSS) at the end, over what was
after the first 20,000 requests, or a tenth of them if that is less.
"""

import argparse
import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.results import Target, save_results, say, show_table
from benchmarks.servers import HOST, Running, cloze, serve, stop_on_terminate
from benchmarks.startup import read_memory
from benchmarks.texts import SEED, list_words
from models.bundle.bundle import Bundle
from models.pipeline import Pipeline
from service.settings import DEFAULT_BUNDLE

REQUESTS = 200_000
TARGET = Target(1.08, most=True)
_BASE = 20_000
_MARKS = (1_000, 5_000, 20_000, 50_000, 100_000, 150_000, 200_000)
_CONNECTIONS = 8
_MOST_TEXTS = 32
_MANY = 0.1  # of the requests carry more than one text
_LEAST_TOKENS = 3
_SPECIAL_TOKENS = 2
_LARGEST = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """What the service took after so many requests, in MB of a million bytes."""

    requests: int
    resident_mb: float
    anonymous_mb: float


class Requests:
    """Draws bodies: task after task, texts of random lengths, the same ones each time."""

    def __init__(self, bundle: Bundle) -> None:
        self._heads = [(head.task, head.name) for head in bundle.manifest.heads]
        self._max_tokens = bundle.manifest.max_tokens
        self._words = list_words(Pipeline(bundle).encoder)
        self._chance = np.random.default_rng(SEED)

    def draw(self, count: int) -> Iterator[bytes]:
        """So many requests, as they go over the wire."""
        for place in range(count):
            many = self._chance.random() < _MANY
            texts = self._draw_between(1, _MOST_TEXTS) if many else 1
            lengths = [self._draw_between(_LEAST_TOKENS, self._max_tokens) for _ in range(texts)]
            yield self._write(place, lengths)

    def draw_largest(self, count: int) -> Iterator[bytes]:
        """So many requests of as many of the longest texts."""
        for place in range(count):
            yield self._write(place, [self._max_tokens] * _MOST_TEXTS)

    def _draw_between(self, least: int, most: int) -> int:
        """A whole number from least to most, log-uniform."""
        drawn = math.exp(self._chance.uniform(math.log(least), math.log(most + 1)))
        return min(most, int(drawn))

    def _write(self, place: int, lengths: Sequence[int]) -> bytes:
        task, head = self._heads[place % len(self._heads)]
        items = [self._make_item(task, length) for length in lengths]
        if task == "embed":
            return _frame("embeddings", {"input": items})
        return _frame(task, {"inputs": items} | ({"head": head} if head else {}))

    def _make_item(self, task: str, length: int) -> Any:
        """An item of so many tokens; a word is one."""
        places = self._chance.integers(len(self._words), size=max(1, length - _SPECIAL_TOKENS))
        words = [self._words[place] for place in places.tolist()]
        if task == "fill-mask":
            words[len(words) // 2] = "[MASK]"
        if task == "next-sentence":
            # Another special token stands between the two.
            middle = max(1, (len(words) - 1) // 2)
            first, second = words[:middle], words[middle : len(words) - 1] or words[:1]
            return {"first": " ".join(first), "second": " ".join(second)}
        return " ".join(words)


def _frame(route: str, content: dict[str, Any]) -> bytes:
    body = json.dumps(content).encode()
    head = (
        f"POST /v1/{route} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(port: int, requests: Iterator[bytes]) -> None:
    """Send the requests over a connection, each when the last is answered.

    Several of these may share an iterator. Raises RuntimeError for any answer but 200.
    """
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.lower().splitlines()[1:] if line)
            body = await reader.readexactly(int(fields[b"content-length"]))
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{head.splitlines()[0]!r} for a request: {body[:200]!r}")
    finally:
        writer.close()


async def ask_all(port: int, requests: Iterator[bytes]) -> None:
    """Send the requests over all connections at once."""
    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(ask(port, requests))


def measure(running: Running, requests: Requests, count: int) -> Iterator[Mark]:
    """Ask so many requests, and tell what is resident at each mark on the way."""
    done = 0
    marks = {mark for mark in (*_MARKS, min(_BASE, count // 10)) if 0 < mark < count}
    for mark in sorted(marks | {count}):
        asyncio.run(ask_all(running.port, requests.draw(mark - done)))
        done = mark
        resident, anonymous = (read_memory(running.pid, name) for name in ("VmRSS", "RssAnon"))
        say(f"after {done:,} requests: {resident:.1f} MB resident, {anonymous:.1f} MB of its own")
        yield Mark(done, resident, anonymous)


def run(count: int = REQUESTS) -> None:
    """Measure, show the table, write the results."""
    bundle = Bundle.open(DEFAULT_BUNDLE)
    requests = Requests(bundle)
    with serve(cloze(bundle.path)) as running:
        marks = list(measure(running, requests, count))
        peak_mb = read_memory(running.pid, "VmHWM")
        asyncio.run(ask_all(running.port, requests.draw_largest(_LARGEST)))
        largest_mb = read_memory(running.pid, "VmHWM")
    base = next(mark for mark in marks if mark.requests >= min(_BASE, count // 10))
    ratio = marks[-1].resident_mb / base.resident_mb
    show_table(
        f"Memory over time: {bundle.manifest.name}, {_CONNECTIONS} connections",
        ("requests", "resident MB", "of its own MB", f"over {base.requests:,}"),
        [
            (
                f"{mark.requests:,}",
                f"{mark.resident_mb:.1f}",
                f"{mark.anonymous_mb:.1f}",
                f"{mark.resident_mb / base.resident_mb:.3f}",
            )
            for mark in marks
        ],
    )
    say(f"from {base.requests:,} to {count:,} requests: {ratio:.3f}, target {TARGET.judge(ratio)}")
    say(f"peak: {peak_mb:.1f} MB; after {_LARGEST} requests of the largest: {largest_mb:.1f} MB")
    content = {
        "marks": [asdict(mark) for mark in marks],
        "ratio": ratio,
        "peak_mb": peak_mb,
        "largest_mb": largest_mb,
    }
    say(f"written to {save_results('memory', content)}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description="Resident memory over many requests of random lengths.",
    )
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"default: {REQUESTS}")
    stop_on_terminate()
    run(parser.parse_args().requests)


if __name__ == "__main__":
    main()
