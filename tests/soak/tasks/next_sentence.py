"""Next-sentence: pairs."""

from collections.abc import Sequence

from models.heads import NextSentenceOptions
from models.pipeline import Pipeline
from tests.soak.kinds import Asked, Bad, Kind, Refused, make_kind
from tests.soak.texts import ITEMS, Texts

PATH = "/v1/next-sentence"
BAD: Bad = (({"inputs": "one"}, Refused(422, "invalid_value")),)


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """Pairs, as they come."""
    pairs = [texts.pair() for _ in range(ITEMS)]
    asked = Asked(PATH, "next-sentence", NextSentenceOptions(), dict, pair=("first", "second"))
    return [make_kind("next-sentence", [pipeline], pairs, asked)]


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """The small model has no such head."""
    return []
