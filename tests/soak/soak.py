"""One soak from beginning to end: a server, the storm over it, and what is looked at afterwards."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS
from benchmarks.servers import Running, Server, serve
from benchmarks.startup import read_memory
from service.settings import PREFIX, Settings
from tests.helpers.endless import make_endless
from tests.soak.asks import MAX_BODY_BYTES, MAX_INPUTS, TIMEOUT_S, Asks
from tests.soak.bundles import Bundles
from tests.soak.client import Client
from tests.soak.corpus import Corpus, make_corpus
from tests.soak.driver import Driver, Tally
from tests.soak.judgement import Outcome
from tests.soak.server import TELL
from tests.soak.storm import ADMIN_KEY, Damage, Storm
from tests.soak.weather import Weather

_STALL_S = 2.0
_QUEUE_MS, _BULK_QUEUE_MS = 1_000, 3_000
_STOP_LIMIT_S = 30.0

MakeCorpus = Callable[[Bundles, random.Random], Corpus]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how many requests a second, and what is drawn. `name` is that of the log.

    `calm`: nothing is damaged.
    """

    seconds: float
    rate: float
    seed: int = 0
    calm: bool = False
    name: str = "soak"

    @property
    def log(self) -> Path:
        """The service's log."""
        return RESULTS / "logs" / f"{self.name}.log"


@dataclass(slots=True)
class Report:
    """What came of it."""

    plan: Plan
    tally: Tally
    damage: Damage
    replaced: int = 0
    memory_mb: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was lost or wrong, and the service is as before."""
        outcomes = self.tally.outcomes
        return not (outcomes[Outcome.LOST] or outcomes[Outcome.WRONG] or self.problems)


def soak(plan: Plan, make: MakeCorpus = make_corpus) -> Report:
    """Run it. The known answers are those that `make` gives."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        bundles = Bundles(folder)
        bundles.make()
        corpus = make(bundles, random.Random(plan.seed))
        status = folder / "status.json"
        server = _describe_server(plan, bundles, make_endless(folder / "endless.onnx"), status)
        with serve(server) as running:
            return asyncio.run(_soak(plan, running, bundles, corpus, status))


def _describe_server(plan: Plan, bundles: Bundles, endless: Path, status: Path) -> Server:
    settings: dict[str, Any] = {
        "bundles": bundles.served,
        "stall_s": _STALL_S,
        "max_queue_ms": _QUEUE_MS,
        "max_bulk_queue_ms": _BULK_QUEUE_MS,
        "max_inputs": MAX_INPUTS,
        "max_body_bytes": MAX_BODY_BYTES,
        "timeout_s": TIMEOUT_S,
    }
    if "admin_keys" in Settings.model_fields:
        settings["admin_keys"] = ADMIN_KEY
    faulty = ("-m", "tests.soak.server", str(endless), str(status), "--port", "{port}")
    environment = {f"{PREFIX}{name}".upper(): str(value) for name, value in settings.items()}
    return Server(plan.name, (sys.executable, *faulty), environment)


