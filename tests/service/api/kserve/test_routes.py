"""The Open Inference Protocol, version 2."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.server import Server, serve


def test_health_and_models(tiny: Server) -> None:
    assert tiny.client.get("/v2/health/live").json() == {"live": True}
    assert tiny.client.get("/v2/health/ready").json() == {"ready": True}
    assert tiny.client.get("/v2").json()["name"] == "cloze"
    name = tiny.models[0].name
    told = tiny.client.get(f"/v2/models/{name}").json()
    assert (told["name"], told["outputs"][0]["shape"]) == (name, [-1, 32])
    ready = tiny.client.get(f"/v2/models/{name}/ready").json()
    assert ready == {"name": name, "ready": True}
    assert tiny.client.get("/v2/models/none").status_code == 404


def test_a_model_that_infer_refuses_is_told_to_take_nothing(ranking: Server) -> None:
    told = ranking.client.get("/v2/models/tiny-ranker").json()
    assert (told["inputs"], told["outputs"]) == ([], [])
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["rain"]}
    assert ranking.post("/v2/models/tiny-ranker/infer", {"inputs": [tensor]}).status_code == 422


@pytest.mark.parametrize("data", [["rain", "sea"], [["rain"], ["sea"]]])
def test_infer(data: Any, tiny: Server) -> None:
    wanted = tiny.answer("/v1/embeddings", {"input": ["rain", "sea"]})["data"]
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": data}
    path = f"/v2/models/{tiny.models[0].name}/infer"
    found = tiny.answer(path, {"id": "7", "inputs": [tensor]})
    assert (found["id"], found["model_name"]) == ("7", tiny.models[0].name)
    (output,) = found["outputs"]
    assert output["shape"] == [2, 32]
    vectors = np.reshape(output["data"], output["shape"])
    np.testing.assert_allclose(vectors, [each["embedding"] for each in wanted], atol=1e-5)
    cut = tiny.post(path, {"inputs": [tensor | {"data": ["rain", "river " * 80]}]})
    assert (cut.status_code, cut.headers["x-truncated"]) == (200, "1")
    for wrong in ({"inputs": []}, {"inputs": [tensor | {"data": [1]}]}):
        response = tiny.post(path, wrong)
        assert response.status_code == 422
        assert isinstance(response.json()["error"], str)


def test_a_model_that_does_not_answer_is_not_ready(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        monkeypatch.setattr(type(model.batcher), "alive", False)
        response = server.client.get(f"/v2/models/{model.name}/ready")
        assert response.status_code == 503
        assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize("given", [{"data": []}, {"data": [[]]}, {"shape": [3]}], ids=str)
def test_what_is_no_tensor_of_texts_is_refused(given: Any, tiny: Server) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["rain"], **given}
    path = f"/v2/models/{tiny.models[0].name}/infer"
    response = tiny.post(path, {"inputs": [tensor]})
    assert response.status_code == 422, response.text
    assert response.json()["error"].startswith(f"inputs[0].{next(iter(given))}: ")
