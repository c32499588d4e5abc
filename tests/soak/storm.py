"""What is done to the service: its sessions, its bundles, and its queue."""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from signal import SIGHUP
from typing import Any

import orjson

from models.bundle.bundle import Bundle
from tests.soak.asks import Asks
from tests.soak.bundles import MAIN, OTHER, Bundles
from tests.soak.client import Broken, Client, Reply, write_request
from tests.soak.driver import Driver
from tests.soak.server import HANG, HOLD, KILL, SAID
from tests.soak.weather import Trouble, Weather

ADMIN_KEY = "soak-admin"
_FAULTS = {"killed": KILL, "hung": HANG, "held": HOLD}
# Longer than any repair may take.
_PATIENCE_S = 60.0
_POLL_S = 0.1
_READER = json.JSONDecoder()
# Requests at once; more where the machine is so quick that all of them are answered in time.
_BURST, _LARGEST_BURST = 60, 480


@dataclass(slots=True)
class Damage:
    """What was done, and how the service bore it."""

    faults: Counter[str] = field(default_factory=Counter)
    swept: int = 0  # faults of sessions that a replaced bundle took away
    bundles: int = 0
    by_admin: bool = False
    bursts: int = 0
    not_ready_s: float = 0.0
    unread: set[str] = field(default_factory=set)  # lines of the log about faults
    problems: list[str] = field(default_factory=list)


