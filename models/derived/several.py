"""Several heads of one task asked at once: the trunk reads each text a single time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.engines import Output
from models.errors import InvalidValue
from models.heads.head import Head, Indices, Job
from models.tasks import TASKS


class SeveralHeads(Head[Any, tuple[Any, ...], list[tuple[str | None, Any]]]):
    """Answers a text, or a pair, with what each of its classify heads says of it, in order."""

    task = TASKS["classify"]
    golden_options = ()

    def __init__(self, heads: Sequence[Head[Any, Any, Any]]) -> None:
        first = heads[0]
        super().__init__(first.entry, first.manifest, first.encoder, None)
        self.heads = tuple(heads)

    def resolve(self, options: Any) -> tuple[Any, ...]:
        """Each head's own. Raises InvalidValue where they want different prompts before a text."""
        resolved = tuple(head.resolve(options) for head in self.heads)
        pairs = zip(self.heads, resolved, strict=True)
        if len({head.read_prompt(each.prompt) for head, each in pairs}) > 1:
            raise InvalidValue(
                "these heads want different prompts before a text; ask them one by one",
                param="head",
            )
        return resolved

    def prepare(self, item: Any, options: tuple[Any, ...]) -> Job:
        """A job for the item, which holds one of each head: they share its tokens."""
        encoded = self.heads[0].prepare(item, options[0]).encoded
        parts = [
            Job(head=head, item=item, options=each, encoded=encoded)
            for head, each in zip(self.heads, options, strict=True)
        ]
        return Job(head=self, item=parts, options=options, encoded=encoded)

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Each head over the same rows."""
        for place, head in enumerate(self.heads):
            head.compute(hidden, [job.item[place] for job in jobs], starts)

    def weigh(self, job: Job) -> int:
        """What all of them say."""
        return sum(head.weigh(part) for head, part in zip(self.heads, job.item, strict=True))

    def decode(self, job: Job) -> list[tuple[str | None, Any]]:
        """Each head's name and what it says, in their order."""
        pairs = zip(self.heads, job.item, strict=True)
        return [(head.entry.name, head.decode(part)) for head, part in pairs]

    def difference(self, answer: list[tuple[str | None, Any]], golden: Any) -> float:
        """The largest of any head's."""
        triples = zip(self.heads, answer, golden, strict=True)
        return float(np.max([head.difference(one, other) for head, (_, one), other in triples]))
