"""Characters at the edges of Unicode, through every task, with every offset still right."""

from typing import Any

import pytest

from tests.helpers.server import Server, check_same, find_refusal

ODD = {
    "bidi": "\u202eevil\u202c \u2066x\u2069 \u200f",
    "combining": "e" + "\u0301" * 10_000,
    "combining alone": "\u0301" * 10_000,
    "zero width": "\u200b\u200c\u200d\ufeff" * 20,
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
    " \U0001f3f4\U000e0067\U000e007f",
    "flags": "\U0001f1e9\U0001f1ea" * 20,
    "unassigned": "\u0378 \U000e0fff \U0003ffff",
    "noncharacters": "\uffff \ufffe \U0010ffff \ufdd0",
    "private": "\ue000\U000f0000",
    "controls": "\0 \x01 \x1b[31m \x7f \x85",
    "breaks": "\r\n \u2028\u2029\x0b\x0c \u00a0\u3000",
    "folding": "\u0130\u00df\ufb03 \u1e9e",
    "composing": "\u1100\u1161\u11a8 \uac01",
    "hangul filler": "\u3164\uffa0",
    "replaced": "\ufffd\ufffd",
    "tags": "</s> <mask> [CLS] [SEP] [PAD] ##ing",
    "one word": "x" * 5_000,
}
EACH = pytest.mark.parametrize("odd", ODD.values(), ids=ODD)


def ask(path: str, text: str, server: Server) -> dict[str, Any]:
    item = {"first": text, "second": text} if path == "/v1/next-sentence" else text
    field = "input" if path == "/v1/embeddings" else "inputs"
    return server.answer(path, {field: item, "overflow": "truncate"})


@EACH
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/next-sentence", "/v1/classify"])
def test_odd_characters_are_answered_alike_twice(path: str, odd: str, tiny: Server) -> None:
    found = ask(path, f"the {odd} fox", tiny)
    check_same(ask(path, f"the {odd} fox", tiny), found)
    assert found["usage"]["prompt_tokens"] >= 3


@EACH
def test_masks_stand_where_they_were_sent(odd: str, tiny: Server) -> None:
    for text in (
        f"[MASK]{odd}",
        f"[MASK] {odd} [MASK]",
        f"{odd[:20]} [MASK] the[MASK]{odd[:20]}[MASK]",
    ):
        result = ask("/v1/fill-mask", text, tiny)["results"][0]
        places = [place for place in range(len(text)) if text.startswith("[MASK]", place)]
        found = [mask["start"] for mask in result["masks"]]
        # What was cut away is not among them, and that is told.
        assert found == places or (result["truncated"] and found == places[: len(found)])
        assert found
        for mask in result["masks"]:
            assert text[mask["start"] : mask["end"]] == "[MASK]"
            for candidate in mask["candidates"]:
                filled = text[: mask["start"]] + candidate["token"] + text[mask["end"] :]
                assert candidate["sequence"] == filled


@EACH
def test_odd_names_are_refused_by_name(odd: str, tiny: Server) -> None:
    name = odd[:20]
    message = tiny.refuse(
        "/v1/classify", {"inputs": "a", "model": name}, 404, "model_not_found", "model"
    )
    assert "tiny-classify" in message
    message = tiny.refuse(
        "/v1/classify", {"inputs": "a", "head": name}, 422, "head_not_found", "head"
    )
    response = tiny.post("/v1/fill-mask", {"inputs": "[MASK]", "targets": ["the", name]})
    if response.status_code != 200:  # some are special tokens of the vocabulary
        error = response.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_target", "targets[1]")
    response = tiny.post("/v1/classify", {"inputs": "a", name: "b"})
    assert response.json()["error"]["code"] == "unknown_field"
    assert response.status_code == 422


@pytest.mark.parametrize(
    "text", ["", " ", "\t\r\n", "\u00a0\u3000", "\u200b\ufeff", "\0", "\u0301"]
)
def test_nothing_to_read_is_refused_with_its_place(text: str, tiny: Server) -> None:
    for path, body, place in (
        ("/v1/embeddings", {"input": ["a", text]}, "input[1]"),
        ("/v1/classify", {"inputs": ["a", text]}, "inputs[1]"),
        ("/v1/classify", {"inputs": ["a", {"text": text}]}, "inputs[1]"),
        ("/v1/next-sentence", {"inputs": [{"first": "a", "second": text}]}, "inputs[0]"),
    ):
        tiny.refuse(path, body, find_refusal(path), "empty_input", place)
    code = "empty_input" if not text.strip() else "missing_mask"
    tiny.refuse("/v1/fill-mask", {"inputs": ["[MASK]", text]}, 422, code, "inputs[1]")
