"""What a soak asks of each task: a module a task, with its route, kinds and bad requests."""

from collections.abc import Sequence
from typing import Protocol

from models.pipeline import Pipeline
from tests.soak.kinds import Bad, Kind
from tests.soak.tasks import (
    attention,
    classify,
    embed,
    fill_mask,
    next_sentence,
    question_answering,
    score,
    token_classify,
)
from tests.soak.texts import Texts


class SoakedTask(Protocol):
    """What the module of a task has. `BAD` are bodies that its route alone refuses."""

    PATH: str
    BAD: Bad

    def make_kinds(self, pipeline: Pipeline, texts: Texts) -> list[Kind]:
        """The ways to ask the model that has all tasks."""

    def make_others(self, versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
        """The ways to ask the small one, whose versions answer differently."""


TASKS: tuple[SoakedTask, ...] = (
    embed,
    fill_mask,
    next_sentence,
    classify,
    token_classify,
    question_answering,
)
# What has no head of its own.
DERIVED: tuple[SoakedTask, ...] = (score, attention)
