from dataclasses import asdict
from typing import Any

import pytest

from models import Pipeline
from tests.helpers.server import Server

ROUTE = "/v1/tokenize"
TEXTS = ["The King 😀 of  France", "日本 cafe\u0301"]


def test_answers_as_the_pipeline_does(tiny: Server, pretraining: Pipeline) -> None:
    answer = tiny.answer(ROUTE, {"inputs": TEXTS})
    wanted = pretraining.tokenize(TEXTS)
    assert answer["model"] == pretraining.manifest.name
    assert answer["results"] == [
        {"tokens": [asdict(token) for token in tokens]} for tokens in wanted
    ]
    assert answer["usage"]["total_tokens"] == sum(map(len, wanted))
    bare = tiny.answer(ROUTE, {"inputs": TEXTS[0], "special_tokens": False})
    assert [token["special"] for token in bare["results"][0]["tokens"]] == [False] * 5


def test_a_long_text_is_told_whole(tiny: Server) -> None:
    (result,) = tiny.answer(ROUTE, {"inputs": "king " * 20_000})["results"]
    assert len(result["tokens"]) == 20_002


def test_what_it_spells_it_reads(tiny: Server, pretraining: Pipeline) -> None:
    ids = [[token.id for token in tokens] for tokens in pretraining.tokenize(TEXTS)]
    answer = tiny.answer("/v1/detokenize", {"ids": ids})
    assert [result["text"] for result in answer["results"]] == pretraining.detokenize(ids)
    one = tiny.answer("/v1/detokenize", {"ids": ids[0], "special_tokens": True})
    assert one["results"] == [{"text": pretraining.detokenize(ids[:1], special=True)[0]}]


@pytest.mark.parametrize(
    ("path", "fields", "code", "param"),
    [
        (ROUTE, {"inputs": []}, "invalid_value", "inputs"),
        (ROUTE, {"inputs": ["a", 1]}, "invalid_value", "inputs[1]"),
        (ROUTE, {"inputs": "a", "top_k": 1}, "unknown_field", "top_k"),
        (ROUTE, {"inputs": ["a"] * 3000}, "too_many_inputs", "inputs"),
        ("/v1/detokenize", {"ids": [[1, 10**6]]}, "invalid_token", "ids[0]"),
        ("/v1/detokenize", {"ids": [[1], ["a"]]}, "invalid_value", "ids[1][0]"),
        ("/v1/detokenize", {"ids": "a"}, "invalid_value", "ids"),
        ("/v1/detokenize", {"ids": [[-1]]}, "invalid_token", "ids[0]"),
        ("/v1/detokenize", {}, "missing_field", "ids"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refuses_what_it_cannot_answer(
    path: str, fields: dict[str, Any], code: str, param: str, tiny: Server
) -> None:
    message = tiny.refuse(path, fields, 422, code, param)
    assert code != "invalid_token" or "send ids from this model's own tokenizer" in message


def test_an_answer_has_a_bound(tiny: Server) -> None:
    body = {"inputs": ["a " * 250_000] * 3}
    tiny.refuse(ROUTE, body, 422, "invalid_value", "inputs[2]")
    body = {"inputs": ["a", "a " * 300_000]}
    tiny.refuse(ROUTE, body, 422, "input_too_long", "inputs[1]")
    body = {"ids": [[7], [7] * 300_000]}
    tiny.refuse("/v1/detokenize", body, 422, "input_too_long", "ids[1]")
    for ids in (body["ids"], [7] * 1_500_000):
        refused = tiny.client.post("/decode", json={"ids": ids})
        assert refused.status_code == 422
        assert "parts" in refused.text or "several requests" in refused.text


def test_as_text_embeddings_inference_has_it(tiny: Server, pretraining: Pipeline) -> None:
    found = tiny.client.post("/tokenize", json={"inputs": TEXTS[0]}).json()
    (wanted,) = pretraining.tokenize(TEXTS[:1])
    assert found == [
        [
            {
                "id": token.id,
                "text": token.text,
                "special": token.special,
                "start": token.start,
                "stop": token.end,
            }
            for token in wanted
        ]
    ]
    ids = [token.id for token in wanted]
    for sent in (ids, [ids]):
        spelled = tiny.client.post("/decode", json={"ids": sent}).json()
        assert spelled == pretraining.detokenize([ids])
    assert tiny.client.post("/decode", json={"ids": [["a"]]}).status_code == 422
