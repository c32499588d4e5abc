"""Sparse vectors: each word of the vocabulary weighed by what the masked-LM head says of a text.

SPLADE (Formal et al. 2021): log(1 + relu(logit)) over all tokens of a text, of which the largest
(v2, v3) or the sum (v1) stands for the word; OpenSearch's take the logarithm twice. The head is
the fill-mask graph, run over every row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.engines import Output
from models.errors import InternalError, InvalidValue
from models.heads.head import Floats, Head, Indices, Job, TextRole, check_text, count_tokens
from models.tasks import TASKS
from models.text.truncation import Overflow, Side

# A block of rows times the vocabulary is so many numbers at most: 16 MB.
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class SparseOptions:
    """`top_k` keeps the so many largest weights, left out as many as the bundle does.

    The others are as of EmbedOptions.
    """

    top_k: int | None = None
    overflow: Overflow = "error"
    prompt: str | None = None
    truncation_side: Side | None = None
    role: TextRole | None = None


@dataclass(frozen=True, slots=True)
class SparseVector:
    """The weights above zero [n], and the token ids [n] they belong to, in rising order."""

    token_ids: Indices
    weights: Floats


class SparseHead(Head[str, SparseOptions, SparseVector]):
    """One sparse vector over the vocabulary a text."""

    task = TASKS["embed"]
    # All of them, however few are given unasked.
    golden_options = SparseOptions(top_k=(1 << 31) - 1, prompt="")

    def resolve(self, options: SparseOptions) -> SparseOptions:
        """Fill in the bundle's own prompt, and how many weights it gives unasked."""
        if options.top_k is not None and options.top_k < 1:
            raise InvalidValue(f"{options.top_k} is not at least 1", param="top_k")
        top_k = options.top_k or self.entry.default_dimensions
        prompt = self.choose_prompt(options.prompt, options.role)
        return replace(options, top_k=top_k, prompt=prompt)

    def prepare(self, item: str, options: SparseOptions) -> Job:
        """A job for a text."""
        check_text(item)
        encoded = self.encode_prompted(
            item, options.prompt, overflow=options.overflow, side=options.truncation_side
        )
        return Job(head=self, item=item, options=options, encoded=encoded)

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Weigh the vocabulary for each text; at no time are the logits of all tokens in memory."""
        weights = np.zeros((len(jobs), self.manifest.vocabulary_size), np.float32)
        summed = self.entry.aggregation == "sum"
        for logits, places in self._run(hidden, starts, count_tokens(jobs)):
            np.maximum(logits, 0.0, out=logits)
            if summed:
                self._flatten(logits)
            for place in np.unique(places).tolist():
                rows = logits[places == place]
                if summed:
                    weights[place] += rows.sum(axis=0)
                else:
                    np.maximum(weights[place], rows.max(axis=0), out=weights[place])
        if not summed:
            # Both logarithms rise with what they are taken of, so the largest stays the largest.
            self._flatten(weights)
        for job, row in zip(jobs, weights, strict=True):
            ids = np.flatnonzero(row)
            # Here, so that no more is held while the others of its request are computed.
            job.output = _keep_largest(SparseVector(ids, row[ids]), job.options.top_k)

    def _run(
        self, hidden: Output, starts: Indices, lengths: Indices
    ) -> Iterator[tuple[Floats, Indices]]:
        """Logits [rows, vocabulary] block by block, and the place of each row's text."""
        if self._session is None:
            raise InternalError("the sparse head has no graph to run")
        places = np.repeat(np.arange(len(starts)), lengths)
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
        step = max(1, _BLOCK // self.manifest.vocabulary_size)
        for first in range(0, len(rows), step):
            block = slice(first, first + step)
            logits = self._session.run({"hidden": hidden.take(rows[block])}).whole()
            yield np.array(logits), places[block]

    def _flatten(self, values: Floats) -> None:
        np.log1p(values, out=values)
        if self.entry.activation == "log1p_relu":
            np.log1p(values, out=values)

    def decode(self, job: Job) -> SparseVector:
        """The vector, with the largest weights alone where so many are wanted."""
        vector: SparseVector = job.output
        return vector

    def difference(self, answer: SparseVector, golden: Any) -> float:
        """The largest of the weights' differences, where one that is left out is 0."""
        return float(np.abs(self.spread(answer) - self.spread(_read(golden))).max(initial=0.0))

    def spread(self, vector: SparseVector) -> Floats:
        """The vector with its zeros, [vocabulary]."""
        row = np.zeros(self.manifest.vocabulary_size, np.float32)
        row[vector.token_ids] = vector.weights
        return row


def _keep_largest(vector: SparseVector, count: int | None) -> SparseVector:
    if count is None or count >= len(vector.weights):
        return vector
    # Of equal ones those that come first.
    kept = np.sort(np.argsort(-vector.weights, kind="stable")[:count])
    return SparseVector(vector.token_ids[kept], vector.weights[kept])


def _read(golden: Any) -> SparseVector:
    ids = np.array(golden["token_ids"], np.int64)
    return SparseVector(ids, np.array(golden["weights"], np.float32))
