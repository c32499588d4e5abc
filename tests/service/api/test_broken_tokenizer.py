"""A tokenizer that fails while it serves: an error of ours, in the one shape, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from models.text.encoder import Encoder
from tests.helpers.server import Server, check_error, serve

# To the tokenizers library no letter that the vocabulary lacks can be read then.
STRANGE = "\u4e20\u4e21"


def break_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """One that stands for what it does not know by a token that it has not."""
    content = json.loads(tokenizer.to_str())
    content["model"]["unk_token"] = "[NONE]"
    return Tokenizer.from_str(json.dumps(content))


def ask(server: Server, texts: Any) -> None:
    response = server.post("/v1/embeddings", {"input": texts})
    message = check_error(response, 500, "internal_error", None)
    assert "UNK" not in message
    assert server.answer("/v1/embeddings", {"input": "rain"})["data"]


def test_a_text_that_it_cannot_read(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        encoder: Encoder = model.pipeline.encoder
        monkeypatch.setattr(encoder._reader, "_tokenizer", break_tokenizer(encoder.tokenizer))
        ask(server, STRANGE)
        ask(server, ["rain"] * 40 + [STRANGE])
        ask(server, STRANGE * 3_000)


def test_one_that_breaks_down(pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rust's panic is no Exception; nothing but its module tells it from Python's own ends."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    class Panicking:
        def __init__(self, tokenizer: Any) -> None:
            self._tokenizer = tokenizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tokenizer, name)

        def encode(self, text: str, *_: Any, **__: Any) -> Any:
            if "king" in text:
                raise panic("index out of bounds")
            return self._tokenizer.encode(text, *_, **__)

    with serve(pretraining_bundle) as server:
        (model,) = server.models
        encoder: Encoder = model.pipeline.encoder
        monkeypatch.setattr(encoder._reader, "_tokenizer", Panicking(encoder.tokenizer))
        ask(server, "the king")