async def _soak(
    plan: Plan, running: Running, bundles: Bundles, corpus: Corpus, status: Path
) -> Report:
    chance = random.Random(plan.seed)
    client = Client(running.port, chance)
    weather = Weather()
    asks = Asks(corpus, chance)
    driver = Driver(client, weather, plan.log, chance)
    storm = Storm(running.pid, client, bundles, driver, weather, chance)
    report = Report(plan, driver.tally, storm.damage)
    await _ask_each(driver, asks)
    memory = read_memory(running.pid)
    watching = asyncio.ensure_future(storm.watch())
    began = time.perf_counter()
    raging = asyncio.ensure_future(
        asyncio.sleep(plan.seconds) if plan.calm else storm.rage(asks, began + plan.seconds)
    )
    # To its end: a session is found dead by those who ask it.
    await driver.run(asks, plan.rate, raging.done)
    await raging
    await driver.finish()
    report.seconds = time.perf_counter() - began
    # After the storm everything is as before.
    await storm.wait_until(storm.is_ready, "the service is ready after the storm")
    await _ask_each(driver, asks)
    report.replaced = round(await storm.count_replacements())
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    await _look_inside(storm, running.pid, status)
    report.memory_mb = (memory, read_memory(running.pid))
    client.close()
    running.process.send_signal(signal.SIGTERM)
    report.problems = [*storm.damage.problems]
    if not plan.calm:
        report.problems += _find_unseen(report)
    try:
        code = await asyncio.to_thread(running.process.wait, _STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        report.problems.append(f"the service did not end within {_STOP_LIMIT_S:g} s of SIGTERM")
    else:
        if code:
            report.problems.append(f"the service ended with {code}; see {plan.log}")
    return report


async def _ask_each(driver: Driver, asks: Asks) -> None:
    """Every kind of request, while nothing explains a refusal."""
    for ask in asks.one_of_each():
        await asyncio.gather(*driver.send([ask]))


async def _look_inside(storm: Storm, pid: int, status: Path) -> None:
    """See that nothing waits, nothing is stuck, and what was replaced is gone."""
    end = time.perf_counter() + _STOP_LIMIT_S
    while True:
        found = await asyncio.to_thread(_ask_inside, pid, status)
        metrics = (await storm.get("/metrics")).body.decode().splitlines()
        left = list_leftovers(found, metrics)
        if not left or time.perf_counter() > end:
            storm.damage.problems.extend(left)
            return
        await asyncio.sleep(0.5)


def _ask_inside(pid: int, status: Path) -> dict[str, Any]:
    """What the server writes down about itself."""
    status.unlink(missing_ok=True)
    os.kill(pid, TELL)
    end = time.perf_counter() + _STOP_LIMIT_S
    while not status.exists():
        if time.perf_counter() > end:
            raise SystemExit("the server does not say what it holds; its main thread stands still")
        time.sleep(0.02)
    found: dict[str, Any] = json.loads(status.read_text(encoding="utf-8"))
    return found


def list_leftovers(found: dict[str, Any], metrics: list[str]) -> list[str]:
    """What should not be there any more once nothing is asked, as sentences."""
    models = found["models"]
    left = [
        f"{model['name']} {name} is {model[name]}"
        for model in models
        for name in ("requests", "queued_texts", "queued_s", "stuck")
        if abs(model[name]) > 1e-6
    ]
    left += [
        f"{model['name']} is {model['state']}" for model in models if model["state"] != "running"
    ]
    names = sorted(model["name"] for model in models)
    if len(set(names)) < len(names):
        left.append(f"in memory are {', '.join(names)}: replaced ones were not let go of")
    batchers = [name for name in found["threads"] if name.startswith("batcher-")]
    if len(batchers) != len(names):
        left.append(f"the threads {', '.join(batchers)} serve {len(names)} models")
    for line in metrics:
        name, _, value = line.rpartition(" ")
        waiting = name.startswith(("cloze_queued_milliseconds", "cloze_queued_texts"))
        if waiting and float(value):
            left.append(f"{name} is {value} with an empty queue")
    return left


def _find_unseen(report: Report) -> list[str]:
    """Kinds of damage that never happened: such a soak has proven nothing about them."""
    tally, damage = report.tally, report.damage
    seen = {
        "a session killed": damage.faults["killed"],
        "a session hung": damage.faults["hung"],
        "a batch held": damage.faults["held"],
        "a session replaced": report.replaced,
        "a bundle replaced": damage.bundles,
        "a full queue (429)": tally.statuses[429],
        "a poisonous text (500)": tally.statuses[500],
        "a bad request (4xx)": tally.statuses[400] + tally.statuses[422],
        "a client that left": tally.outcomes[Outcome.ABANDONED],
    }
    return [f"never seen: {what}; run it for longer" for what, count in seen.items() if not count]
