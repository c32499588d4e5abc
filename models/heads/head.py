"""What every head does: check an item, compute on the rows of its texts, say the answer.

A head is asked three times for each item: `prepare` before the trunk runs, `compute` once for all
its items of a batch, `decode` after. Only `compute` is called by the thread that runs the trunk.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from models.bundle.manifest import HeadEntry, Manifest, Pooling, split_poolings
from models.engines import Output, Session
from models.errors import EmptyInput, InputTooLong, InternalError, InvalidValue
from models.tasks import Rows, Task
from models.text.encoded import Encoded
from models.text.encoder import Encoder
from models.text.truncation import Overflow, Side

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

# So many labels, spans or candidates are about as much to decode and to write as a vector.
PARTS_OF_A_VECTOR = 16

# What a text is in a search.
TextRole = Literal["query", "document"]
# The prompt of a role is the first of these that a bundle has, as sentence-transformers tells it.
_ROLE_PROMPTS: Mapping[str, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}

ItemT = TypeVar("ItemT")
OptionsT = TypeVar("OptionsT")
AnswerT = TypeVar("AnswerT")


@dataclass(slots=True, eq=False)
class Job:
    """One item on its way: what was asked, its tokens, the rows its head reads, what came out.

    `rows` counts from the first token of the text; without it the head reads all of them. An item
    that is read in several windows goes as several jobs, each a sequence of its own for the trunk:
    `more` of the first holds the others, and the first is decoded for all of them.
    """

    head: "Head[Any, Any, Any]"
    item: Any
    options: Any
    encoded: Encoded
    rows: Indices | None = None
    output: Any = None
    more: "tuple[Job, ...]" = ()

    # Length of its sequence in tokens, special tokens included.
    tokens: ClassVar[int]


# Asked often, so not in Python. Inside of the class, slots want it to be a function from 3.14 on.
Job.tokens = property(attrgetter("encoded.ids.size"))  # type: ignore[assignment]


def spread(jobs: Iterable[Job]) -> list[Job]:
    """The jobs as the trunk takes them: each item's windows, one after another."""
    return [window for job in jobs for window in (job, *job.more)]


def check_text(item: Any) -> None:
    """Raise InvalidValue for token ids, of a head that reads texts alone."""
    if not isinstance(item, str):
        raise InvalidValue("token ids are taken for one dense vector alone; send the text itself")


def count_tokens(jobs: Sequence[Job]) -> Indices:
    """The length of each job's sequence, [jobs]."""
    return np.array([job.tokens for job in jobs], np.int64)


def count_left_out(jobs: Sequence[Job]) -> Indices:
    """How many rows stand before those that are pooled of each job, [jobs]."""
    return np.array([0 if job.rows is None else job.rows[0] for job in jobs], np.int64)


