"""Question answering: the best part of a context."""

from collections.abc import Sequence
from typing import Any

from models.heads import AnswerOptions
from models.pipeline import Pipeline
from tests.soak.kinds import Asked, Bad, Kind, Refused, make_kind
from tests.soak.texts import ITEMS, Texts

PATH = "/v1/question-answering"
BAD: Bad = (({"inputs": {"question": "where"}}, Refused(422, "missing_field")),)


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """The model that has most tasks has no such head."""
    return []


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """Questions of a few words."""
    asked = Asked(PATH, "answer", AnswerOptions(), _wrap, pair=("question", "context"))
    pairs = [(" ".join(texts.draw().split()[:8]), texts.draw()) for _ in range(ITEMS)]
    return [make_kind("other question-answering", versions, pairs, asked)]


def _wrap(answers: Any) -> dict[str, Any]:
    return {"answers": answers}
