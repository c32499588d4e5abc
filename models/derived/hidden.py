"""The hidden state of every token of a text, as the trunk gives it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.engines import Output
from models.heads.embed import EmbedHead
from models.heads.head import Floats, Indices, Job, count_tokens
from models.tasks import Rows, Task


class HiddenHead(EmbedHead):
    """Answers a text with the rows of its tokens [tokens, H], special ones too."""

    task = Task("hidden", rows=Rows.ALL, weights=False)
    gives_many = True

    def count_numbers(self, job: Job) -> int:
        """A row a token."""
        return job.tokens * self.manifest.hidden_size

    def weigh(self, job: Job) -> int:
        """A vector a token."""
        return job.tokens

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """The rows of each text."""
        for job, start, count in zip(jobs, starts, count_tokens(jobs), strict=True):
            job.output = np.array(hidden.take(np.arange(start, start + count)))

    def decode(self, job: Job) -> Any:
        """The rows."""
        rows: Floats = job.output
        return rows