class Head(ABC, Generic[ItemT, OptionsT, AnswerT]):
    """One head of a bundle. Thread-safe: it keeps nothing of the items it answers."""

    task: ClassVar[Task]
    # Whether its answers have texts in them, so that a short request may ask for a long one.
    writes_texts: ClassVar[bool] = False
    # Whether the answer to one text has many vectors, which `count_numbers` counts.
    gives_many: ClassVar[bool] = False
    # Whether resolving its options may be so much work that an event loop should not wait: then
    # `is_large` tells of which that is so.
    slow_options: ClassVar[bool] = False
    # Whether an item is read several times, so that short ones are long to prepare; then
    # `count_readings` tells how many times.
    rereads: ClassVar[bool] = False
    # What golden answers are asked with.
    golden_options: ClassVar[Any]

    def __init__(
        self, entry: HeadEntry, manifest: Manifest, encoder: Encoder, session: Session | None
    ) -> None:
        self.entry = entry
        self.manifest = manifest
        self.encoder = encoder
        self._session = session
        self._ahead: dict[str, int] = {}  # of the bundle's prompts

    def derive(self, kind: "type[Head[Any, Any, Any]]") -> "Head[Any, Any, Any]":
        """A head of another kind that runs the same graph."""
        return kind(self.entry, self.manifest, self.encoder, self._session)

    def resolve(self, options: OptionsT) -> OptionsT:
        """The options with the head's own defaults filled in, checked once for a request."""
        return options

    @abstractmethod
    def prepare(self, item: ItemT, options: OptionsT) -> Job:
        """The item as a job for the trunk. Raises a CallerError for what cannot be answered."""

    @abstractmethod
    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Set the output of each job from `hidden` [T, H], where its text begins at its start.

        It asks `hidden` for the rows it reads, once for all the jobs, and keeps nothing of it.
        """

    @abstractmethod
    def decode(self, job: Job) -> AnswerT:
        """The answer in the caller's terms, from the output of the job and of its `more`."""

    @abstractmethod
    def difference(self, answer: AnswerT, golden: Any) -> float:
        """The largest difference of an answer's numbers from those of a golden one.

        That of a part that is not there is 1.
        """

    def read_item(self, item: Any) -> ItemT:
        """An item as golden.json has it: a pair is a list there."""
        read: Any = tuple(item) if isinstance(item, list) else item
        return cast("ItemT", read)

    def is_large(self, options: OptionsT) -> bool:
        """Whether an event loop should not wait for these to be resolved."""
        return False

    def count_readings(self, options: OptionsT) -> int:
        """How many times an item is read, of a head that `rereads`."""
        return 1

    def probe(self, hidden: Output) -> None:
        """Run its graph over rows of any content. Raises whatever is wrong with it."""
        if self._session is not None:
            self._session.run({"hidden": hidden.whole()})

    def count_characters(self, job: Job) -> int:
        """About how long the answer will be, of a head that `writes_texts`."""
        return 0

    def count_numbers(self, job: Job) -> int:
        """How many numbers the answer will have, of a head that `gives_many`."""
        return 0

    def weigh(self, job: Job) -> int:
        """About how much its answer is to decode and to write, where a vector is 1."""
        return 1 + len(job.more)

    def logits(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> list[Floats]:
        """What the head's graph gives for each job, [rows, classes], from one run of it."""
        if self._session is None:
            raise InternalError(f"the {self.task.name} head has no graph to run")
        if self.task.rows is Rows.FIRST:
            counts = [1] * len(jobs)
            ahead, lengths = count_left_out(jobs), count_tokens(jobs)
            pooling = self.entry.pooling or "cls"
            gathered = pool(hidden, pooling, starts + ahead, lengths - ahead, ahead)
        else:
            rows = [np.arange(job.tokens) if job.rows is None else job.rows for job in jobs]
            counts = [len(row) for row in rows]
            gathered = hidden.take(
                np.concatenate([row + start for row, start in zip(rows, starts, strict=True)])
            )
        if not len(gathered):
            return [np.zeros((0, 0), np.float32) for _ in jobs]
        scores = self._session.run({"hidden": gathered}).whole()
        return np.split(scores, np.cumsum(counts)[:-1])

    def choose_prompt(self, name: str | None, role: TextRole | None = None) -> str:
        """The name of the prompt that is meant, empty for none; left out, that of the role.

        Without a role it is the default one, which goes before no text whose role has none: it may
        be another role's. Raises InvalidValue where the bundle has none of that name, and for a
        role that is none.
        """
        if role is not None and role not in _ROLE_PROMPTS:
            raise InvalidValue(f"{role!r} is neither query nor document", param="role")
        if name is None and role is not None:
            prompts = self.entry.prompts or {}
            name = next((each for each in _ROLE_PROMPTS[role] if each in prompts), "")
        if name is None:
            return self.entry.default_prompt or ""
        if name and name not in (self.entry.prompts or {}):
            known = ", ".join(map(repr, self.entry.prompts or {}))
            raise InvalidValue(
                f"the model has no prompt {name!r}; "
                + (f"it has {known}" if known else "it has none: leave it out"),
                param="prompt_name",
            )
        return name

    def read_prompt(self, name: str | None) -> str:
        """The text of a prompt that was chosen, empty for none."""
        return (self.entry.prompts or {})[name] if name else ""

    def encode_prompted(
        self,
        text: str,
        name: str | None,
        pair: str | None = None,
        *,
        overflow: Overflow,
        side: Side | None = None,
        limit: int | None = None,
    ) -> Encoded:
        """A text, or a pair, behind the prompt of that name, which makes no text of what is none.

        Of at most `limit` tokens, where that is less than the model takes.

        Raises the errors of Encoder.encode; InputTooLong where the prompt leaves nothing of it,
        which it cannot where it is the prompt that is cut: from the left.
        """
        prompt = self.read_prompt(name)
        encoder = self.encoder.limit(limit)
        # Of a pair more than the prompt is there whatever the text is.
        traced = bool(prompt) and pair is not None
        encoded = encoder.encode(prompt + text, pair, overflow=overflow, side=side, origins=traced)
        if not prompt:
            return encoded
        if self._is_alone(prompt, encoded):
            # Raises where there is nothing of it to begin with.
            self.encoder.encode(text, overflow="truncate")
            if encoded.truncated and (side or encoder.truncation_side) == "right":
                raise InputTooLong(
                    f"the prompt {name!r} fills all of the {len(encoded.ids)} tokens that the "
                    "model takes; ask for another one"
                )
        return replace(encoded.without_prompt(len(prompt)), origins=None)

    def _is_alone(self, prompt: str, encoded: Encoded) -> bool:
        """Whether a prompt has left nothing of its text, or, where that is not traced, may have."""
        origins = encoded.origins
        if origins is None:
            return len(encoded.ids) <= self.count_ahead(prompt) + 1
        return not (origins.offsets[origins.places(0), 1] > len(prompt)).any()

    def count_ahead(self, prompt: str) -> int:
        """How many tokens a prompt has by itself, with the special ones before it.

        So sentence-transformers counts those that are not pooled, also where the last of them is
        one with the word behind it (a blank of byte-level BPE).
        """
        found = self._ahead.get(prompt)
        if found is None:
            encoding = self.encoder.tokenize(prompt, special=True)
            behind = bool(encoding.ids) and encoding.sequence_ids[-1] is None
            found = min(len(encoding), self.encoder.max_tokens) - int(behind)
            self._ahead[prompt] = found
        return found

    def list_pooled(self, prompt: str, encoded: Encoded) -> Indices | None:
        """The rows of a text that are pooled behind a prompt; None: all of them.

        Raises EmptyInput where there are none.
        """
        if not prompt or self.entry.include_prompt:
            return None
        rows = np.arange(self.count_ahead(prompt), len(encoded.ids))
        if not len(rows):
            raise EmptyInput(
                "the text has no tokens behind its prompt; send at least one word more"
            )
        return rows


def pool(
    hidden: Output, pooling: str, starts: Indices, lengths: Indices, ahead: Indices | None = None
) -> Floats:
    """A vector for each text, [texts, H]; of several poolings, as in `cls+mean`, side by side.

    A text's rows are `starts[i] : starts[i] + lengths[i]`, and `ahead[i]` of its rows stand before
    them, which are not pooled. As sentence-transformers' Pooling (6.2) does it for a text alone.
    """
    if pooling == "mean":
        return hidden.pool("mean", starts, lengths)
    parts = [_pool(hidden, part, starts, lengths, ahead) for part in split_poolings(pooling)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _pool(
    hidden: Output, pooling: Pooling, starts: Indices, lengths: Indices, ahead: Indices | None
) -> Floats:
    match pooling:
        case "cls":
            return hidden.take(starts)
        case "lasttoken":
            return hidden.take(starts + lengths - 1)
        case "mean_sqrt_len_tokens":
            # Their sum, over the square root of how many they are.
            pooled = hidden.pool("mean", starts, lengths)
            pooled *= np.sqrt(lengths, dtype=np.float32)[:, None]
            return pooled
        case _:
            return hidden.pool(pooling, starts, lengths, ahead)


def softmax(logits: Floats) -> Floats:
    """Probabilities along the last axis, computed in float64 against rounding."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    result: Floats = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, without overflow for large negative values."""
    result: Floats = (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)
    return result
