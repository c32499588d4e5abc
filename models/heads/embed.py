"""Embeddings: the hidden rows of a text pooled into one vector.

Has weights where the checkpoint projects the pooled vector: sentence-transformers' Dense modules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from models.bundle.manifest import split_poolings
from models.engines import Output
from models.errors import InvalidValue
from models.heads.head import (
    Floats,
    Head,
    Indices,
    Job,
    TextRole,
    pool,
)
from models.tasks import TASKS
from models.text.truncation import Overflow, Side

# What is told of a text that is read in windows: its own vector alone, or that of each window too.
Windows = Literal["each", "mean"]


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """What is asked of each vector.

    `dimensions` keeps the first so many, left out as many as the bundle does; then `normalize`
    gives the vector length 1. `prompt` names one of the bundle's texts that go before each text;
    left out, that of the text's `role`, or without a role the one that does by default, where the
    bundle has these, and empty, none.

    With `windows` a text of any length is read whole, in windows that overlap by `window_overlap`
    tokens, the prompt before each. Its vector is the mean of theirs, by the tokens that were pooled
    for each.

    Token ids have to begin and end with the tokenizer's `special_tokens`, or are put between them
    where that is false; None takes ids that have none as given.
    """

    pooling: str | None = None
    normalize: bool = True
    dimensions: int | None = None
    overflow: Overflow = "error"
    prompt: str | None = None
    truncation_side: Side | None = None
    windows: Windows | None = None
    window_overlap: int = 0
    special_tokens: bool | None = True
    role: TextRole | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a text, from `start` to `end` in its characters as it was sent, and its vector."""

    start: int
    end: int
    vector: Floats


@dataclass(frozen=True, slots=True)
class WindowedText:
    """The vector of a text, and its windows in order."""

    vector: Floats
    windows: tuple[Window, ...]


