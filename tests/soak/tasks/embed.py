"""Embeddings: floats and base64, texts and token ids, whole and cut."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from models.heads import EmbedOptions
from models.pipeline import Pipeline
from tests.soak.kinds import Asked, Bad, Kind, Refused, make_kind
from tests.soak.texts import ITEMS, Texts

PATH = "/v1/embeddings"
BAD: Bad = (({"input": [[10**6]]}, Refused(422, "foreign_tokens")),)


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """By text, in base64, by token ids, cut, and in windows."""
    main = [pipeline]
    encode = texts.encoder.encode
    tokens = [encode(text, overflow="error").ids.tolist() for text in texts.some]
    some_long = [*texts.some[: ITEMS // 2], *(texts.too_long() for _ in range(4))]
    base64 = replace(_ASKED, sent={"encoding_format": "base64"})
    cut = replace(
        _ASKED,
        options=EmbedOptions(None, normalize=False, dimensions=64, overflow="truncate"),
        sent={"normalize": False, "dimensions": 64, "overflow": "truncate"},
    )
    whole = replace(
        _ASKED,
        options=EmbedOptions(windows="mean", window_overlap=8),
        sent={"windows": "mean", "window_overlap": 8},
    )
    return [
        make_kind("embed", main, texts.some, replace(_ASKED, plain=True)),
        make_kind("embed base64", main, texts.some, base64),
        make_kind("embed token ids", main, tokens, _ASKED),
        make_kind("embed truncated", main, some_long, cut),
        make_kind("embed windows", main, some_long, whole),
    ]


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """By text."""
    return [make_kind("other embed", versions, texts.some, _ASKED)]


def _wrap(vector: Any) -> dict[str, Any]:
    return {"object": "embedding", "embedding": vector}


_ASKED = Asked(PATH, "embed", EmbedOptions(), _wrap, items="input")
