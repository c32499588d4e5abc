"""What was the matter when: which refusals were due, and which version could answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from math import inf


class Trouble(StrEnum):
    """What explains a refusal while it lasts."""

    REPLACING = "a session is being replaced"
    FULL = "the queue is full"


@dataclass(slots=True)
class _Span:
    kind: Trouble | int
    began: float
    ended: float = inf


class Weather:
    """Spans of time, by time.perf_counter()."""

    def __init__(self) -> None:
        self._troubles: list[_Span] = []
        self._versions = [_Span(0, -inf)]

    @contextmanager
    def during(self, trouble: Trouble) -> Iterator[None]:
        """Note that there is trouble while the block runs."""
        span = _Span(trouble, time.perf_counter())
        self._troubles.append(span)
        try:
            yield
        finally:
            span.ended = time.perf_counter()

    @contextmanager
    def changing(self, version: int) -> Iterator[None]:
        """Note that this version may answer from now on, and no other once the block ends."""
        before = self._versions[-1]
        self._versions.append(_Span(version, time.perf_counter()))
        yield
        before.ended = time.perf_counter()

    def had(self, trouble: Trouble, since: float) -> bool:
        """Whether there was such trouble at any moment since then."""
        return any(span.kind is trouble and span.ended >= since for span in self._troubles)

    def versions(self, since: float) -> frozenset[int]:
        """The versions that could answer at any moment since then."""
        return frozenset(int(span.kind) for span in self._versions if span.ended >= since)
