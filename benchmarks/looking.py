"""What a look into a model costs: memory that stays, time, and what others wait for it.

The service, as an operator starts it, with a bundle. It is asked for attention of its last layer,
in texts as long as may be, and for words; memory is read from the process before and after, what
is its own and what it maps from files apart. Then one client asks for embeddings of short texts,
one after the other, in rounds: alone, while another asks for attention without pause, and, to
compare, while another asks for embeddings of texts that are as long.
"""

import argparse
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.results import say, show_table
from benchmarks.servers import HOST, ROUTE, Running, cloze, serve, stop_on_terminate
from benchmarks.startup import read_memory
from models.bundle.bundle import Bundle
from models.bundle.manifest import trunk_file
from service.settings import DEFAULT_BUNDLE, Settings

ROUNDS = 5
SECONDS = 3.0
_ATTENTION, _WORDS = "/v1/attention", "/v1/words"
_SHORT = {"input": "Bread and milk."}
_ASKED = {"positive": ["king", "woman"], "negative": ["man"]}
_FIELDS = ("RssAnon", "RssFile")
_LOOKS = 10


class Client:
    """One connection, over which requests are sent one after the other."""

    def __init__(self, running: Running) -> None:
        self._connection = http.client.HTTPConnection(HOST, running.port, timeout=60)

    def ask(self, route: str, body: Any) -> float:
        """The milliseconds of a request. Raises RuntimeError for any answer but 200."""
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", route, json.dumps(body).encode(), headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {content[:200]!r}")
        return (time.perf_counter() - began) * 1e3


@contextmanager
def keep_asking(running: Running, route: str, body: Any) -> Iterator[None]:
    """Another client asks this without pause, until the block ends."""
    stopped = threading.Event()

    def ask() -> None:
        client = Client(running)
        while not stopped.is_set():
            client.ask(route, body)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def measure_memory(running: Running, layers: int, text: str) -> None:
    """Show what looks take and leave behind."""
    client = Client(running)
    for _ in range(20):
        client.ask(ROUTE, {"input": text})
    rows = [["serving", "", "", *_read_memory(running)]]
    for name, route, body in (
        ("attention, first layer", _ATTENTION, {"inputs": text, "layer": 0}),
        ("attention, last layer", _ATTENTION, {"inputs": text, "layer": layers - 1}),
        ("words", _WORDS, _ASKED),
    ):
        first = client.ask(route, body)
        later = median(client.ask(route, body) for _ in range(_LOOKS))
        rows.append([name, f"{first:.0f}", f"{later:.0f}", *_read_memory(running)])
    header = ["after", "first, ms", "later, ms", "own, MB", "mapped, MB"]
    show_table("what stays", header, rows)


def _read_memory(running: Running) -> list[str]:
    return [f"{read_memory(running.pid, field):.0f}" for field in _FIELDS]


def measure_waits(running: Running, layers: int, text: str) -> None:
    """Show what others wait while somebody looks."""
    client = Client(running)
    attention = {"inputs": text, "layer": layers - 1}
    kinds: dict[str, tuple[str, Any] | None] = {
        "alone": None,
        "beside attention": (_ATTENTION, attention),
        "beside words": (_WORDS, _ASKED),
        "beside embeddings as long": (ROUTE, {"input": text}),
    }
    waits: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, asked in kinds.items():
            if asked is None:
                waits[name] += _ask_for_a_while(client)
                continue
            with keep_asking(running, *asked):
                waits[name] += _ask_for_a_while(client)
    rows = [
        [name, str(len(each)), *(f"{value:.1f}" for value in _summarize(each))]
        for name, each in waits.items()
    ]
    header = ["asked", "requests", "median, ms", "p95, ms", "p99, ms"]
    show_table("embeddings of a short text", header, rows)


def _ask_for_a_while(client: Client) -> list[float]:
    end = time.perf_counter() + SECONDS
    waits = []
    while time.perf_counter() < end:
        waits.append(client.ask(ROUTE, _SHORT))
    return waits


def _summarize(waits: list[float]) -> tuple[float, float, float]:
    parts = quantiles(waits, n=100)
    return median(waits), parts[94], parts[98]


def main() -> None:
    """Measure one bundle, and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.looking", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    bundle = Bundle.open(parser.parse_args().bundle)
    stop_on_terminate()
    most = min(Settings().max_attention_tokens, bundle.manifest.max_tokens)
    text = " ".join(["the"] * (most - 2))
    weights = bundle.manifest.files[trunk_file("fp32")].bytes / 1e6
    say(f"{bundle.manifest.name}, weights of {weights:.0f} MB, a text of {most} tokens")
    with serve(cloze(bundle.path)) as running:
        measure_memory(running, bundle.manifest.layers, text)
        measure_waits(running, bundle.manifest.layers, text)


if __name__ == "__main__":
    main()
