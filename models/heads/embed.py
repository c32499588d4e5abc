"""Embeddings: the hidden rows of a text pooled into one vector.

Has weights where the checkpoint projects the pooled vector: sentence-transformers' Dense modules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.bundle.manifest import split_poolings
from models.engines import Output
from models.errors import InvalidValue
from models.heads.head import Floats, Head, Indices, Job, count_tokens, pool
from models.tasks import TASKS
from models.text.truncation import Overflow, Side


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """What is asked of each vector.

    `dimensions` keeps the first so many, left out as many as the bundle does; then `normalize`
    gives the vector length 1. `prompt` names one of the bundle's texts that go before each text;
    left out, the one that does by default, where the bundle has one, and empty, none.
    """

    pooling: str | None = None
    normalize: bool = True
    dimensions: int | None = None
    overflow: Overflow = "error"
    prompt: str | None = None
    truncation_side: Side | None = None


class EmbedHead(Head[str | Sequence[int], EmbedOptions, Floats]):
    """One vector [dimensions] a text, or a list of token ids taken exactly as given.

    Prompts are put before texts, and before no ids.
    """

    task = TASKS["embed"]
    golden_options = EmbedOptions(prompt="")

    @property
    def dimensions(self) -> int:
        """The size of its vectors, as the model gives them."""
        return self.count(None)

    @property
    def _trained(self) -> str:
        return self.entry.pooling or "mean"

    def count(self, pooling: str | None) -> int:
        """The size of the vectors pooled like that, before any are left out."""
        if self._session is not None and self.entry.dimensions:
            return self.entry.dimensions
        return self.manifest.hidden_size * len(split_poolings(pooling or self._trained))

    def resolve(self, options: EmbedOptions) -> EmbedOptions:
        """Fill in the bundle's pooling, dimensions and prompt.

        Raises InvalidValue for dimensions it does not have, for another pooling than its weights
        were trained on, and for a prompt that the bundle has not.
        """
        pooling = options.pooling or self._trained
        if self._session is not None and pooling != self._trained:
            raise InvalidValue(
                f"the model projects its {self._trained}-pooled vectors, and knows no others; "
                "leave pooling out",
                param="pooling",
            )
        size, dimensions = self.count(pooling), options.dimensions
        if dimensions is None and pooling == self._trained:
            dimensions = self.entry.default_dimensions
        if dimensions is not None and not 1 <= dimensions <= size:
            raise InvalidValue(
                f"{dimensions} is outside 1 to {size}, the size of the model's vectors",
                param="dimensions",
            )
        prompt = self.choose_prompt(options.prompt)
        return replace(options, pooling=pooling, dimensions=dimensions, prompt=prompt)

    def prepare(self, item: str | Sequence[int], options: EmbedOptions) -> Job:
        """A job for a text or for token ids; without `include_prompt`, for the rows after it."""
        if not isinstance(item, str):
            encoded = self.encoder.encode_ids(
                item, overflow=options.overflow, side=options.truncation_side
            )
            return Job(head=self, item=item, options=options, encoded=encoded)
        encoded = self.encode_prompted(
            item, options.prompt, overflow=options.overflow, side=options.truncation_side
        )
        job = Job(head=self, item=item, options=options, encoded=encoded)
        if options.prompt and not self.entry.include_prompt:
            ahead = self.count_ahead((self.entry.prompts or {})[options.prompt])
            job.rows = np.arange(ahead, job.tokens)
        return job

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Pool each text's rows: over all tokens, special ones included, as in Reimers 2019."""
        ahead = np.array([0 if job.rows is None else job.rows[0] for job in jobs], np.int64)
        lengths = count_tokens(jobs) - ahead
        # One request may want another pooling than the next: each kind is asked for once.
        wanted: list[str] = [job.options.pooling or "mean" for job in jobs]
        for pooling in dict.fromkeys(wanted):
            places = np.array([place for place, one in enumerate(wanted) if one == pooling])
            first = ahead[places]
            vectors = pool(hidden, pooling, starts[places] + first, lengths[places], first)
            if self._session is not None:
                vectors = self._session.run({"pooled": vectors}).whole()
            for place, vector in zip(places.tolist(), vectors, strict=True):
                # Its own: a text that waits to be decoded would hold those of its whole batch.
                jobs[place].output = vector.copy()

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
