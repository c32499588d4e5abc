"""Sends requests, some of them to leave before the answer, and counts what became of each."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.asks import TIMEOUT_S, Answered, Ask, Asks, Leave
from tests.soak.client import Broken, Client, Reply
from tests.soak.judgement import Circumstances, Outcome, Verdict, judge
from tests.soak.weather import Trouble, Weather

# How long after its deadline an answer is still waited for.
_PATIENCE_S = 15.0
_SHOWN = 20
_LOG_LINES = 5


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    sent: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    left: Counter[Leave] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of the answered right
    failures: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Flight:
    """A request under way, and the most texts of others that were at the same time."""

    ask: Ask
    began: float
    most: int


class Driver:
    """One client of many connections."""

    def __init__(self, client: Client, weather: Weather, log: Path, chance: random.Random) -> None:
        self.tally = Tally()
        self._client = client
        self._weather = weather
        self.log = log
        self._chance = chance
        self._flying: dict[int, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, asks: Asks, rate: float, over: Callable[[], bool]) -> None:
        """Send mixed requests until it is over, so many a second, however they are answered."""
        due = time.perf_counter()
        while not over():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group = [asks.mixed()]
            if self._chance.random() < 0.05:
                group += [asks.mixed() for _ in range(self._chance.randint(1, 3))]
            self.send(group)
            due += self._chance.expovariate(rate / len(group))

    def send(self, group: Sequence[Ask]) -> "list[asyncio.Task[None]]":
        """Send these; those that can be go one after another through one connection."""
        together = [ask for ask in group if isinstance(ask.expected, Answered) and not ask.leave]
        tasks = [
            asyncio.ensure_future(self._leave(ask) if ask.leave else self._ask([ask]))
            for ask in group
            if ask not in together
        ]
        if together:
            tasks.append(asyncio.ensure_future(self._ask(together)))
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return tasks

    async def finish(self) -> None:
        """Wait for everything that is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _ask(self, asks: Sequence[Ask]) -> None:
        """Send these in one go, and read their answers in order."""
        flights = [self._begin(ask) for ask in asks]
        patience_s = sum(ask.timeout_s for ask in asks) + _PATIENCE_S
        connection = None
        answered = 0
        try:
            async with asyncio.timeout(patience_s):
                connection = await self._client.take()
                await connection.send(b"".join(ask.content for ask in asks))
                for flight in flights:
                    reply = await connection.read()
                    answered += 1
                    self._end(flight, reply)
        except (Broken, TimeoutError) as error:
            if connection is not None:
                connection.close(rudely=True)
            for flight in flights[answered:]:
                self._end(flight, None, Verdict(Outcome.LOST, repr(error)))
        else:
            self._client.give(connection)

    async def _leave(self, ask: Ask) -> None:
        """Send a request, or a part of it, and go away."""
        flight = self._begin(ask)
        content = ask.content
        try:
            connection = await self._client.connect()
        except Broken as error:
            self._end(flight, None, Verdict(Outcome.LOST, repr(error)))
            return
        verdict = Verdict(Outcome.ABANDONED)
        try:
            if ask.leave is Leave.SENDING:
                content = content[: self._chance.randrange(1, len(content))]
            await connection.send(content)
            if ask.leave is Leave.READING:
                async with asyncio.timeout(TIMEOUT_S + _PATIENCE_S):
                    if not await connection.read_some():
                        verdict = Verdict(Outcome.LOST, "closed without an answer")
            else:
                await asyncio.sleep(self._chance.choice([0.0, 0.002, 0.02, 0.2]))
        except (Broken, TimeoutError) as error:
            verdict = Verdict(Outcome.LOST, repr(error))
        connection.close(rudely=self._chance.random() < 0.5)
        if verdict.outcome is Outcome.ABANDONED and ask.leave is not None:
            self.tally.left[ask.leave] += 1
        self._end(flight, None, verdict)

    def _begin(self, ask: Ask) -> _Flight:
        texts = sum(each.ask.texts for each in self._flying.values())
        for each in self._flying.values():
            each.most = max(each.most, texts + ask.texts - each.ask.texts)
        flight = _Flight(ask, time.perf_counter(), texts)
        self._flying[id(flight)] = flight
        self.tally.sent += 1
        return flight

    def _end(self, flight: _Flight, reply: Reply | None, verdict: Verdict | None = None) -> None:
        """Count it. Without a reply the verdict is given."""
        del self._flying[id(flight)]
        seconds = time.perf_counter() - flight.began
        if reply is not None:
            found = Circumstances(
                seconds=seconds,
                replacing=self._weather.had(Trouble.REPLACING, flight.began),
                full=self._weather.had(Trouble.FULL, flight.began),
                texts=flight.most,
                versions=self._weather.versions(flight.began),
            )
            verdict = judge(flight.ask, reply, found)
            self.tally.statuses[reply.status] += 1
        assert verdict is not None
        self.tally.outcomes[verdict.outcome] += 1
        if verdict.outcome is Outcome.RIGHT:
            self.tally.seconds.append(seconds)
        if verdict.outcome in {Outcome.LOST, Outcome.WRONG} and len(self.tally.failures) < _SHOWN:
            self.tally.failures.append(self._describe(flight, reply, verdict))

    def _describe(self, flight: _Flight, reply: Reply | None, verdict: Verdict) -> dict[str, Any]:
        """All that is known of a failure, with what the service's log says about it."""
        ask = flight.ask
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        about = [line for line in lines if f'"{ask.id}"' in line]
        return {
            "request": f"{ask.id} {ask.method} {ask.path}",
            "headers": ask.headers,
            "body": ask.body[:300].decode(errors="replace"),
            "texts": ask.texts,
            "seconds": round(time.perf_counter() - flight.began, 3),
            "outcome": str(verdict.outcome),
            "reason": verdict.reason,
            "status": reply.status if reply else None,
            "answer": reply.body[:300].decode(errors="replace") if reply else None,
            # The lines that name it, else the last ones before it came to its end.
            "log": [line[:500] for line in (about or lines)[-_LOG_LINES:]],
        }
