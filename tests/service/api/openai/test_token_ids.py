"""Token ids: the model's own are used as given, what looks like another's is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from models import Pipeline
from tests.helpers.fixtures import Export
from tests.helpers.server import Server, change_heads, check_same, copy_bundle, serve

ROUTE = "/v1/embeddings"
TEXTS = ["the queen reads a letter", "rain", "a slow train to the sea, and back in the evening"]
BARE = {"special_tokens": False}


def vectors(answer: dict[str, Any]) -> NDArray[np.float32]:
    return np.array([entry["embedding"] for entry in answer["data"]], np.float32)


def encode(pipeline: Pipeline, text: str) -> list[int]:
    ids: list[int] = pipeline.encoder.tokenizer.encode(text).ids
    return ids


def test_token_ids_are_used_exactly_as_given(minilm: Server, minilm_pipeline: Pipeline) -> None:
    ids = encode(minilm_pipeline, TEXTS[0])
    text = minilm.answer(ROUTE, {"input": TEXTS[0]})
    for more in ({}, {"special_tokens": True}, {"special_tokens": None}):
        check_same(minilm.answer(ROUTE, {"input": ids, **more}), text)
    # Whatever stands between the special tokens.
    odd = [ids[0], ids[0], 5, ids[-1], ids[-1]]
    found = minilm.answer(ROUTE, {"input": odd})
    check_same(vectors(found), minilm_pipeline.embed([odd]))
    assert found["usage"]["prompt_tokens"] == 5


def test_takes_lists_of_token_ids_beside_texts(minilm: Server, minilm_pipeline: Pipeline) -> None:
    ids = encode(minilm_pipeline, TEXTS[1])
    lists = minilm.answer(ROUTE, {"input": [ids, [*ids[:-1], *ids[1:]]]})
    assert lists["usage"]["prompt_tokens"] == 2 * len(ids) + 1
    check_same(vectors(lists), minilm_pipeline.embed([ids, [*ids[:-1], *ids[1:]]]))
    mixed = minilm.answer(ROUTE, {"input": [TEXTS[0], ids]})
    check_same(vectors(mixed), minilm_pipeline.embed(TEXTS[:2]))


@pytest.mark.parametrize(
    "change",
    [
        lambda ids: ids[1:-1],
        lambda ids: ids[1:],
        lambda ids: ids[:-1],
        lambda ids: ids[::-1],
        lambda ids: ids[:1],
        # Of OpenAI's tokenizer, for "The quick brown fox": some are in this vocabulary, some not.
        lambda ids: [791, 4062, 14198],
        lambda ids: [791, 4062, 14198, 39935],
        lambda ids: [-1],
        lambda ids: [2**63],
    ],
)
def test_what_the_tokenizer_could_not_have_made_is_refused(
    change: Any, minilm: Server, minilm_pipeline: Pipeline
) -> None:
    ids = encode(minilm_pipeline, TEXTS[0])
    for items, param in ((change(ids), "input[0]"), (["rain", ids, change(ids)], "input[2]")):
        for more in ({}, {"special_tokens": True}, {"overflow": "truncate"}):
            message = minilm.refuse(ROUTE, {"input": items, **more}, 422, "foreign_tokens", param)
            assert "check_embedding_ctx_length=False" in message
            assert "[CLS] (101)" in message
            assert "[SEP] (102)" in message
            assert '"special_tokens": false' in message


def test_bare_ids_are_given_their_special_tokens(minilm: Server, minilm_pipeline: Pipeline) -> None:
    bare = [encode(minilm_pipeline, text)[1:-1] for text in TEXTS]
    text = minilm.answer(ROUTE, {"input": TEXTS})
    check_same(minilm.answer(ROUTE, {"input": bare, **BARE}), text)
    # Texts have theirs either way.
    check_same(minilm.answer(ROUTE, {"input": [*TEXTS[:2], bare[2]], **BARE}), text)
    minilm.refuse(ROUTE, {"input": [bare[0], []], **BARE}, 400, "empty_input", "input[1]")


def test_token_ids_that_are_too_many(minilm: Server) -> None:
    bare = [2000 + place for place in range(260)]
    kept = {"right": bare[:254], "left": bare[6:]}
    for ahead, ids, more in ((1, [101, *bare, 102], {}), (0, bare, BARE)):
        body = {"input": ids, **more}
        message = minilm.refuse(ROUTE, body, 400, "input_too_long", "input[0]")
        assert "262 tokens" in message
        for side, cut in ((None, 254), ("right", 254), ("left", 6)):
            answer = minilm.answer(ROUTE, {**body, "overflow": "truncate", "truncation_side": side})
            assert answer["data"][0]["truncated"] is True
            assert answer["data"][0]["truncated_at"] == cut + ahead
            assert answer["usage"]["prompt_tokens"] == 256
            # The special tokens stay, as those of a text do.
            wanted = minilm.answer(ROUTE, {"input": [101, *kept[side or "right"], 102]})
            check_same(answer["data"][0]["embedding"], wanted["data"][0]["embedding"])
    # As many as there is room for.
    for ids, more in (([101, *bare[:254], 102], {}), (bare[:254], BARE)):
        assert "truncated" not in minilm.answer(ROUTE, {"input": ids, **more})["data"][0]
    minilm.refuse(ROUTE, {"input": bare[:255], **BARE}, 400, "input_too_long", "input[0]")


def test_prompts_stand_before_no_ids(pretraining_bundle: Path, tmp_path: Path) -> None:
    bundle = copy_bundle(pretraining_bundle, tmp_path)
    change_heads(bundle, "embed", prompts={"query": "find the king: "}, default_prompt="query")
    pipeline = Pipeline.open(bundle)
    ids = encode(pipeline, "rain")
    wanted = pipeline.embed(["rain"], prompt="")
    with serve(bundle) as server:
        for item, more in ((ids, {}), (ids[1:-1], BARE), (ids, {"prompt_name": "query"})):
            check_same(vectors(server.answer(ROUTE, {"input": item, **more})), wanted)


@pytest.mark.parametrize("family", ["roberta", "deberta-v2"])
def test_other_families_have_other_special_tokens(family: str, exported: Export) -> None:
    pair = exported(family, "Model")
    ids = encode(pair.pipeline, "the king of france")
    with serve(pair.bundle) as server:
        named = {"model": server.models[0].name}
        text = server.answer(ROUTE, {"input": "the king of france", **named})
        check_same(server.answer(ROUTE, {"input": ids, **named}), text)
        check_same(server.answer(ROUTE, {"input": ids[1:-1], **named, **BARE}), text)
        server.refuse(ROUTE, {"input": ids[1:-1], **named}, 422, "foreign_tokens", "input[0]")


def test_openais_client_says_that_ids_are_bare(minilm: Server, minilm_pipeline: Pipeline) -> None:
    ids = encode(minilm_pipeline, TEXTS[0])
    with openai.OpenAI(base_url=f"{minilm.url}/v1", api_key="any", max_retries=0) as client:
        name = "all-MiniLM-L6-v2"
        bare = client.embeddings.create(model=name, input=ids[1:-1], extra_body=BARE)
        whole = client.embeddings.create(model=name, input=ids)
        check_same(bare.data[0].embedding, whole.data[0].embedding)
        with pytest.raises(openai.UnprocessableEntityError) as foreign:
            client.embeddings.create(model=name, input=ids[1:-1])
    assert foreign.value.code == "foreign_tokens"
