"""How likely texts are: copies of one text, each with another token hidden, share the batch."""

from collections.abc import Sequence

from models.derived.score import ScoreOptions
from models.pipeline import Pipeline
from tests.soak.kinds import Asked, Bad, Kind, Refused, make_kind
from tests.soak.texts import Texts

PATH = "/v1/score"
BAD: Bad = (({"inputs": "rain", "layer": 0}, Refused(422, "unknown_field")),)
_MOST_WORDS = 12


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """Of a few words."""
    some = [" ".join(text.split()[:_MOST_WORDS]) for text in texts.some]
    asked = Asked(PATH, "score", ScoreOptions(), dict)
    return [make_kind("score", [pipeline], some, asked)]


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """The small model has no such head."""
    return []
