"""A vector for each token, for late interaction: ColBERT (Khattab and Zaharia 2020).

A document's answer leaves out the tokens that the bundle skips, punctuation most often; a query is
filled with a token of its own, most often [MASK], up to a length, and all of it is answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.bundle.manifest import LateInteraction
from models.engines import Output
from models.heads.head import Floats, Head, Indices, Job, TextRole, check_text
from models.tasks import TASKS
from models.text.encoded import Encoded
from models.text.truncation import Overflow, Side


@dataclass(frozen=True, slots=True)
class TokensOptions:
    """`role` is what the text is; without one it is taken as it stands, and nothing left out.

    `prompt` is as of EmbedOptions; the bundle's own goes before texts without a role alone.
    """

    role: TextRole | None = "document"
    overflow: Overflow = "error"
    prompt: str | None = None
    truncation_side: Side | None = None


class TokensHead(Head[str, TokensOptions, Floats]):
    """Vectors [tokens, dimensions] of length 1 for a text."""

    task = TASKS["embed"]
    gives_many = True
    golden_options = TokensOptions(role=None, prompt="")

    @property
    def late(self) -> LateInteraction:
        """How the bundle asks its queries and documents."""
        return self.entry.late or LateInteraction()

    def resolve(self, options: TokensOptions) -> TokensOptions:
        """Fill in the prompt of the role."""
        return replace(options, prompt=self.choose_prompt(options.prompt, options.role))

    def prepare(self, item: str, options: TokensOptions) -> Job:
        """A job for a text in its role."""
        check_text(item)
        late, query = self.late, options.role == "query"
        limit = None
        if options.role is not None:
            limit = late.query_tokens if query else late.document_tokens
        encoded = self.encode_prompted(
            item,
            options.prompt,
            overflow=options.overflow,
            side=options.truncation_side,
            limit=limit,
        )
        if query and late.expansion_token is not None:
            encoded = self._expand(encoded)
        job = Job(head=self, item=item, options=options, encoded=encoded)
        if options.role in late.skipped_for:
            kept = np.isin(encoded.ids, late.skipped, invert=True)
            # The tokens that a query was filled with are always answered.
            kept[len(kept) - encoded.aside :] = True
            job.rows = np.flatnonzero(kept)
        return job

    def _expand(self, encoded: Encoded) -> Encoded:
        """The query filled up to its length."""
        late = self.late
        missing = max(late.expanded_tokens - len(encoded.ids), 0)
        filling = np.full(missing, late.expansion_token, np.int64)
        return replace(
            encoded,
            ids=np.concatenate([encoded.ids, filling]),
            type_ids=np.concatenate([encoded.type_ids, np.zeros_like(filling)]),
            aside=0 if late.attend else missing,
        )

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Project the rows of each text's tokens."""
        for job, vectors in zip(jobs, self.logits(hidden, jobs, starts), strict=True):
            job.output = vectors

    def count_numbers(self, job: Job) -> int:
        """Those of the vectors of its tokens."""
        rows = job.tokens if job.rows is None else len(job.rows)
        return rows * (self.entry.dimensions or self.manifest.hidden_size)

    def decode(self, job: Job) -> Floats:
        """The vectors of the tokens that count."""
        vectors: Floats = job.output
        return vectors.copy()

    def difference(self, answer: Floats, golden: Any) -> float:
        """The largest of the vectors' parts; 1 where they are not as many."""
        wanted = np.array(golden, np.float32)
        if wanted.shape != answer.shape:
            return 1.0
        return float(np.abs(answer - wanted).max(initial=0.0))
