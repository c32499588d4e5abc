"""Embeddings: the hidden rows of a text pooled into one vector.

Has weights where the checkpoint projects the pooled vector: sentence-transformers' Dense modules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.bundle.manifest import Pooling
from models.engines import Output
from models.errors import InvalidValue
from models.heads.head import Floats, Head, Indices, Job
from models.tasks import TASKS
from models.text.truncation import Overflow


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

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Pool each text's rows: over all tokens, special ones included, as in Reimers 2019."""
        vectors = np.empty((len(jobs), hidden.shape[-1]), np.float32)
        lengths = np.array([job.tokens for job in jobs], np.int64)
        # One request may want another pooling than the next: each kind is asked for once.
        wanted: list[Pooling] = [job.options.pooling or "mean" for job in jobs]
        for pooling in dict.fromkeys(wanted):
            places = np.array([place for place, one in enumerate(wanted) if one == pooling])
            vectors[places] = _pool(hidden, pooling, starts[places], lengths[places])
        if self._session is not None:
            vectors = self._session.run({"pooled": vectors}).whole()
        for job, vector in zip(jobs, vectors, strict=True):
            # Its own: a text that waits to be decoded would hold those of its whole batch.
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


def _pool(hidden: Output, pooling: Pooling, starts: Indices, lengths: Indices) -> Floats:
    """The vector of each text, [texts, H]."""
    return hidden.take(starts) if pooling == "cls" else hidden.pool(pooling, starts, lengths)
