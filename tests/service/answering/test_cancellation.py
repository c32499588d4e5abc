"""Until when a request is worth any work: where it waits for a thread, over real HTTP."""

import gc
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.answering.cancellation import Cancellation
from service.scheduling import admission
from tests.helpers.server import PATIENCE_S, Server, check_error, hold, serve, wait_until

ROUTE = "/v1/embeddings"
# So many that they are tokenised and decoded in a thread.
MANY = {"input": ["rain"] * 20}


@contextmanager
def occupy(threads: ThreadPoolExecutor) -> Iterator[None]:
    """All of these threads are at work for somebody else."""
    end = threading.Event()
    begun = [threads.submit(end.wait, PATIENCE_S) for _ in range(threads._max_workers)]
    try:
        yield
    finally:
        end.set()
        for each in begun:
            each.result()


def refuse_late(server: Server) -> str:
    """What is said to a request that does not get its answer within its time."""
    response = server.client.post(ROUTE, json=MANY, headers={"X-Request-Timeout": "0.3"})
    return check_error(response, 504, "deadline_passed", None)


def test_a_deadline_passes_while_texts_wait_to_be_tokenised(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        with occupy(server.app.state.answerer._tokenizing):
            assert "0.3" in refuse_late(server)
            server.answer(ROUTE, {"input": "rain"})
        server.answer(ROUTE, MANY)
        assert server.read_metric("cloze_batch_texts_sum") == 21


def test_a_deadline_passes_while_answers_wait_to_be_written(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        with occupy(server.app.state.answerer._decoding):
            assert "0.3" in refuse_late(server)
        server.answer(ROUTE, MANY)


def test_a_client_leaves_while_its_texts_wait_to_be_tokenised(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        with occupy(server.app.state.answerer._tokenizing):
            where, content = urlsplit(server.url), json.dumps(MANY).encode()
            with socket.create_connection((where.hostname, where.port)) as connection:
                connection.sendall(
                    b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (ROUTE.encode(), len(content), content)
                )
                wait_until(server.app.state.answerer._tokenizing._work_queue.qsize)
            wait_until(lambda: server.read_metric("cloze_requests_total", outcome="gone") == 1)
        server.answer(ROUTE, {"input": "rain"})
        assert server.read_metric("cloze_batch_texts_sum") == 1


def test_it_is_learned_from_those_that_were_late_too(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_SHORT_S", 0.0)
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        before = model.batcher._admission._margin
        with hold(model.pipeline, model.batcher):
            refuse_late(server)
        assert model.batcher._admission._margin > before


def test_no_further_text_is_tokenised_for_a_request_that_is_over(
    pretraining_bundle: Path,
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        head = model.pipeline.find_head("embed")
        seen: list[str] = []
        begun, go_on = threading.Event(), threading.Event()
        whole = type(head).prepare

        def prepare(item: str, options: object) -> object:
            seen.append(item)
            begun.set()
            go_on.wait(PATIENCE_S)
            return whole(head, item, options)

        patch = pytest.MonkeyPatch()
        patch.setattr(head, "prepare", prepare)
        try:
            refuse_late(server)
            assert begun.is_set()
        finally:
            go_on.set()
            patch.undo()
        server.app.state.answerer._tokenizing.submit(int).result()
        assert seen == ["rain"]


def test_a_request_that_is_late_leaves_nothing_to_the_collector(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        gc.collect()
        gc.disable()
        try:
            with hold(model.pipeline, model.batcher):
                refuse_late(server)
            server.answer(ROUTE, {"input": "rain"})
            wait_until(lambda: not any(type(one) is Cancellation for one in gc.get_objects()))
        finally:
            gc.enable()