class Storm:
    """Damages one server until it is told to stop."""

    def __init__(  # noqa: PLR0917
        self,
        pid: int,
        client: Client,
        bundles: Bundles,
        driver: Driver,
        weather: Weather,
        chance: random.Random,
    ) -> None:
        self.damage = Damage()
        self._pid = pid
        self._client = client
        self._bundles = bundles
        self._driver = driver
        self._weather = weather
        self._chance = chance
        self._ready = True
        self._changing = asyncio.Lock()
        self._next_bundle = OTHER

    def is_ready(self) -> bool:
        """Whether it was, a moment ago."""
        return self._ready

    async def watch(self) -> None:
        """Ask for health again and again, until it is cancelled."""
        not_ready_since: float | None = None
        while True:
            for path in ("/health/live", "/health/ready"):
                try:
                    status = (await self.get(path)).status
                except Broken as error:
                    status = 0
                    self._complain(f"{path} was not answered: {error}")
                if path == "/health/live" and status == 503:
                    self._complain("not live: only a new process would have helped")
            self._ready = status == 200
            now = time.perf_counter()
            if self._ready:
                not_ready_since = None
            else:
                not_ready_since = not_ready_since or now
                lasted = now - not_ready_since + _POLL_S
                self.damage.not_ready_s = max(self.damage.not_ready_s, lasted)
            await asyncio.sleep(_POLL_S)

    async def rage(self, asks: Asks, until: float) -> None:
        """Do everything that can be done, until then; on a slow machine for longer, to do all."""
        await asyncio.gather(
            self._damage_sessions(until), self._replace_bundles(until), self._fill(asks, until)
        )

    async def get(self, path: str, **headers: str) -> Reply:
        """The answer to a GET. Raises Broken."""
        return await self._client.ask(write_request("GET", path, headers, b""))

    async def count_replacements(self) -> float:
        """Sessions that were replaced, by the service's own count."""
        return sum((await self._read_replacements()).values())

    async def wait_until(self, condition: Callable[[], Any], what: str) -> bool:
        """Wait for it, and complain if it does not come."""
        end = time.perf_counter() + _PATIENCE_S
        while time.perf_counter() < end:
            found = condition()
            if found:
                return True
            await asyncio.sleep(_POLL_S)
        self._complain(f"not within {_PATIENCE_S:g} s: {what}")
        return False

    async def _damage_sessions(self, until: float) -> None:
        names = list(_FAULTS)
        while names or time.perf_counter() < until:
            name = names.pop(0) if names else self._chance.choice(list(_FAULTS))
            with self._weather.during(Trouble.REPLACING):
                await self._damage_session(name)
                await asyncio.sleep(3 * _POLL_S)
            await asyncio.sleep(self._chance.uniform(0.2, 2.0))

    async def _damage_session(self, name: str) -> None:
        """One fault, and the wait for its repair."""
        replaced = await self._read_replacements()
        lines, began = len(self._read_log()), time.perf_counter()
        os.kill(self._pid, _FAULTS[name])
        self.damage.faults[name] += 1
        replacing = None
        if sum(self.damage.faults.values()) > len(_FAULTS) and self._chance.random() < 0.3:
            replacing = asyncio.ensure_future(self._replace_bundle())
        while not await self._is_repaired(lines, replaced):
            if time.perf_counter() - began > _PATIENCE_S:
                self._complain(f"a session was {name}, and not replaced in {_PATIENCE_S:g} s")
                break
            await asyncio.sleep(_POLL_S)
        if replacing is not None:
            await replacing

    async def _is_repaired(self, lines: int, replaced: dict[str, float]) -> bool:
        """Whether the session that was damaged since then was replaced, or is gone."""
        fault = find_fault(self._read_log()[lines:], self.damage.unread)
        if fault is None or not self._ready:
            return False  # a batch is held only when there is one
        model = fault["model"]
        if (await self._read_replacements()).get(model, 0.0) > replaced.get(model, 0.0):
            return True
        if self._changing.locked() or await self._find_fingerprint(model) == fault["fingerprint"]:
            return False
        self.damage.swept += 1
        return True

    def _read_log(self) -> list[str]:
        """Its whole lines: the last may still be written."""
        text = self._driver.log.read_text(encoding="utf-8", errors="replace")
        return text.split("\n")[:-1]

    async def _read_replacements(self) -> dict[str, float]:
        """Sessions that were replaced, by model, by the service's own count."""
        text = (await self.get("/metrics")).body.decode()
        found = re.findall(r'(?m)^cloze_session_restarts_total\{model="(.*)"\} (\S+)$', text)
        return {model: float(count) for model, count in found}

    async def _replace_bundles(self, until: float) -> None:
        while time.perf_counter() < until:
            await asyncio.sleep(self._chance.uniform(1.0, 3.0))
            await self._replace_bundle()
            await asyncio.sleep(self._chance.uniform(3.0, 9.0))

    async def _replace_bundle(self) -> None:
        """Put another bundle in place of one, and have the service take it."""
        async with self._changing:
            name = self._next_bundle
            self._next_bundle = MAIN if name == OTHER else OTHER
            if name == MAIN:
                await self._replace(name)
            else:
                with self._weather.changing(1 - self._bundles.version):
                    await self._replace(name)
            self.damage.bundles += 1

    async def _replace(self, name: str) -> None:
        await asyncio.to_thread(self._bundles.swap, name)
        path = self._bundles.path(name)
        wanted = Bundle.open(path).fingerprint
        authorized = {"Authorization": f"Bearer {ADMIN_KEY}"}
        if (await self.get("/admin/bundles", **authorized)).status == 200:
            self.damage.by_admin = True
            body = orjson.dumps({"path": str(path)})
            headers = {**authorized, "Content-Type": "application/json"}
            reply = await self._client.ask(write_request("POST", "/admin/bundles", headers, body))
            if reply.status != 200:
                self._complain(f"{name} was not replaced: {reply.status} {reply.body[:300]!r}")
            return
        before = self._count_readings()
        os.kill(self._pid, SIGHUP)
        end = time.perf_counter() + _PATIENCE_S
        # That is said when what was replaced has answered its last.
        while self._count_readings() == before or await self._find_fingerprint(name) != wanted:
            if time.perf_counter() > end:
                self._complain(f"{name} was not replaced within {_PATIENCE_S:g} s of SIGHUP")
                return
            await asyncio.sleep(_POLL_S)

    def _count_readings(self) -> int:
        return sum('"bundles read again"' in line for line in self._read_log())

    async def _find_fingerprint(self, name: str) -> str:
        return find_fingerprint((await self.get("/v1/models")).body, name)

    async def _fill(self, asks: Asks, until: float) -> None:
        """Send far more at once than may wait."""
        burst, statuses = _BURST, self._driver.tally.statuses
        while time.perf_counter() < until or not (statuses[429] or burst > _LARGEST_BURST):
            await asyncio.sleep(self._chance.uniform(2.0, 4.0))
            refused = statuses[429]
            with self._weather.during(Trouble.FULL):
                self.damage.bursts += 1
                asked = (asks.large() for _ in range(min(burst, _LARGEST_BURST)))
                await asyncio.gather(*(task for ask in asked for task in self._driver.send([ask])))
            if statuses[429] == refused:
                burst *= 2
            await asyncio.sleep(self._chance.uniform(2.0, 12.0))

    def _complain(self, problem: str) -> None:
        if problem not in self.damage.problems:
            self.damage.problems.append(problem)


def find_fingerprint(listing: bytes, name: str) -> str:
    """The bundle's own fingerprint in a list of models: precision and engine, told behind it,
    change nothing of which files they are."""
    listed = orjson.loads(listing)["data"]
    told = next(str(model["fingerprint"]) for model in listed if model["id"] == name)
    return told.partition("-")[0]


def find_fault(lines: Sequence[str], unread: set[str]) -> dict[str, Any] | None:
    """The last fault of a session that the server says it did, in lines of its log.

    A line that another has got into is read from where it begins; what cannot be read even so is
    added to `unread`, and passed over.
    """
    found: dict[str, Any] | None = None
    for line in lines:
        if '"done": true' in line:
            faults = list(_read_faults(line))
            if not faults:
                unread.add(line)
            found = faults[-1] if faults else found
    return found


def _read_faults(line: str) -> Iterator[dict[str, Any]]:
    for begin in re.finditer(re.escape(SAID), line):
        try:
            said, _ = _READER.raw_decode(line, begin.start())
        except ValueError:
            continue
        if {"done", "model", "fingerprint"} <= said.keys():
            yield said
