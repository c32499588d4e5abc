"""Who waits for whom while texts are tokenised, over real HTTP."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.server import PATIENCE_S, Server, serve

ROUTE = "/v1/embeddings"
# So many that they are tokenised in a thread, and so few that this takes milliseconds.
FEW = {"input": ["rain"] * 20}
LONG: list[dict[str, Any]] = [
    {"input": "rain " * 40_000, "overflow": "truncate"},
    {"input": ["rain"] * 900},
    {"input": ["rain " * 50] * 500},
]


class Reading:
    """Texts of the long requests wait, once they are being read, for as long as one wants."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        (model,) = server.models
        head = model.pipeline.find_head("embed")
        whole = type(head).prepare
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.thread = ""

        def prepare(item: str, options: object) -> object:
            if threading.current_thread().name.startswith("reader"):
                self.begun.release()
                self.go_on.wait(PATIENCE_S)
            else:
                self.thread = threading.current_thread().name
            return whole(head, item, options)

        monkeypatch.setattr(head, "prepare", prepare)


def test_short_requests_do_not_wait_for_long_ones_to_be_read(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(pretraining_bundle) as server, ThreadPoolExecutor(len(LONG)) as clients:
        reading = Reading(server, monkeypatch)
        waiting = [clients.submit(server.answer, ROUTE, body) for body in LONG]
        try:
            for _ in range(server.app.state.answerer._reading._max_workers):
                assert reading.begun.acquire(timeout=PATIENCE_S)
            # All who read long texts are at work, and more wait for them.
            for _ in range(3):
                assert len(server.answer(ROUTE, FEW)["data"]) == 20
            assert reading.thread.startswith("tokenizer")
            assert not any(each.done() for each in waiting)
        finally:
            reading.go_on.set()
        for each, body in zip(waiting, LONG, strict=True):
            wanted = len(body["input"]) if isinstance(body["input"], list) else 1
            assert len(each.result()["data"]) == wanted
