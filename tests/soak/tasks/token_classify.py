"""Token classification: every token of a text, and whole words."""

from collections.abc import Sequence
from typing import Any

from models.heads import TokenClassifyOptions
from models.pipeline import Pipeline
from tests.soak.kinds import Asked, Bad, Kind, Refused, make_kind
from tests.soak.texts import Texts

PATH = "/v1/token-classify"
BAD: Bad = (({"inputs": "rain", "aggregation": "some"}, Refused(422, "invalid_value")),)


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """The model that has most tasks has no such head."""
    return []


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """By token, each with its label."""
    options = TokenClassifyOptions("none", ignore_labels=())
    sent = {"aggregation": "none", "ignore_labels": []}
    asked = Asked(PATH, "token-classify", options, _wrap, sent=sent, finish=_spell)
    return [make_kind("other token-classify", versions, texts.some, asked)]


def _wrap(entities: Any) -> dict[str, Any]:
    return {"entities": entities}


def _spell(answer: dict[str, Any], text: str) -> dict[str, Any]:
    """Words as the text spells them."""
    entities = answer["entities"]
    return {"entities": [each | {"word": text[each["start"] : each["end"]]} for each in entities]}
