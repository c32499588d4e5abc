"""Looks wait for each other and for nobody else, and hold their model, over real HTTP."""

import gc
import os
import shutil
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.derived.attention import Lens
from service.answering.looker import MOST_LOOKS, Looker
from tests.helpers.bundles import mark
from tests.helpers.fixtures import Export
from tests.helpers.server import PATIENCE_S, Server, check_error, serve, wait_until

ROUTE = "/v1/attention"
BODY = {"inputs": "rain"}


class Held:
    """Looks stand still in their thread, once they are asked, for as long as one wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.seen: list[str] = []
        whole = Lens.resolve

        def resolve(lens: Lens, options: object) -> object:
            self.seen.append(threading.current_thread().name)
            self.begun.release()
            self.go_on.wait(PATIENCE_S)
            return whole(lens, options)  # type: ignore[arg-type]

        monkeypatch.setattr(Lens, "resolve", resolve)

    def wait(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE_S)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.go_on.set()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MOST_LOOKS + 4) as pool:
        yield pool


def looker_of(server: Server) -> Looker:
    looker: Looker = server.app.state.answerer.looker
    return looker


def test_nobody_else_waits_for_a_look(
    pretraining_bundle: Path, held: Held, clients: ThreadPoolExecutor
) -> None:
    with serve(pretraining_bundle) as server:
        looks = [clients.submit(server.answer, ROUTE, BODY) for _ in range(3)]
        held.wait()
        server.answer("/v1/embeddings", {"input": ["rain"] * 40})
        server.answer("/v1/fill-mask", {"inputs": "[MASK]"})
        assert not any(each.done() for each in looks)
        # One at a time.
        assert len(held.seen) == 1
        assert held.seen[0].startswith("looker")
        held.go_on.set()
        assert len({str(each.result()) for each in looks}) == 1


def test_more_than_may_wait_are_refused(
    pretraining_bundle: Path, held: Held, clients: ThreadPoolExecutor
) -> None:
    with serve(pretraining_bundle) as server:
        looks = [clients.submit(server.answer, ROUTE, BODY) for _ in range(MOST_LOOKS)]
        wait_until(lambda: looker_of(server)._inside == MOST_LOOKS)
        for path, body in ((ROUTE, BODY), ("/v1/words", {"positive": "king"})):
            response = server.post(path, body)
            check_error(response, 429, "overloaded", None)
            assert int(response.headers["retry-after"]) > 0
        held.go_on.set()
        for each in looks:
            each.result()
        server.answer(ROUTE, BODY)
        # Told once the thread is done with it, which is a moment after the answer.
        wait_until(lambda: looker_of(server)._inside == 0)
        wait_until(lambda: server.models[0].requests == 0)


def test_a_deadline_ends_the_wait_and_the_model_is_held(
    pretraining_bundle: Path, held: Held, clients: ThreadPoolExecutor
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        for _ in range(2):
            response = server.client.post(ROUTE, json=BODY, headers={"X-Request-Timeout": "0.2"})
            check_error(response, 504, "deadline_passed", None)
        # The first is still computed, the second never will be.
        assert (model.requests, looker_of(server)._inside) == (1, 1)
        held.go_on.set()
        wait_until(lambda: model.requests == 0)
        assert looker_of(server)._inside == 0
        assert len(held.seen) == 1


def test_a_model_is_replaced_when_the_last_look_is_over(
    pretraining_bundle: Path, tmp_path: Path, held: Held, clients: ThreadPoolExecutor
) -> None:
    bundle = tmp_path / "bundles" / "one"
    shutil.copytree(pretraining_bundle, bundle)
    with serve(tmp_path / "bundles") as server:
        held.go_on.set()
        wanted = server.answer(ROUTE, BODY)
        server.answer("/v1/words", {"positive": "king"})
        model = server.models[0]
        view = model.pipeline.lens._view
        assert view is not None
        gone = [weakref.ref(part) for part in (view.session, model.pipeline.word_vectors)]
        del model, view
        held.go_on.clear()
        while held.begun.acquire(blocking=False):
            pass
        look = clients.submit(server.answer, ROUTE, BODY)
        held.wait()
        mark(bundle, "another")
        reload = clients.submit(server.manager.reload)
        wait_until(lambda: len(server.manager.registry.list()) == 2)
        assert not reload.done()
        held.go_on.set()
        assert look.result() == wanted
        reload.result()
        gc.collect()
        # What was open of the old one is closed.
        assert [each() for each in gone] == [None] * len(gone)
        assert server.answer(ROUTE, BODY) == wanted


def test_files_that_changed_are_an_error_of_the_service(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "one"
    shutil.copytree(pretraining_bundle, bundle)
    with serve(bundle) as server:
        server.answer(ROUTE, BODY)
        server.answer("/v1/words", {"positive": "king"})
        (bundle / "trunk.fp32.onnx").write_bytes(b"")
        server.refuse(ROUTE, BODY, 500, "internal_error", None)
        server.refuse("/v1/words", {"positive": "king"}, 500, "internal_error", None)
        server.answer("/v1/embeddings", {"input": "rain"})


def test_the_first_model_that_can_be_looked_into_answers(exported: Export) -> None:
    flat, padded = (exported(family, "ForMaskedLM").bundle for family in ("bert", "deberta-v2"))
    with serve(padded, flat) as server:
        assert server.answer(ROUTE, BODY)["model"] == "bert"
        body = BODY | {"model": "deberta-v2"}
        server.refuse(ROUTE, body, 422, "task_unsupported", "model")
        assert server.answer("/v1/words", {"positive": "king"})["model"] == "deberta-v2"
    with serve(padded) as server:
        server.refuse(ROUTE, BODY, 422, "task_unsupported", "model")


def test_what_it_took_is_told(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        response = server.post(ROUTE, BODY)
        times = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
        assert float(times["infer"]) > 0
        assert server.read_metric("cloze_tokens_total", task="attention") == 3
        server.answer("/v1/words", {"positive": ["king", "queen"]})
        assert server.read_metric("cloze_tokens_total", task="words") == 2


def test_before_the_models_are_there(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, wait=False) as server:
        response = server.post(ROUTE, BODY)
        assert response.status_code in (200, 503)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own there")
def test_its_thread_gives_way(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        server.answer(ROUTE, BODY)
        found = looker_of(server)._threads.submit(
            lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        )
        assert found.result() > os.getpriority(os.PRIO_PROCESS, os.getpid())
