"""A real service for tests: uvicorn in a thread, on a free port of this machine."""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from models.heads import Head, Job
from models.pipeline import Pipeline
from models.tasks import TASKS
from service.app import create_app, tell_refused
from service.registry.loaded_model import LoadedModel
from service.registry.manager import ModelManager
from service.scheduling.batcher import Batcher
from service.scheduling.ticket import Ticket
from service.server.protocol import make_protocol
from service.settings import Settings
from tests.helpers.checkpoints import write_json

PATIENCE_S = 60.0
JSON = {"content-type": "application/json"}
STAGES = ("tokenize", "queue", "infer", "decode")


def find_refusal(path: str) -> int:
    """The status of what cannot be answered as it was sent: OpenAI's clients know it by 400."""
    return 400 if path == "/v1/embeddings" else 422


@dataclass(frozen=True, slots=True)
class Server:
    """A running service, and a client that speaks to it."""

    app: FastAPI
    client: httpx.Client

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.client.base_url).rstrip("/")

    @property
    def manager(self) -> ModelManager:
        """What loads its models."""
        manager: ModelManager = self.app.state.manager
        return manager

    @property
    def models(self) -> list[LoadedModel]:
        """The models it has loaded."""
        return list(self.manager.registry)

    def post(self, path: str, body: Any) -> httpx.Response:
        """What it answers to a body: bytes and text as they are, anything else as JSON."""
        if isinstance(body, str | bytes):
            return self.client.post(path, content=body, headers=JSON)
        return self.client.post(path, json=body)

    def answer(self, path: str, body: Any) -> dict[str, Any]:
        """The body of a success."""
        response = self.post(path, body)
        assert response.status_code == 200, response.text
        read_times(response)
        content: dict[str, Any] = response.json()
        return content

    def refuse(self, path: str, body: Any, status: int, code: str, param: str | None) -> str:
        """The message of an error, which has this status, code and param."""
        return check_error(self.post(path, body), status, code, param)

    def read_metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name and those labels."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def serve(*bundles: Path, wait: bool = True, **settings: Any) -> Iterator[Server]:
    """Serve the bundles until the block ends; without `wait`, from before they are loaded."""
    app = create_app(Settings(bundles=bundles, **settings))
    with run(app) as client:
        if wait:
            wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield Server(app, client)


@contextmanager
def run(app: FastAPI, *, plain: bool = False) -> Iterator[httpx.Client]:
    """Run any application until the block ends, and give a client that speaks to it.

    A `plain` one is run as any ASGI application is, with another parser, without our connections.
    """
    settings = None if plain else getattr(app.state, "settings", None)
    config = uvicorn.Config(
        app.state.entry if settings else app,
        http=make_protocol(settings, app.state.budget, partial(tell_refused, app))
        if settings
        else "h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once it holds; fail if that takes a minute."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited a minute in vain"
        time.sleep(0.005)


class _Holder(Head[str, None, None]):
    """A head whose computation lasts until it is let go."""

    task = TASKS["embed"]

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline.heads[0].entry, pipeline.manifest, pipeline.encoder, None)
        self.entered = threading.Event()
        self.release = threading.Event()

    def prepare(self, item: str, options: None) -> Job:
        encoded = self.encoder.encode(item, overflow="error")
        return Job(head=self, item=item, options=options, encoded=encoded)

    def compute(self, hidden: Any, jobs: Sequence[Job], starts: Any) -> None:
        self.entered.set()
        assert self.release.wait(PATIENCE_S)

    def decode(self, job: Job) -> None:
        return None

    def difference(self, answer: None, golden: Any) -> float:
        return 0.0


@contextmanager
def hold(pipeline: Pipeline, batcher: Batcher) -> Iterator[None]:
    """Keep the batcher's thread in a batch of one text until the block ends."""
    head = _Holder(pipeline)

    async def submit() -> None:
        deadline = time.perf_counter() + PATIENCE_S
        ticket = Ticket([head.prepare("one", None)], deadline=deadline)
        batcher.submit(ticket)
        await ticket.future

    # A loop of its own, since the caller's may be running.
    thread = threading.Thread(target=asyncio.run, args=[submit()])
    thread.start()
    try:
        assert head.entered.wait(PATIENCE_S)
        yield
    finally:
        head.release.set()
        thread.join()


def check_error(response: httpx.Response, status: int, code: str, param: str | None) -> str:
    """The message of an error, after checking that it has the one shape all errors have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    read_times(response)
    body = response.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["type"].endswith("_error")
    message: str = error["message"]
    assert message
    return message


def read_times(response: httpx.Response) -> dict[str, float]:
    """The milliseconds of each stage, of which every answer tells all four."""
    entries = response.headers["server-timing"].split(", ")
    times = {name: float(value) for name, value in (entry.split(";dur=") for entry in entries)}
    assert tuple(times) == STAGES
    assert all(value >= 0 for value in times.values())
    return times


def check_same(found: Any, wanted: Any) -> None:
    """Fail unless both are the same, floats to within single precision over different batches."""
    if isinstance(wanted, Mapping):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            check_same(found[key], value)
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_allclose(np.array(found), wanted, atol=1e-5)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            check_same(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-5)
    else:
        assert found == wanted


def copy_bundle(bundle: Path, folder: Path) -> Path:
    """A bundle of one's own, to be changed."""
    return Path(shutil.copytree(bundle, folder / "bundle"))


def change_heads(bundle: Path, task: str, **changes: Any) -> None:
    """Give the heads of a task other fields in the manifest."""
    content = json.loads((bundle / "manifest.json").read_text())
    for head in content["heads"]:
        if head["task"] == task:
            head.update(changes)
    write_json(bundle / "manifest.json", content | {"format_version": 2})
