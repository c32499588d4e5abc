import base64
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from models import Pipeline
from models.errors import SettingsError
from service.observability.metrics import Metrics
from service.registry.manager import ModelManager
from service.settings import Settings
from tests.export.reading.sentences.test_projection import add_modules
from tests.helpers.server import Server, change_heads, check_same, copy_bundle, serve
from tests.helpers.store import Store

ROUTE = "/v1/embeddings"
TEXTS = ["the queen reads a letter", "rain", "a slow train to the sea, and back in the evening"]


@pytest.fixture(scope="module")
def client(minilm: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{minilm.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def vectors(answer: dict[str, Any]) -> NDArray[np.float32]:
    return np.array([entry["embedding"] for entry in answer["data"]], np.float32)


def test_answers_in_openais_shape(minilm: Server, minilm_pipeline: Pipeline) -> None:
    answer = minilm.answer(ROUTE, {"input": TEXTS})
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert answer["object"] == "list"
    assert answer["model"] == "all-MiniLM-L6-v2"
    assert answer["usage"].keys() == {"prompt_tokens", "total_tokens"}
    assert [entry.keys() for entry in answer["data"]] == [{"object", "index", "embedding"}] * 3
    assert {entry["object"] for entry in answer["data"]} == {"embedding"}
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
    check_same(vectors(answer), minilm_pipeline.embed(TEXTS))


def test_takes_one_text_as_a_list_of_one(minilm: Server) -> None:
    one = minilm.answer(ROUTE, {"input": TEXTS[0]})
    many = minilm.answer(ROUTE, {"input": TEXTS[:1]})
    assert len(one["data"]) == 1
    check_same(one, many)


def test_base64_holds_the_same_floats(minilm: Server) -> None:
    floats = minilm.answer(ROUTE, {"input": TEXTS, "encoding_format": "float"})
    coded = minilm.answer(ROUTE, {"input": TEXTS, "encoding_format": "base64"})
    read = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in coded["data"]]
    assert [vector.size for vector in read] == [384] * 3
    check_same(vectors(floats), np.stack(read))


def test_answers_stand_in_the_order_of_the_texts(minilm: Server) -> None:
    # Several batches, of texts that packing puts in another order.
    texts = [" ".join(["river"] * (1 + place * 7 % 60) + [str(place)]) for place in range(80)]
    answer = minilm.answer(ROUTE, {"input": texts})
    assert [entry["index"] for entry in answer["data"]] == list(range(80))
    for place in (0, 13, 79):
        alone = minilm.answer(ROUTE, {"input": texts[place]})
        check_same(answer["data"][place]["embedding"], alone["data"][0]["embedding"])


def test_dimensions_are_cut_before_normalising(minilm: Server) -> None:
    raw = vectors(minilm.answer(ROUTE, {"input": TEXTS, "normalize": False}))
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 1e-3
    cut = vectors(minilm.answer(ROUTE, {"input": TEXTS, "dimensions": 16}))
    check_same(cut, raw[:, :16] / np.linalg.norm(raw[:, :16], axis=1, keepdims=True))
    raw_cut = minilm.answer(ROUTE, {"input": TEXTS, "dimensions": 16, "normalize": False})
    check_same(vectors(raw_cut), raw[:, :16])
    whole = minilm.answer(ROUTE, {"input": TEXTS, "dimensions": 384})
    check_same(vectors(whole), raw / np.linalg.norm(raw, axis=1, keepdims=True))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_is_the_callers_choice(
    pooling: Any, minilm: Server, minilm_pipeline: Pipeline
) -> None:
    answer = minilm.answer(ROUTE, {"input": TEXTS, "pooling": pooling, "normalize": False})
    encoded = [minilm_pipeline.encoder.encode(text, overflow="error") for text in TEXTS]
    output, packed = minilm_pipeline.run_trunk(encoded)
    hidden = output.whole()
    pools: dict[str, Callable[..., Any]] = {
        "mean": np.mean,
        "cls": lambda rows, axis: rows[axis],
        "max": np.max,
    }
    spans = zip(packed.starts, packed.starts + packed.lengths, strict=True)
    check_same(vectors(answer), np.stack([pools[pooling](hidden[a:b], axis=0) for a, b in spans]))


def test_usage_counts_real_tokens(minilm: Server, minilm_pipeline: Pipeline) -> None:
    tokenizer = minilm_pipeline.encoder.tokenizer
    tokens = sum(len(tokenizer.encode(text).ids) for text in TEXTS)
    usage = minilm.answer(ROUTE, {"input": TEXTS})["usage"]
    assert usage == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_user_is_ignored(minilm: Server) -> None:
    check_same(
        minilm.answer(ROUTE, {"input": TEXTS, "user": "somebody"}),
        minilm.answer(ROUTE, {"input": TEXTS}),
    )


def test_model_may_be_named(minilm: Server) -> None:
    named = minilm.answer(ROUTE, {"input": TEXTS, "model": "all-MiniLM-L6-v2"})
    check_same(named, minilm.answer(ROUTE, {"input": TEXTS}))


def test_texts_that_are_too_long(minilm: Server) -> None:
    texts = ["short", "long " * 300]
    message = minilm.refuse(ROUTE, {"input": texts}, 400, "input_too_long", "input[1]")
    assert "302" in message
    assert "256" in message
    answer = minilm.answer(ROUTE, {"input": texts, "overflow": "truncate"})
    assert "truncated" not in answer["data"][0]
    assert answer["data"][1]["truncated"] is True
    # Behind the last of the words that were read.
    assert answer["data"][1]["truncated_at"] == 254 * len("long ") - 1
    assert answer["usage"]["prompt_tokens"] == 3 + 256
    cut = minilm.answer(ROUTE, {"input": "long " * 254})
    check_same(answer["data"][1]["embedding"], cut["data"][0]["embedding"])


def test_texts_cut_from_the_left(minilm: Server) -> None:
    text = "first " * 100 + "last " * 254
    cut = {"input": text, "overflow": "truncate"}
    answer = minilm.answer(ROUTE, cut | {"truncation_side": "left"})
    assert answer["data"][0]["truncated_at"] == len("first ") * 100
    wanted = minilm.answer(ROUTE, {"input": "last " * 254})
    check_same(answer["data"][0]["embedding"], wanted["data"][0]["embedding"])
    minilm.refuse(
        ROUTE, cut | {"truncation_side": "middle"}, 400, "invalid_value", "truncation_side"
    )


def test_texts_read_in_windows(minilm: Server, minilm_pipeline: Pipeline) -> None:
    texts = ["short", "long " * 300 + "river " * 300]
    whole = minilm_pipeline.embed_windows(texts, overlap=10)
    body = {"input": texts, "windows": "each", "window_overlap": 10}
    answer = minilm.answer(ROUTE, body)
    check_same(vectors(answer), [one.vector for one in whole])
    for entry, one in zip(answer["data"], whole, strict=True):
        assert entry.keys() == {"object", "index", "embedding", "windows"}
        for found, wanted in zip(entry["windows"], one.windows, strict=True):
            assert (found["start"], found["end"]) == (wanted.start, wanted.end)
            check_same(found["embedding"], wanted.vector.tolist())
    assert [len(entry["windows"]) for entry in answer["data"]] == [1, 3]
    assert answer["usage"]["prompt_tokens"] == 3 + 600 + 2 * 10 + 3 * 2
    mean = minilm.answer(ROUTE, body | {"windows": "mean"})
    check_same(vectors(mean), vectors(answer))
    assert all("windows" not in entry for entry in mean["data"])
    coded = minilm.answer(ROUTE, body | {"encoding_format": "base64"})
    window = coded["data"][1]["windows"][2]["embedding"]
    check_same(
        np.frombuffer(base64.b64decode(window), "<f4").tolist(),
        answer["data"][1]["windows"][2]["embedding"],
    )
    for fields, param in (
        ({"windows": "all"}, "windows"),
        ({"window_overlap": -1}, "window_overlap"),
        ({"window_overlap": 128}, "window_overlap"),
        ({"windows": None}, "window_overlap"),
        ({"input": [5, 6]}, "input[0]"),
    ):
        minilm.refuse(ROUTE, body | fields, 400, "invalid_value", param)


def test_openais_client_reads_windows(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(
        model="all-MiniLM-L6-v2", input="long " * 600, extra_body={"windows": "each"}
    )
    assert len(answer.data[0].embedding) == 384
    assert len(answer.data[0].windows) == 3  # type: ignore[attr-defined]


def test_server_may_truncate_by_default(cutting: Server) -> None:
    long = "river " * 100
    answer = cutting.answer(ROUTE, {"input": ["river", long]})
    assert [entry.get("truncated") for entry in answer["data"]] == [None, True]
    cutting.refuse(
        ROUTE, {"input": ["river", long], "overflow": "error"}, 400, "input_too_long", "input[1]"
    )


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": ["a", ""]}, "empty_input", "input[1]"),
        ({"input": " \n"}, "empty_input", "input[0]"),
        ({"input": "\0"}, "empty_input", "input[0]"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [[]]}, "empty_input", "input[0]"),
        ({"input": [[101, 102], []]}, "empty_input", "input[1]"),
        ({}, "missing_field", "input"),
        ({"input": None}, "invalid_value", "input[0]"),
        ({"input": 5}, "invalid_value", "input[0]"),
        ({"input": True}, "invalid_value", "input[0]"),
        ({"input": {"text": "a"}}, "invalid_value", "input[0]"),
        ({"input": ["a", 5]}, "invalid_value", "input[1]"),
        ({"input": ["a", None]}, "invalid_value", "input[1]"),
        ({"input": [["a"]]}, "invalid_value", "input[0][0]"),
        ({"input": [[[1]]]}, "invalid_value", "input[0][0]"),
        ({"input": [1.0]}, "invalid_value", "input[0][0]"),
        ({"input": [[1, 2.5]]}, "invalid_value", "input[0][1]"),
        ({"input": [[1, True]]}, "invalid_value", "input[0][1]"),
        ({"input": [10**30]}, "invalid_value", "input[0][0]"),
        ({"input": [101, -1, 102]}, "invalid_token", "input[0]"),
        ({"input": [[101, 102], [101, 30522, 102]]}, "invalid_token", "input[1]"),
        ({"input": [101, 2**63, 102]}, "invalid_token", "input[0]"),
        ({"input": [30522], "special_tokens": False}, "invalid_token", "input[0]"),
        ({"input": [101, 102], "special_tokens": "no"}, "invalid_value", "special_tokens"),
        ({"input": "a", "dimensions": 0}, "invalid_value", "dimensions"),
        ({"input": "a", "dimensions": -1}, "invalid_value", "dimensions"),
        ({"input": "a", "dimensions": 385}, "invalid_value", "dimensions"),
        ({"input": "a", "dimensions": 16.0}, "invalid_value", "dimensions"),
        ({"input": "a", "dimensions": "16"}, "invalid_value", "dimensions"),
        ({"input": "a", "dimensions": True}, "invalid_value", "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"input": "a", "pooling": "median"}, "invalid_value", "pooling"),
        ({"input": "a", "normalize": 1}, "invalid_value", "normalize"),
        ({"input": "a", "normalize": "yes"}, "invalid_value", "normalize"),
        ({"input": "a", "overflow": "cut"}, "invalid_value", "overflow"),
        ({"input": "a", "model": 5}, "invalid_value", "model"),
        ({"input": "a", "inputs": "a"}, "unknown_field", "inputs"),
        ({"inputs": "a"}, "unknown_field", "inputs"),
        ({"input": "a", "head": "x"}, "unknown_field", "head"),
        ({"input": "a", "<x>": 1}, "unknown_field", "<x>"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_answer(
    fields: dict[str, Any], code: str, param: str, minilm: Server
) -> None:
    message = minilm.refuse(ROUTE, fields, 400, code, param)
    assert message.startswith(f"{param}: ")


def test_refuses_a_dimension_that_is_no_number(minilm: Server) -> None:
    minilm.refuse(ROUTE, '{"input": "a", "dimensions": NaN}', 400, "invalid_json", None)
    minilm.refuse(ROUTE, '{"input": "a", "dimensions": 1e999}', 400, "invalid_json", None)


def test_openais_client_works_unchanged(client: openai.OpenAI, minilm_pipeline: Pipeline) -> None:
    # The client asks for base64 unless told otherwise, and decodes it.
    answer = client.embeddings.create(model="all-MiniLM-L6-v2", input=TEXTS)
    check_same([one.embedding for one in answer.data], minilm_pipeline.embed(TEXTS).tolist())
    assert [one.index for one in answer.data] == [0, 1, 2]
    floats = client.embeddings.create(
        model="all-MiniLM-L6-v2", input=TEXTS, encoding_format="float", dimensions=64, user="me"
    )
    check_same(
        [one.embedding for one in floats.data], minilm_pipeline.embed(TEXTS, dimensions=64).tolist()
    )
    ids = minilm_pipeline.encoder.tokenizer.encode(TEXTS[0]).ids
    tokens = client.embeddings.create(model="all-MiniLM-L6-v2", input=ids)
    check_same(tokens.data[0].embedding, answer.data[0].embedding)
    assert tokens.usage.prompt_tokens == tokens.usage.total_tokens == len(ids)


def test_openais_client_reads_the_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as empty:
        client.embeddings.create(model="all-MiniLM-L6-v2", input=["a", ""])
    assert (empty.value.code, empty.value.param) == ("empty_input", "input[1]")


def test_openais_client_sends_its_key(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, api_keys="right") as server:
        name = server.models[0].name
        for key, known in (("right", True), ("wrong", False)):
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
                if known:
                    assert client.embeddings.create(model=name, input="river").data[0].embedding
                else:
                    with pytest.raises(openai.AuthenticationError):
                        client.embeddings.create(model=name, input="river")


def test_vectors_are_those_of_sentence_transformers(minilm: Server, minilm_source: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = draw_texts(200)
    wanted = SentenceTransformer(str(minilm_source), device="cpu").encode(
        texts, normalize_embeddings=True, show_progress_bar=False
    )
    answer = minilm.answer(ROUTE, {"input": texts, "overflow": "truncate"})
    assert any("truncated" in entry for entry in answer["data"])
    assert np.abs(vectors(answer) - wanted).max() < 1e-5


def draw_texts(count: int) -> list[str]:
    """Texts of one word to several hundred, most of them short, some of odd characters."""
    chance = random.Random(7)
    line = (
        "the river runs cold under an old bridge where nobody fishes any more; 42 swans, "
        "Zürich naïve façade 東京 антиконституционно 🙂 e-mail don't [MASK] $3.50 supercalifragil"
    )
    lengths = [min(400, int(chance.lognormvariate(2.5, 1.2)) + 1) for _ in range(count)]
    return [" ".join(chance.choices(line.split(), k=length)) for length in lengths]


def test_a_projection_has_its_own_size_and_pooling(
    pretraining_source: Path, tmp_path: Path, exports: Store
) -> None:
    """Dense after pooling: what it was trained on is all it knows."""
    source = Path(shutil.copytree(pretraining_source, tmp_path / "source"))
    add_modules(source, ("Dense", {"outside": 12}))
    bundle = exports.export(source, "dense", tasks=("embed",))
    with serve(bundle) as server:
        (model,) = server.client.get("/v1/models").json()["data"]
        assert (model["dimensions"], model["pooling"]) == (12, "mean")
        wanted = Pipeline.open(bundle).embed(["the king"])
        for body in ({}, {"pooling": "mean"}, {"dimensions": 12}):
            check_same(vectors(server.answer(ROUTE, {"input": "the king"} | body)), wanted)
        for body, param in (({"pooling": "cls"}, "pooling"), ({"dimensions": 13}, "dimensions")):
            server.refuse(ROUTE, {"input": "the king"} | body, 400, "invalid_value", param)


def test_prompts_go_by_name_and_one_unasked(pretraining_bundle: Path, tmp_path: Path) -> None:
    prompts = {"query": "find the king: ", "document": ""}
    bundle = copy_bundle(pretraining_bundle, tmp_path)
    change_heads(bundle, "embed", prompts=prompts, default_prompt="query")
    pipeline = Pipeline.open(bundle)
    with serve(bundle) as server:
        (model,) = server.client.get("/v1/models").json()["data"]
        assert (model["prompts"], model["default_prompt"]) == (prompts, "query")
        for body, name in (
            ({}, "query"),
            ({"prompt_name": None}, "query"),
            ({"prompt_name": "query"}, "query"),
            ({"prompt_name": "document"}, ""),
            ({"prompt_name": ""}, ""),
        ):
            found = vectors(server.answer(ROUTE, {"input": TEXTS} | body))
            check_same(found, pipeline.embed(TEXTS, prompt=name))
        answer = server.refuse(
            ROUTE, {"input": "a", "prompt_name": "passage"}, 400, "invalid_value", "prompt_name"
        )
        assert "'query', 'document'" in answer
        server.refuse(ROUTE, {"input": ["a", ""]}, 400, "empty_input", "input[1]")


def test_a_pooling_that_was_guessed_answers_by_name_alone(
    pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(pretraining_bundle, tmp_path)
    change_heads(bundle, "embed", pooling_source="default")
    with serve(bundle) as server:
        message = server.refuse(ROUTE, {"input": "rain"}, 400, "task_unsupported", "model")
        assert '"model": "tiny-pretraining"' in message
        assert server.answer(ROUTE, {"input": "rain", "model": "tiny-pretraining"})["data"]
        assert server.answer("/v1/fill-mask", {"inputs": "[MASK]"})["results"]
        (model,) = server.client.get("/v1/models").json()["data"]
        assert model["pooling_source"] == "default"
    with serve(bundle, classify_bundle) as server:
        assert server.answer(ROUTE, {"input": "rain"})["model"] == "tiny-classify"


def test_a_default_prompt_for_clients_that_name_none(
    pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(pretraining_bundle, tmp_path)
    change_heads(bundle, "embed", prompts={"query": "find the king: ", "document": "a "})
    pipeline = Pipeline.open(bundle)
    with serve(bundle) as server:
        (plain,) = server.client.get("/v1/models").json()["data"]
    with serve(bundle, classify_bundle, default_prompt="query") as server:
        found = vectors(server.answer(ROUTE, {"input": TEXTS}))
        check_same(found, pipeline.embed(TEXTS, prompt="query"))
        for body, name in (({"prompt_name": "document"}, "document"), ({"prompt_name": ""}, "")):
            found = vectors(server.answer(ROUTE, {"input": TEXTS} | body))
            check_same(found, pipeline.embed(TEXTS, prompt=name))
        told, other = server.client.get("/v1/models").json()["data"]
        assert (told["default_prompt"], other["default_prompt"]) == ("query", None)
        # It gives other vectors, and says so; where the bundle lies it is what it was.
        assert told["fingerprint"] == f"{plain['fingerprint']}-query"
        server.models[0].pipeline.reopen()
    settings = {"bundles": (classify_bundle,), "default_prompt": "query"}
    with pytest.raises(SettingsError, match="no model here has a prompt of that name; they have"):
        ModelManager(Settings(**settings), Metrics()).load()


def test_ids_that_are_framed_already_are_not_framed_again(minilm: Server) -> None:
    message = minilm.refuse(
        ROUTE,
        {"input": [101, 2028, 102], "special_tokens": False},
        422,
        "foreign_tokens",
        "input[0]",
    )
    assert "already" in message
    framed = vectors(minilm.answer(ROUTE, {"input": [101, 2028, 102]}))
    check_same(vectors(minilm.answer(ROUTE, {"input": [2028], "special_tokens": False})), framed)
