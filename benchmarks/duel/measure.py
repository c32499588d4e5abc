"""What is asked of every server, and what it found."""

import http.client
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.duel.rivals import Rival
from benchmarks.load import load, write_bodies
from benchmarks.results import RESULTS
from benchmarks.servers import HOST, Running, Server, make_body, serve
from benchmarks.startup import read_memory
from benchmarks.texts import KINDS, draw_texts, list_words
from models.pipeline import Pipeline

CONNECTIONS = (1, 16, 64)
MANY = 256
_CHECKED = 16
_WARM_UP_S = 3
_PAUSE_S = 0.5
_TURNS_OF_MANY = 3

Case = tuple[str, int]


@dataclass(slots=True)
class Found:
    """Of one server, a figure a round: requests a second, texts a second of one large request."""

    rates: dict[Case, list[float]] = field(default_factory=dict)
    many: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    worst_cosine: float = 0.0

    def save(self) -> dict[str, Any]:
        """As JSON has it."""
        rates = {
            f"{kind}, {connections}": found for (kind, connections), found in self.rates.items()
        }
        return {**asdict(self), "rates": rates}


def make_texts(bundle: Path) -> dict[str, list[str]]:
    """The texts of each kind, which no server has to cut, and their requests."""
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
    return RESULTS / "bodies" / f"duel-{kind}.jsonl"


def embed(server: Server, running: Running, texts: Sequence[str]) -> NDArray[np.float32]:
    """The vectors of texts in one request. Raises RuntimeError for any answer but 200."""
    connection = http.client.HTTPConnection(HOST, running.port, timeout=120)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", server.route, make_body(texts), headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"{server.name}: {response.status}: {content[:200]!r}")
    return np.array([each["embedding"] for each in json.loads(content)["data"]], np.float32)


def ask_some(server: Server, texts: dict[str, list[str]]) -> NDArray[np.float32]:
    """The vectors of some texts of each kind, of length 1."""
    with serve(server) as running:
        some = [embed(server, running, kind[:_CHECKED]) for kind in texts.values()]
    vectors = np.concatenate(some)
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def measure(rival: Rival, texts: dict[str, list[str]], seconds: int, found: Found) -> None:
    """Start it, warm it up, ask it everything, and stop it."""
    server = rival.server
    with serve(server) as running:
        found.ready_s.append(running.ready_after_s)
        url = f"http://{HOST}:{running.port}{server.route}"
        for kind in texts:
            load(url, bodies_of(kind), connections=16, seconds=_WARM_UP_S)
        for kind in texts:
            for connections in CONNECTIONS:
                # What the last load left unanswered is computed meanwhile.
                time.sleep(_PAUSE_S)
                rate = load(url, bodies_of(kind), connections=connections, seconds=seconds)
                found.rates.setdefault((kind, connections), []).append(rate.requests_per_second)
        some = texts["short"][:MANY]
        began = time.perf_counter()
        for _ in range(_TURNS_OF_MANY):
            embed(server, running, some)
        found.many.append(_TURNS_OF_MANY * MANY / (time.perf_counter() - began))
        found.memory_mb.append(read_memory_of_all(running.pid))


def read_memory_of_all(leader: int) -> float:
    """The resident memory of a server and its workers, in MB; what they share counts for each."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, RuntimeError):
            # Behind the name, which may hold anything: state, parent, group.
            if int(status.read_text().rpartition(")")[2].split()[2]) == leader:
                total += read_memory(int(status.parent.name))
    return total
