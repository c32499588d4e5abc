"""Who waits for whom while texts are tokenised, over real HTTP."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.api import route
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


MANY = ["rain"] * 70
MASKS = "[MASK] " * 12
LONG_TEXT = "rain " * 60
# Few texts of long answers among them.
LARGE: list[tuple[str, dict[str, Any]]] = [
    ("/v1/fill-mask", {"inputs": MASKS, "top_k": 200}),
    ("/models/tiny-pretraining/pipeline/fill-mask", {"inputs": MASKS, "parameters": {"top_k": 99}}),
    ("/v1/token-classify", {"inputs": [LONG_TEXT] * 20}),
    ("/models/tiny-reader/pipeline/token-classification", {"inputs": [LONG_TEXT] * 20}),
    (
        "/v1/question-answering",
        {"inputs": {"question": "who", "context": LONG_TEXT * 2}, "top_k": 999},
    ),
    ("/embed_all", {"inputs": [LONG_TEXT] * 2}),
    ("/embed", {"inputs": MANY}),
    ("/models/tiny-pretraining", {"inputs": MANY}),
    ("/predict", {"inputs": [[text] for text in MANY]}),
    ("/models/tiny-classify/pipeline/text-classification", {"inputs": MANY}),
    ("/classify", {"input": MANY}),
    ("/v1/embed", {"texts": MANY}),
    ("/v2/embed", {"texts": MANY}),
    ("/v2/models/tiny-pretraining/infer", {"inputs": [{"data": MANY}]}),
]


@pytest.mark.parametrize(("path", "body"), LARGE, ids=lambda value: str(value)[:50])
def test_long_answers_are_made_and_written_off_the_event_loop(
    path: str, body: dict[str, Any], tiny: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[str]] = {"decode": set(), "write": set()}

    def note(what: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def work(*given: Any) -> Any:
            threads[what].add(threading.current_thread().name.partition("_")[0])
            return whole(*given)

        return work

    for model in tiny.models:
        for head in model.pipeline.heads:
            monkeypatch.setattr(head, "decode", note("decode", head.decode))
        for head in model.heads.values():
            monkeypatch.setattr(head, "decode", note("decode", head.decode))
    monkeypatch.setattr(route, "json_response", note("write", route.json_response))
    assert tiny.post(path, body).status_code == 200
    assert threads["decode"] == {"decoder"}
    # The frame around what was written stands in the answer of native routes.
    assert threads["write"] & {"asyncio", "uvloop"}
