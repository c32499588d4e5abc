"""The requests of a soak: mixed ones with known answers, bad ones, and poison."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from tests.soak.client import write_request
from tests.soak.corpus import Corpus
from tests.soak.kinds import Kind, Refused
from tests.soak.server import MARKER
from tests.soak.tasks import DERIVED, TASKS, embed

# What the server is told to take; more is refused.
MAX_INPUTS = 128
MAX_BODY_BYTES = 1 << 20
TIMEOUT_S = 60.0
_JSON = {"Content-Type": "application/json"}


class Leave(StrEnum):
    """When a client goes away on purpose."""

    SENDING = "sending"
    WAITING = "waiting"
    READING = "reading"


@dataclass(frozen=True, slots=True)
class Answered:
    """The items of a kind, by their places, in the order they were sent."""

    kind: Kind
    places: Sequence[int]


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The place of the item that cannot be computed, as an error names it."""

    param: str


@dataclass(slots=True)
class Ask:
    """A request with what must come of it."""

    id: str
    expected: Answered | Refused | Poisoned
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(_JSON))
    method: str = "POST"
    texts: int = 1
    timeout_s: float = TIMEOUT_S
    leave: Leave | None = None

    @property
    def content(self) -> bytes:
        """The bytes that are sent."""
        return write_request(
            self.method, self.path, {**self.headers, "X-Request-ID": self.id}, self.body
        )


class Asks:
    """Draws requests, each with an id of its own."""

    def __init__(self, corpus: Corpus, chance: random.Random) -> None:
        self._corpus = corpus
        self._chance = chance
        self._number = 0
        self._bad = _list_bad(corpus)

    def mixed(self) -> Ask:
        """A request as they come: most right and small, some with other ends."""
        share = self._chance.random()
        if share < 0.04:
            return self._bad_one()
        if share < 0.06:
            return self._poison()
        ask = self.right(self._chance.choice(self._corpus.kinds), self._count())
        if share < 0.14:
            self._hurry(ask, self._chance.choice([0.03, 0.1, 0.5, 2.0]))
        elif share < 0.18:
            ask.headers["X-Priority"] = self._chance.choice(["bulk", "interactive"])
        elif share < 0.25:
            ask.leave = self._chance.choice(list(Leave))
        return ask

    def large(self) -> Ask:
        """One of a burst: many inputs, sometimes in a hurry."""
        ask = self.right(self._chance.choice(self._corpus.kinds), self._chance.randint(32, 64))
        share = self._chance.random()
        if share < 0.6:
            ask.headers["X-Priority"] = "interactive"
        if self._chance.random() < 0.3:
            self._hurry(ask, self._chance.uniform(0.2, 3.0))
        return ask

    def one_of_each(self) -> list[Ask]:
        """A few inputs of every kind."""
        return [self.right(kind, 3) for kind in self._corpus.kinds]

    def right(self, kind: Kind, count: int) -> Ask:
        """So many items of a kind."""
        places = self._chance.choices(range(len(kind.versions[0])), k=count)
        body = orjson.dumps(kind.body(places, named=self._chance.random() < 0.5))
        return Ask(self._next(), Answered(kind, places), kind.path, body, texts=count)

    def _count(self) -> int:
        share = self._chance.random()
        if share < 0.85:
            return self._chance.randint(1, 4)
        return self._chance.randint(5, 16) if share < 0.97 else self._chance.randint(17, 64)

    def _hurry(self, ask: Ask, timeout_s: float) -> None:
        ask.timeout_s = round(timeout_s, 3)
        ask.headers["X-Request-Timeout"] = str(ask.timeout_s)

    def _bad_one(self) -> Ask:
        path, body, expected, more = self._chance.choice(self._bad)
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {**_JSON, **more}
        method = headers.pop("method", "POST")
        return Ask(self._next(), expected, path, content, headers, method)

    def _poison(self) -> Ask:
        kinds = [kind for kind in self._corpus.kinds if kind.plain]
        kind = self._chance.choice(kinds)
        ask = self.right(kind, self._count())
        body: dict[str, Any] = orjson.loads(ask.body)
        place = self._chance.randrange(ask.texts)
        body[kind.field][place] = f"some {MARKER} words"
        ask.body = orjson.dumps(body)
        ask.expected = Poisoned(f"{kind.field}[{place}]")
        return ask

    def _next(self) -> str:
        self._number += 1
        return f"soak-{self._number}"


def _list_bad(corpus: Corpus) -> list[tuple[str, Any, Refused, dict[str, str]]]:
    """Path, body, the refusal, and headers (with the method among them).

    What any route refuses, embeddings are asked for; what one refuses alone, its module knows.
    """
    path, long = embed.PATH, corpus.long_text
    invalid = Refused(400, "invalid_value")
    plain, tasks = {"input": "rain"}, (*TASKS, *DERIVED)
    return [
        (path, b'{"input": ', Refused(400, "invalid_json"), {}),
        (path, plain, Refused(400, "invalid_content_type"), {"Content-Type": "text/plain"}),
        (path, {}, Refused(400, "missing_field"), {}),
        (path, {**plain, "colour": "red"}, Refused(400, "unknown_field"), {}),
        (path, {"input": ["rain", ""]}, Refused(400, "empty_input"), {}),
        (path, {"input": ["rain", long]}, Refused(400, "input_too_long"), {}),
        (path, {"input": ["rain"] * (MAX_INPUTS + 1)}, Refused(400, "too_many_inputs"), {}),
        (path, b" " * (MAX_BODY_BYTES + 1), Refused(413, "body_too_large"), {}),
        (path, {**plain, "model": "gpt"}, Refused(404, "model_not_found"), {}),
        (path, plain, invalid, {"X-Request-Timeout": "soon"}),
        (path, plain, invalid, {"X-Priority": "highest"}),
        *((each.PATH, body, refused, {}) for each in tasks for body, refused in each.BAD),
        ("/v1/nothing", plain, Refused(404, "route_not_found"), {}),
        (path, b"", Refused(405, "method_not_allowed"), {"method": "GET"}),
    ]
