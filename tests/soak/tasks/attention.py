"""Attention: of a view of the graph that is opened beside the trunk, and answered apart."""

from collections.abc import Sequence
from typing import Any

import orjson

from models.derived.attention import AttentionMap
from models.pipeline import Pipeline
from tests.soak.kinds import Bad, Kind, Known, Refused
from tests.soak.texts import Texts

PATH = "/v1/attention"
BAD: Bad = (({"inputs": "rain", "layer": 99}, Refused(422, "invalid_value")),)
_MOST_WORDS = 12
_SENT = {"layer": 1, "head": 0}


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """One head of a layer, of texts of a few words."""
    some = [" ".join(text.split()[:_MOST_WORDS]) for text in texts.some]
    maps = pipeline.attention(some, layer=_SENT["layer"], head=_SENT["head"])
    known = [_know(text, each) for text, each in zip(some, maps, strict=True)]
    return [Kind("attention", PATH, pipeline.manifest.name, _SENT, [known])]


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """One model is enough: another one is another view."""
    return []


def _know(text: str, found: AttentionMap) -> Known:
    answer = {"tokens": found.tokens, "attention": found.attention}
    simple: dict[str, Any] = orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
    return Known(text, simple, len(found.encoded.ids))
