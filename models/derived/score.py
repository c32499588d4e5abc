"""How likely a text is to a masked LM: its pseudo-log-likelihood, token by token.

Salazar et al. 2020, "Masked Language Model Scoring": each token is masked once, and what the model
then says of it added up. The copies of a text are texts among others to the trunk.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.engines import Output
from models.errors import InputTooLong, InternalError
from models.heads.head import PARTS_OF_A_VECTOR, Head, Indices, Job
from models.tasks import Rows, Task
from models.text.truncation import Overflow, Side

# Tokens of all copies of one text: 32 MB of them.
_MOST_TOKENS = 1 << 22
# A block of rows times the vocabulary is so many numbers at most: 16 MB.
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What is done with a text that is too long."""

    overflow: Overflow = "error"
    truncation_side: Side | None = None


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token as the text spells it, where it stands there, and its log-probability (natural)."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class TextScore:
    """The sum of the tokens' log-probabilities, and the perplexity: e to their negative mean."""

    score: float
    perplexity: float
    tokens: tuple[TokenScore, ...]


class ScoreHead(Head[str, ScoreOptions, TextScore]):
    """Scores a text by the fill-mask graph, from as many copies as it has tokens."""

    task = Task("score", rows=Rows.MASK, weights=False)
    golden_options = ScoreOptions()
    rereads = True

    def count_readings(self, options: ScoreOptions) -> int:
        """Once, and as many copies of it as a text has tokens, which cost about as much."""
        return 25

    def prepare(self, item: str, options: ScoreOptions) -> Job:
        """A job for the copy without the first token, which holds those of the others.

        Raises InputTooLong where the copies together were too many tokens.
        """
        encoded = self.encoder.encode(
            item, overflow=options.overflow, side=options.truncation_side, origins=True
        )
        assert encoded.origins is not None
        places = encoded.origins.places(0)
        if len(places) * len(encoded.ids) > _MOST_TOKENS:
            raise InputTooLong(
                f"the text has {len(encoded.ids)} tokens, and scoring it takes a copy for each: "
                f"at most {_MOST_TOKENS} tokens together; send it in parts"
            )
        mask = self.manifest.special_tokens["mask"].id
        first, *others = (
            Job(head=self, item=item, options=options, encoded=_mask(encoded, place, mask))
            for place in places.tolist()
        )
        for job, place in zip((first, *others), places.tolist(), strict=True):
            job.rows = np.array([place])
            job.item = int(encoded.ids[place])
        first.item = (item, encoded)
        first.more = tuple(others)
        return first

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """The log-probability of each job's token; never all logits at once."""
        if self._session is None:
            raise InternalError("the score head has no graph to run")
        rows = np.array([int(job.rows[0]) for job in jobs if job.rows is not None]) + starts
        wanted = np.array([_find_token(job) for job in jobs])
        step = max(1, _BLOCK // self.manifest.vocabulary_size)
        for begin in range(0, len(jobs), step):
            block = slice(begin, begin + step)
            logits = self._session.run({"hidden": hidden.take(rows[block])}).whole()
            shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
            total = np.log(np.exp(shifted).sum(axis=1))
            found = shifted[np.arange(len(shifted)), wanted[block]] - total
            for job, score in zip(jobs[block], found.tolist(), strict=True):
                job.output = score

    def weigh(self, job: Job) -> int:
        """By the tokens."""
        return 1 + len(job.more) // PARTS_OF_A_VECTOR

    def decode(self, job: Job) -> TextScore:
        """The scores of the tokens, and their sum."""
        text, encoded = job.item
        offsets = encoded.origins.offsets[encoded.origins.places(0)]
        scores = [float(each.output) for each in (job, *job.more)]
        tokens = tuple(
            TokenScore(text[start:end], start, end, score)
            for (start, end), score in zip(offsets.tolist(), scores, strict=True)
        )
        total = math.fsum(scores)
        return TextScore(total, math.exp(-total / len(scores)), tokens)

    def difference(self, answer: TextScore, golden: Any) -> float:
        """The difference of the scores."""
        return abs(answer.score - float(golden))


def _mask(encoded: Any, place: int, mask: int) -> Any:
    ids = encoded.ids.copy()
    ids[place] = mask
    return replace(encoded, ids=ids, origins=None)


def _find_token(job: Job) -> int:
    """The token that was masked."""
    if isinstance(job.item, tuple):
        _, encoded = job.item
        assert job.rows is not None
        return int(encoded.ids[job.rows[0]])
    return int(job.item)
