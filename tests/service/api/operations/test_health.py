import threading
from pathlib import Path

import pytest

from models.bundle.bundle import Bundle
from models.pipeline import Pipeline
from service.registry.warm_up import warm_up
from tests.helpers.server import PATIENCE_S, Server, check_error, read_times, serve, wait_until


def test_both_are_ok_once_the_models_are_loaded(tiny: Server) -> None:
    for path, status in (("/health/live", "live"), ("/health/ready", "ready")):
        response = tiny.client.get(path)
        assert response.status_code == 200
        assert response.json() == {"status": status}
        read_times(response)


def test_not_ready_while_the_models_load(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The golden answers are computed when this test allows it.
    allowed = threading.Event()

    def warm_up_later(pipeline: Pipeline) -> None:
        allowed.wait(PATIENCE_S)
        warm_up(pipeline)

    monkeypatch.setattr("service.registry.loaded_model.warm_up", warm_up_later)
    with serve(pretraining_bundle, wait=False) as server:
        try:
            assert server.client.get("/health/live").status_code == 200
            response = server.client.get("/health/ready")
            assert "loading" in check_error(response, 503, "not_ready", None)
            assert int(response.headers["retry-after"]) > 0
            response = server.post("/v1/embeddings", {"input": "rain"})
            assert "loading" in check_error(response, 503, "not_ready", None)
            check_error(server.client.get("/v1/models"), 503, "not_ready", None)
            assert server.client.get("/metrics").status_code == 200
        finally:
            allowed.set()
        wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        answer = server.answer("/v1/embeddings", {"input": "rain"})
        assert answer["model"] == Bundle.open(pretraining_bundle).manifest.name


def test_not_ready_where_a_bundle_cannot_be_loaded(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    with serve(pretraining_bundle, tmp_path / "nothing", wait=False) as server:

        def read_reason() -> str:
            return check_error(server.client.get("/health/ready"), 503, "not_ready", None)

        wait_until(lambda: "loading" not in read_reason())
        assert "no bundle at" in read_reason()
        assert server.client.get("/health/live").status_code == 200
        # Not even the one that could be loaded: half a service is not what was asked for.
        server.refuse("/v1/embeddings", {"input": "rain"}, 503, "not_ready", None)


def test_not_ready_once_it_is_shutting_down(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        server.answer("/v1/embeddings", {"input": "rain"})
        server.manager.close()
        message = check_error(server.client.get("/health/ready"), 503, "not_ready", None)
        assert "shutting down" in message
        assert server.client.get("/health/live").status_code == 200
        server.refuse("/v1/embeddings", {"input": "rain"}, 503, "not_ready", None)


def test_not_ready_once_the_thread_of_a_model_has_ended(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        server.models[0].batcher.close()
        message = check_error(server.client.get("/health/ready"), 503, "not_ready", None)
        assert "has ended" in message
        server.refuse("/v1/embeddings", {"input": "rain"}, 503, "not_ready", None)


def test_not_live_when_threads_pile_up(pretraining_bundle: Path) -> None:
    """Computations that can neither finish nor be ended: three of them are one process too many."""
    let_go = threading.Event()
    with serve(pretraining_bundle) as server:
        stuck = [threading.Thread(target=let_go.wait) for _ in range(3)]
        for thread in stuck:
            thread.start()
            server.models[0].batcher.stuck_threads.add(thread)
        try:
            message = check_error(server.client.get("/health/live"), 503, "not_ready", None)
            assert message.startswith("3 computations")
        finally:
            let_go.set()
            for thread in stuck:
                thread.join()
        assert server.client.get("/health/live").status_code == 200


def test_metrics_speak_prometheus(tiny: Server) -> None:
    response = tiny.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    read_times(response)
