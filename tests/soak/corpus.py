"""What is asked, of every task, and the known answers.

What a task asks stands in its module in tests/soak/tasks.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from models.pipeline import Pipeline
from tests.soak.bundles import MAIN, Bundles
from tests.soak.kinds import Kind
from tests.soak.tasks import DERIVED, TASKS
from tests.soak.texts import Texts


@dataclass(frozen=True, slots=True)
class Corpus:
    """Every kind, and a text that no model takes whole."""

    kinds: Sequence[Kind]
    long_text: str


def make_corpus(bundles: Bundles, chance: random.Random) -> Corpus:
    """Draw items of all lengths, and compute their answers."""
    pipeline = Pipeline.open(bundles.path(MAIN))
    small = [Pipeline.open(bundles.version_path(version)) for version in range(2)]
    texts = Texts(pipeline.encoder, chance)
    kinds = [kind for task in (*TASKS, *DERIVED) for kind in task.make_kinds(pipeline, texts)]
    kinds += [kind for task in (*TASKS, *DERIVED) for kind in task.make_others(small, texts)]
    return Corpus(kinds, texts.too_long())
