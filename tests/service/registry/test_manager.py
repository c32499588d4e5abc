"""What happens to a request on its way: overload, deadlines, clients that leave, other models."""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from models import Pipeline
from models.engines.onnx_runtime import OnnxRuntimeSession
from models.heads import AnswerOptions, TokenClassifyOptions, spread
from models.pipeline import prepare
from service.answering.answerer import Question
from service.limits.deadline import Deadline
from service.observability.request_record import RequestRecord
from service.registry.loaded_model import LoadedModel
from service.registry.warm_up import warm_up
from tests.helpers.endless import make_endless
from tests.helpers.gate import Gate
from tests.helpers.server import (
    PATIENCE_S,
    Server,
    check_error,
    check_same,
    hold,
    serve,
    wait_until,
)

ROUTE = "/v1/embeddings"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield pool


def hold_model(model: LoadedModel) -> Any:
    return hold(model.pipeline, model.batcher)


def send_only(
    server: Server, path: str, body: dict[str, Any], *, missing_bytes: int = 0
) -> socket.socket:
    """Send a request, or all but its end, over a connection of its own, and read nothing."""
    where = urlsplit(server.url)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content) + missing_bytes}\r\n\r\n"
    )
    connection = socket.create_connection((where.hostname, where.port))
    connection.sendall(head.encode() + content)
    return connection


def test_a_full_queue_answers_429(pretraining_bundle: Path, threads: ThreadPoolExecutor) -> None:
    with serve(pretraining_bundle, max_queue_ms=1e-3) as server:
        (model,) = server.models
        with hold_model(model):
            waiting = threads.submit(server.answer, ROUTE, {"input": ["rain"] * 3})
            wait_until(lambda: model.batcher.queued_texts > 0)
            for path, body in (
                (ROUTE, {"input": ["rain"] * 3}),
                ("/v1/fill-mask", {"inputs": "[MASK]"}),
            ):
                response = server.post(path, body)
                check_error(response, 429, "overloaded", None)
                assert int(response.headers["retry-after"]) > 0
                assert response.json()["error"]["type"] == "overloaded_error"
            # Coming again would not help.
            assert server.post("/v1/unknown", {}).status_code == 404
        assert len(waiting.result()["data"]) == 3
        server.answer(ROUTE, {"input": ["rain"] * 3})
        assert server.read_metric("cloze_requests_total", status="429") == 2


def test_a_passed_deadline_answers_504(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, timeout_s=0.5) as server:
        (model,) = server.models
        with hold_model(model):
            message = server.refuse(ROUTE, {"input": "rain"}, 504, "deadline_passed", None)
            assert "0.5" in message
        server.answer(ROUTE, {"input": "rain"})
        # Held one, answered one: what was late was not computed.
        wait_until(lambda: model.batcher.queued_texts == 0)
        assert server.read_metric("cloze_batch_texts_sum") == 2


