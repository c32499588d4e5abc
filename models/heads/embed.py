"""Embeddings: the hidden rows of a text pooled into one vector.

Has weights where the checkpoint projects the pooled vector: sentence-transformers' Dense modules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.bundle.manifest import Pooling
from models.errors import InvalidValue
from models.heads.head import Floats, Head, Indices, Job
from models.tasks import TASKS
from models.text.encoder import Overflow


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """`dimensions` keeps the first so many, then `normalize` gives the vector length 1."""

    pooling: Pooling | None = None
    normalize: bool = True
    dimensions: int | None = None
    overflow: Overflow = "error"


class EmbedHead(Head[str | Sequence[int], EmbedOptions, Floats]):
    """One vector [dimensions] a text, or a list of token ids taken exactly as given."""

    task = TASKS["embed"]
    golden_options = EmbedOptions()

    @property
    def dimensions(self) -> int:
        """The size of its vectors."""
        size = self.entry.dimensions if self._session is not None else None
        return size or self.manifest.hidden_size

    def resolve(self, options: EmbedOptions) -> EmbedOptions:
        """Fill in the bundle's pooling.

        Raises InvalidValue for dimensions it does not have, and for another pooling than its
        weights were trained on.
        """
        trained = self.entry.pooling or "mean"
        if self._session is not None and options.pooling not in (None, trained):
            raise InvalidValue(
                f"the model projects its {trained}-pooled vectors, and knows no others; "
                "leave pooling out",
                param="pooling",
            )
        size = self.dimensions
        if options.dimensions is not None and not 1 <= options.dimensions <= size:
            raise InvalidValue(
                f"{options.dimensions} is outside 1 to {size}, the size of the model's vectors",
                param="dimensions",
            )
        return replace(options, pooling=options.pooling or trained)

    def prepare(self, item: str | Sequence[int], options: EmbedOptions) -> Job:
        """A job for a text or for token ids."""
        if isinstance(item, str):
            encoded = self.encoder.encode(item, overflow=options.overflow)
        else:
            encoded = self.encoder.encode_ids(item, overflow=options.overflow)
        return Job(head=self, item=item, options=options, encoded=encoded)

    def compute(self, hidden: Floats, jobs: Sequence[Job], starts: Indices) -> None:
        """Pool each text's rows: over all tokens, special ones included, as in Reimers 2019."""
        for job, start in zip(jobs, starts.tolist(), strict=True):
            rows = hidden[start : start + job.tokens]
            match job.options.pooling:
                case "cls":
                    job.output = rows[0].copy()
                case "max":
                    job.output = rows.max(axis=0)
                case _:
                    job.output = rows.mean(axis=0)
        if self._session is not None:
            pooled = np.stack([job.output for job in jobs])
            for job, vector in zip(jobs, self._session.run({"pooled": pooled}), strict=True):
                job.output = vector.copy()

    def decode(self, job: Job) -> Floats:
        """The vector, cut to its dimensions and normalised."""
        options: EmbedOptions = job.options
        vector: Floats = job.output
        if options.dimensions is not None:
            vector = vector[: options.dimensions]
        if options.normalize:
            vector = vector / max(math.sqrt(vector @ vector), 1e-12)
        return vector

    def difference(self, answer: Floats, golden: Sequence[float]) -> float:
        """The largest of the vectors' parts."""
        return float(np.abs(answer - np.array(golden, np.float32)).max())