class EmbedHead(Head[str | Sequence[int], EmbedOptions, Floats | WindowedText]):
    """One vector [dimensions] a text, or a list of token ids taken exactly as given.

    Prompts are put before texts, and before no ids.
    """

    task = TASKS["embed"]
    golden_options = EmbedOptions(prompt="")

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._trained = self.entry.pooling or "mean"
        self.dimensions = self.count(self._trained)  # of its vectors, as the model gives them

    def count(self, pooling: str) -> int:
        """The size of the vectors pooled like that, before any are left out."""
        if self._session is not None and self.entry.dimensions:
            return self.entry.dimensions
        return self.manifest.hidden_size * len(split_poolings(pooling))

    def resolve(self, options: EmbedOptions) -> EmbedOptions:
        """Fill in the bundle's pooling, dimensions and prompt.

        Raises InvalidValue for dimensions it does not have, for another pooling than its weights
        were trained on, for a prompt that the bundle has not, and for windows that overlap by more
        than half.
        """
        pooling = options.pooling or self._trained
        if self._session is not None and pooling != self._trained:
            raise InvalidValue(
                f"the model projects its {self._trained}-pooled vectors, and knows no others; "
                "leave pooling out",
                param="pooling",
            )
        size, dimensions = self.dimensions, options.dimensions
        if pooling != self._trained:
            size = self.count(pooling)
        elif dimensions is None:
            dimensions = self.entry.default_dimensions
        if dimensions is not None and not 1 <= dimensions <= size:
            raise InvalidValue(
                f"{dimensions} is outside 1 to {size}, the size of the model's vectors",
                param="dimensions",
            )
        if options.window_overlap:
            self._check_overlap(options)
        # Most bundles have none, and nobody asks for one.
        prompt = ""
        if options.prompt or options.role or self.entry.prompts:
            prompt = self.choose_prompt(options.prompt, options.role)
        return replace(options, pooling=pooling, dimensions=dimensions, prompt=prompt)

    def _check_overlap(self, options: EmbedOptions) -> None:
        if options.windows is None:
            raise InvalidValue(
                "only windows overlap; ask for windows, too, or leave it out",
                param="window_overlap",
            )
        # More would be computed over and over: a short request could ask for any amount of it.
        most = self.encoder.room // 2
        if not 0 <= options.window_overlap <= most:
            raise InvalidValue(
                f"{options.window_overlap} is outside 0 to {most}, half of the tokens of a window",
                param="window_overlap",
            )

    def prepare(self, item: str | Sequence[int], options: EmbedOptions) -> Job:
        """A job for a text or for token ids; without `include_prompt`, for the rows after it.

        With `windows`, for the first of them; the item of each is where it begins and ends.
        """
        if options.windows is not None:
            return self._prepare_windows(item, options)
        if not isinstance(item, str):
            encoded = self.encoder.encode_ids(
                item,
                overflow=options.overflow,
                side=options.truncation_side,
                special=options.special_tokens,
            )
            return Job(head=self, item=item, options=options, encoded=encoded)
        if not options.prompt:
            encoded = self.encoder.encode(
                item, overflow=options.overflow, side=options.truncation_side
            )
            return Job(head=self, item=item, options=options, encoded=encoded)
        encoded = self.encode_prompted(
            item, options.prompt, overflow=options.overflow, side=options.truncation_side
        )
        rows = self.list_pooled(self.read_prompt(options.prompt), encoded)
        return Job(head=self, item=item, options=options, encoded=encoded, rows=rows)

    def _prepare_windows(self, item: str | Sequence[int], options: EmbedOptions) -> Job:
        if not isinstance(item, str):
            raise InvalidValue(
                "token ids are computed exactly as given; send a text to have it read in windows"
            )
        prompt = self.read_prompt(options.prompt)
        windows = self.encoder.split(
            item, overlap_tokens=options.window_overlap, overflow=options.overflow, prompt=prompt
        )
        jobs = []
        for window in windows:
            assert window.origins is not None
            places = window.origins.places(0)
            offsets = window.origins.offsets[places[[0, -1]]]
            place = (int(offsets[0, 0]), int(offsets[1, 1]))
            # Where each token comes from takes more memory than the tokens, and is told no more.
            encoded = replace(window, origins=None)
            rows = self.list_pooled(prompt, encoded)
            jobs.append(Job(head=self, item=place, options=options, encoded=encoded, rows=rows))
        jobs[0].more = tuple(jobs[1:])
        return jobs[0]

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Pool each text's rows: over all tokens, special ones included, as in Reimers 2019."""
        ahead = np.array([0 if job.rows is None else job.rows[0] for job in jobs], np.int64)
        lengths = np.array([job.tokens for job in jobs], np.int64) - ahead
        # One request may want another pooling than the next: each kind is asked for once.
        wanted: list[str] = [job.options.pooling or "mean" for job in jobs]
        for pooling in dict.fromkeys(wanted):
            places = np.array([place for place, one in enumerate(wanted) if one == pooling])
            first, counts = starts[places] + ahead[places], lengths[places]
            if pooling == "mean":
                vectors = hidden.pool("mean", first, counts)
            else:
                vectors = pool(hidden, pooling, first, counts, ahead[places])
            if self._session is not None:
                vectors = self._session.run({"pooled": vectors}).whole()
            for place, vector in zip(places.tolist(), vectors, strict=True):
                # Its own: a text that waits to be decoded would hold those of its whole batch.
                jobs[place].output = vector.copy()

    def decode(self, job: Job) -> Floats | WindowedText:
        """The vector, cut to its dimensions and normalised; those of `each` window, if asked."""
        options: EmbedOptions = job.options
        if options.windows is not None:
            return _decode_windows(job)
        vector: Floats = job.output
        if options.dimensions is not None:
            vector = vector[: options.dimensions]
        if options.normalize:
            vector = vector / max(math.sqrt(vector @ vector), 1e-12)
        return vector

    def difference(self, answer: Floats | WindowedText, golden: Sequence[float]) -> float:
        """The largest of the vectors' parts."""
        assert not isinstance(answer, WindowedText)
        return float(np.abs(answer - np.array(golden, np.float32)).max())


def _decode_windows(job: Job) -> Floats | WindowedText:
    options: EmbedOptions = job.options
    every = (job, *job.more)
    pooled = [each.tokens if each.rows is None else len(each.rows) for each in every]
    outputs = np.stack([each.output for each in every])
    mean = np.average(outputs, axis=0, weights=pooled)
    vectors = np.vstack([mean.astype(np.float32), outputs])[:, : options.dimensions]
    if options.normalize:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if options.windows == "mean":
        vector: Floats = vectors[0].copy()
        return vector
    windows = []
    for each, part in zip(every, vectors[1:], strict=True):
        start, end = each.item
        windows.append(Window(start, end, part))
    return WindowedText(vectors[0], tuple(windows))