def test_a_request_says_how_long_it_waits(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        with hold_model(model):
            # Predicted to be answered in time, since nobody knows what holds the trunk.
            response = server.client.post(
                ROUTE, json={"input": "rain"}, headers={"X-Request-Timeout": "0.25"}
            )
            assert "0.25" in check_error(response, 504, "deadline_passed", None)
            wait_until(lambda: model.batcher.queued_texts == 0)
        for path, body in (
            (ROUTE, {"input": "rain"}),
            ("/v1/fill-mask", {"inputs": "the [MASK]"}),
            ("/v1/next-sentence", {"inputs": {"first": "rain", "second": "snow"}}),
        ):
            # Not even an idle trunk is so fast.
            response = server.client.post(path, json=body, headers={"X-Request-Timeout": "1e-9"})
            check_error(response, 429, "overloaded", None)
            assert int(response.headers["retry-after"]) >= 1
            response = server.client.post(path, json=body, headers={"X-Request-Timeout": "9.5"})
            assert response.status_code == 200
        assert server.read_metric("cloze_batch_texts_sum") == 4


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon", "", "3601", "1,5"])
def test_a_timeout_that_is_none_is_refused(tiny: Server, given: str) -> None:
    response = tiny.client.post(ROUTE, json={"input": "rain"}, headers={"X-Request-Timeout": given})
    check_error(response, 400, "invalid_value", "X-Request-Timeout")


def test_bulk_waits_behind_interactive(
    pretraining_bundle: Path, threads: ThreadPoolExecutor
) -> None:
    with serve(pretraining_bundle, bulk_inputs=3, max_batch_tokens=8) as server:
        (model,) = server.models
        order: list[str] = []
        compute = model.batcher._graphs.compute

        def compute_noted(jobs: Any) -> Any:
            order.extend(job.item for job in jobs)
            return compute(jobs)

        model.batcher._graphs.compute = compute_noted

        def ask(text: str, texts: int, **headers: str) -> None:
            response = server.client.post(ROUTE, json={"input": [text] * texts}, headers=headers)
            assert response.status_code == 200

        with hold_model(model):
            waiting = []
            for text, texts, headers, queued in (
                ("many", 4, {}, 4),
                ("bulk", 1, {"X-Priority": "bulk"}, 5),
                ("few", 3, {}, 8),
                ("urgent", 5, {"X-Priority": "interactive"}, 13),
            ):
                waiting.append(threads.submit(ask, text, texts, **headers))
                wait_until(lambda queued=queued: model.batcher.queued_texts == queued)
        for future in waiting:
            future.result()
        # What held the trunk was first.
        assert set(order[1:9]) == {"few", "urgent"}
        assert set(order[9:]) == {"many", "bulk"}
        response = server.client.post(
            ROUTE, json={"input": "rain"}, headers={"X-Priority": "highest"}
        )
        check_error(response, 400, "invalid_value", "X-Priority")


def test_a_poisonous_item_is_named_and_harms_nobody(
    pretraining_bundle: Path, pretraining: Pipeline, threads: ThreadPoolExecutor
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        compute = model.batcher._graphs.compute

        def compute_poisoned(jobs: Any) -> Any:
            if any(job.item == "poison" for job in jobs):
                raise ValueError("secret")
            return compute(jobs)

        model.batcher._graphs.compute = compute_poisoned
        with hold_model(model):
            good = [threads.submit(server.answer, ROUTE, {"input": "rain"}) for _ in range(3)]
            bad = threads.submit(server.post, ROUTE, {"input": ["rain", "snow", "poison", "sun"]})
            wait_until(lambda: model.batcher.queued_texts == 7)
        message = check_error(bad.result(), 500, "internal_error", "input[2]")
        assert "secret" not in message
        for answer in good:
            vector = answer.result()["data"][0]["embedding"]
            check_same(vector, pretraining.embed(["rain"])[0])
        assert server.client.get("/health/ready").status_code == 200
        assert server.read_metric("cloze_session_restarts_total") == 0


def test_a_dead_session_is_replaced_and_nobody_hears_of_it(
    pretraining_bundle: Path, pretraining: Pipeline, threads: ThreadPoolExecutor
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        with hold_model(model):
            waiting = [threads.submit(server.answer, ROUTE, {"input": "rain"}) for _ in range(4)]
            wait_until(lambda: model.batcher.queued_texts == 4)
            model.pipeline.trunk._session = None
        for answer in waiting:
            vector = answer.result()["data"][0]["embedding"]
            check_same(vector, pretraining.embed(["rain"])[0])
        assert server.client.get("/health/ready").status_code == 200
        assert server.read_metric("cloze_session_restarts_total") == 1


def test_a_session_that_hangs_is_replaced(
    pretraining_bundle: Path, pretraining: Pipeline, tmp_path: Path
) -> None:
    """A graph without an end in place of the trunk's: it is ended, and loaded anew."""
    endless = OnnxRuntimeSession(make_endless(tmp_path / "endless.onnx"), threads=1)
    with serve(pretraining_bundle, stall_s=0.3) as server:
        trunk = server.models[0].pipeline.trunk
        trunk._session, trunk._inputs = endless._session, endless._inputs
        answer = server.answer(ROUTE, {"input": "rain"})
        check_same(answer["data"][0]["embedding"], pretraining.embed(["rain"])[0])
        assert server.read_metric("cloze_session_restarts_total") == 1
        wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        assert server.client.get("/health/live").status_code == 200


def test_not_ready_while_the_graphs_cannot_be_loaded(
    pretraining_bundle: Path, tmp_path: Path, pretraining: Pipeline
) -> None:
    """The disk is gone when a session dies: 503 with the reason, until it is back."""
    bundle = tmp_path / "bundle"
    shutil.copytree(pretraining_bundle, bundle)
    with serve(bundle) as server:
        (model,) = server.models
        graph = next(bundle.glob("trunk*.onnx"))
        graph.rename(tmp_path / "gone")
        model.pipeline.trunk._session = None
        message = server.refuse(ROUTE, {"input": "rain"}, 503, "not_ready", None)
        assert graph.name in message
        response = server.client.get("/health/ready")
        assert graph.name in check_error(response, 503, "not_ready", None)
        # Another process would find the same: this one goes on trying.
        assert server.client.get("/health/live").status_code == 200
        (tmp_path / "gone").rename(graph)
        model.batcher._graphs._retry_at = 0.0
        wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        answer = server.answer(ROUTE, {"input": "rain"})
        check_same(answer["data"][0]["embedding"], pretraining.embed(["rain"])[0])


def limit_loading(patch: pytest.MonkeyPatch) -> None:
    """Graphs that are loaded anew stand still after a second, and are tried again soon."""
    patch.setattr("service.scheduling.batcher._LOADING_STALLED", 0.0)
    patch.setattr("service.scheduling.batcher._LEAST_LOADING_S", 1.0)
    patch.setattr("service.scheduling.graphs._RETRY_S", 0.1)


def test_loading_that_stands_still_is_given_up(
    pretraining_bundle: Path, pretraining: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with the reason for whoever waits; not live when three such threads have piled up."""
    limit_loading(monkeypatch)
    with serve(pretraining_bundle) as server:
        gate = Gate(monkeypatch)
        try:
            server.models[0].pipeline.trunk._session = None
            message = server.refuse(ROUTE, {"input": "rain"}, 503, "not_ready", None)
            assert "are not loaded after 1 s" in message
            response = server.client.get("/health/ready")
            assert message == check_error(response, 503, "not_ready", None)
            wait_until(lambda: server.client.get("/health/live").status_code == 503)
            message = check_error(server.client.get("/health/live"), 503, "not_ready", None)
            assert message.startswith("3 computations")
        finally:
            gate.opened.set()
        # Those that end after all are no harm, and what the last of them loaded answers.
        wait_until(lambda: server.client.get("/health/live").status_code == 200)
        wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        answer = server.answer(ROUTE, {"input": "rain"})
        check_same(answer["data"][0]["embedding"], pretraining.embed(["rain"])[0])


def test_golden_answers_without_an_end_are_ended(
    pretraining_bundle: Path,
    pretraining: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_loading(monkeypatch)
    endless = OnnxRuntimeSession(make_endless(tmp_path / "endless.onnx"), threads=1)
    turns = iter([True])

    def warm_up_endlessly(pipeline: Pipeline) -> None:
        if next(turns, False):
            pipeline.trunk._session, pipeline.trunk._inputs = endless._session, endless._inputs
        warm_up(pipeline)

    with serve(pretraining_bundle) as server:
        monkeypatch.setattr("service.registry.loaded_model.warm_up", warm_up_endlessly)
        server.models[0].pipeline.trunk._session = None
        message = server.refuse(ROUTE, {"input": "rain"}, 503, "not_ready", None)
        assert "are not loaded after 1 s" in message
        wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        wait_until(lambda: server.manager.registry.count_stuck() == 0)
        answer = server.answer(ROUTE, {"input": "rain"})
        check_same(answer["data"][0]["embedding"], pretraining.embed(["rain"])[0])


def test_loading_that_stands_still_hides_no_other_model(
    pretraining_bundle: Path,
    classify_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While one model is tried again without an end, another one hangs, and is repaired."""
    bundle = Path(shutil.copytree(pretraining_bundle, tmp_path / "bundle"))
    endless = OnnxRuntimeSession(make_endless(tmp_path / "endless.onnx"), threads=1)
    with serve(bundle, classify_bundle, stall_s=0.3) as server:
        first, second = server.models
        wanted = server.answer(ROUTE, {"input": "rain", "model": second.name})
        graph = next(bundle.glob("trunk*.onnx"))
        graph.rename(tmp_path / "gone")
        first.pipeline.trunk._session = None
        body = {"input": "rain", "model": first.name}
        server.refuse(ROUTE, body, 503, "not_ready", None)
        gate = Gate(monkeypatch, first.name)
        try:
            (tmp_path / "gone").rename(graph)
            first.batcher._graphs._retry_at = 0.0
            assert gate.entered.wait(PATIENCE_S)
            trunk = second.pipeline.trunk
            trunk._session, trunk._inputs = endless._session, endless._inputs
            check_same(server.answer(ROUTE, {"input": "rain", "model": second.name}), wanted)
            # Nobody waits for what could not be loaded before.
            assert graph.name in server.refuse(ROUTE, body, 503, "not_ready", None)
        finally:
            gate.opened.set()
        wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        server.answer(ROUTE, body)


def test_a_client_that_leaves_has_its_items_dropped(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        with hold_model(model):
            connection = send_only(server, ROUTE, {"input": ["rain"] * 50})
            wait_until(lambda: model.batcher.queued_texts > 0)
            connection.close()
            wait_until(lambda: server.read_metric("cloze_requests_total", status="499") == 1)
        server.answer(ROUTE, {"input": ["snow", "sun"]})
        # Held one, answered two: of the fifty none was computed.
        assert server.read_metric("cloze_batch_texts_sum") == 3
        assert model.batcher.queued_texts == 0


def test_a_client_that_leaves_while_it_sends_is_no_error_of_ours(
    pretraining_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serve(pretraining_bundle) as server:
        connection = send_only(server, ROUTE, {"input": "rain"}, missing_bytes=1)
        connection.close()
        wait_until(
            lambda: server.read_metric("cloze_requests_total", route=ROUTE, status="499") == 1
        )
        assert server.read_metric("cloze_requests_total", route=ROUTE) == 1
    assert "Traceback" not in "".join(capfd.readouterr())


def test_requests_of_several_tasks_share_a_batch(
    pretraining_bundle: Path, pretraining: Pipeline, threads: ThreadPoolExecutor
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        bodies: list[tuple[str, dict[str, Any]]] = [
            (ROUTE, {"input": "rain"}),
            ("/v1/fill-mask", {"inputs": "the [MASK]"}),
            ("/v1/next-sentence", {"inputs": {"first": "rain", "second": "snow"}}),
        ]
        alone = [server.answer(path, body) for path, body in bodies]
        before = server.read_metric("cloze_batch_texts_count")
        with hold_model(model):
            waiting = [threads.submit(server.answer, path, body) for path, body in bodies]
            wait_until(lambda: model.batcher.queued_texts == 3)
        for future, answer in zip(waiting, alone, strict=True):
            check_same(future.result(), answer)
        # The held batch, and one for all three.
        assert server.read_metric("cloze_batch_texts_count") - before == 2


def test_a_busy_model_does_not_hold_up_another(tiny: Server) -> None:
    first, second, *_ = tiny.models
    with hold_model(first):
        answer = tiny.answer(ROUTE, {"input": "rain", "model": second.name})
        assert answer["model"] == second.name
        # Nor what asks for no model.
        assert tiny.client.get("/health/ready").status_code == 200


def test_large_requests_are_answered_as_small_ones(tiny: Server) -> None:
    # Above some size a request is tokenised and decoded in a thread.
    texts = [f"the {word} is {number}" for number in range(100) for word in ("sea", "queen")]
    large = tiny.answer(ROUTE, {"input": texts})
    small = [tiny.answer(ROUTE, {"input": text})["data"][0] for text in texts[:20]]
    check_same(
        [entry["embedding"] for entry in large["data"][:20]], [one["embedding"] for one in small]
    )
    tiny.refuse(ROUTE, {"input": [*texts, ""]}, 400, "empty_input", "input[200]")


def test_many_clients_get_their_own_answers(tiny: Server, pretraining: Pipeline) -> None:
    words = ("rain", "snow", "the queen", "a slow train to the sea", "bread and milk", "moon")
    name = tiny.models[0].name
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            with httpx.Client(base_url=tiny.url, timeout=60) as client:
                for turn in range(10):
                    text = words[(number + turn) % len(words)]
                    body = {"input": text, "model": name}
                    answer = client.post(ROUTE, json=body).json()
                    check_same(answer["data"][0]["embedding"], wanted[text])
        except BaseException as error:
            failures.append(error)

    wanted = dict(zip(words, pretraining.embed(words), strict=True))
    clients = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert not failures


def test_what_is_read_in_windows_is_listed_and_answered_in_turn(
    reader_bundle: Path, pretraining_bundle: Path
) -> None:
    """A long context is as many texts in the queue as it has windows, and one answer."""
    pair = ("who is the king?", "the king of france is cold. " * 60)
    pipeline = Pipeline.open(reader_bundle)
    head = pipeline.find_head("answer")
    wanted = pipeline.answer_questions([pair, pair[::-1]], top_k=3, overflow="truncate")
    with serve(pretraining_bundle, reader_bundle) as server:
        listed = server.client.get("/v1/models").json()["data"][1]
        assert listed["tasks"] == ["embed", "answer", "token-classify"]
        assert listed["heads"][2] == {
            "task": "token-classify",
            "name": "people",
            "labels": ["O", "B-PER", "I-PER"],
            "representation": None,
        }
        server.answer(ROUTE, {"input": "rain", "model": pipeline.manifest.name})

        def ask(items: list[Any], options: Any, task: str) -> Any:
            async def wait() -> Any:
                never = asyncio.Event()
                return await server.app.state.answerer.answer(
                    Question(task, items, options),
                    Deadline(time.perf_counter() + PATIENCE_S, PATIENCE_S),
                    RequestRecord(),
                    (None, never.wait),
                )

            return asyncio.run(wait())

        before = server.read_metric("cloze_batch_texts_sum")
        options = AnswerOptions(top_k=3, overflow="truncate")
        reply = ask([pair, pair[::-1]], options, "answer")
        check_same(
            [[asdict(span) for span in spans] for spans in reply.answers],
            [[asdict(span) for span in spans] for spans in wanted],
        )
        jobs = prepare(head, [pair, pair[::-1]], options)
        sequences = spread(jobs)
        assert len(sequences) > 12
        assert reply.tokens == sum(job.tokens for job in sequences)
        # The question of the second is the long text.
        assert list(reply.truncated) == [False, True]
        # A batch is counted once its answers are on their way.
        counted = before + len(sequences)
        wait_until(lambda: server.read_metric("cloze_batch_texts_sum") == counted)
        texts = ["the king of france", "a queen"]
        entities = ask(texts, TokenClassifyOptions(), "token-classify").answers
        check_same(
            [[asdict(entity) for entity in row] for row in entities],
            [[asdict(entity) for entity in row] for row in pipeline.token_classify(texts)],
        )
        assert all(model.batcher.queued_texts == 0 for model in server.models)
