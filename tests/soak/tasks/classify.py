"""Classification: texts and pairs, by several heads, all labels or the best."""

from collections.abc import Sequence
from typing import Any

from models.heads import ClassifyOptions
from models.pipeline import Pipeline
from tests.soak.comparison import Ranking
from tests.soak.kinds import Asked, Bad, Kind, Refused, make_kind
from tests.soak.texts import ITEMS, Texts

PATH = "/v1/classify"
BAD: Bad = (({"inputs": "rain", "head": "moods"}, Refused(422, "head_not_found")),)


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """Of each head of the model, texts or pairs."""
    pairs = [texts.pair() for _ in range(ITEMS)]
    labels = len(pipeline.find_head("classify", "emotions").entry.labels or ())
    main = [pipeline]
    return [
        make_kind("classify", main, texts.some, _ask("sentiment", 2, plain=True, head="sentiment")),
        make_kind("classify pairs", main, pairs, _ask("emotions", labels, head="emotions")),
        make_kind("classify three", main, texts.some, _ask("intents", 3, head="intents", top_k=3)),
    ]


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """Texts, by the one head there is."""
    return [make_kind("other classify", versions, texts.some, _ask(None, 2))]


def _ask(name: str | None, count: int, *, plain: bool = False, **sent: Any) -> Asked:
    def wrap(labels: Any) -> dict[str, Any]:
        return {"labels": Ranking(count, labels)}

    return Asked(PATH, "classify", ClassifyOptions(), wrap, name, sent=sent, plain=plain)
