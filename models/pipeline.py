"""A bundle in one process: texts in, answers out, through one trunk and one head a task.

Owns the order of the steps (prepare, pack, trunk, heads, decode), which the service follows too,
with a queue between the first and the second. Knows nothing of requests.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from models.asking import HeadName
from models.bundle.bundle import TOKENIZER, Bundle
from models.bundle.manifest import Manifest
from models.checks import check_head, check_trunk, make_last_token
from models.choice import AUTO, MAX_BATCH_TOKENS, Choice, choose_engine
from models.derived.asking import Deriving
from models.derived.attention import (
    MAX_ATTENTION_TOKENS,
    AttentionMap,
    AttentionOptions,
    Included,
    Lens,
)
from models.derived.several import SeveralHeads
from models.derived.table import derive_heads, explain_task, list_tasks
from models.derived.tokens import TextToken, join_tokens, split_text
from models.derived.words import DEFAULT_TOP_K, Neighbour, WordVectors
from models.engines import HostOutput, Output, Role, Session, Spin, open_session
from models.engines.limit import ends_within
from models.errors import (
    BundleDamaged,
    CallerError,
    HeadNotFound,
    InputTooLong,
    InternalError,
    InvalidValue,
    RunStopped,
    TaskUnsupported,
)
from models.heads import (
    HEADS,
    REPRESENTATIONS,
    EmbedHead,
    Head,
    Job,
    spread,
)
from models.machine.allocator import return_freed_memory
from models.text.encoded import Encoded
from models.text.encoder import Encoder
from models.text.packing import Extent, Stream, group_by_length, lay_out, pack
from models.text.truncation import Overflow, Side

# Fill-mask answers with the text once for each candidate: a few kilobytes could ask for gigabytes.
MAX_ANSWER_CHARACTERS = 1 << 25
_TOO_MANY_WINDOWS = "the texts take more windows than one request may have; send several requests"
_TOO_MANY_NUMBERS = "the vectors of all tokens are more than one answer has; send several requests"
# The tokens of so many leave holes in the heap behind that are given back at once.
_LARGE_CHARACTERS = 1 << 20


class Pipeline(Deriving):
    """A bundle ready to answer: one session for the trunk, one for each graph that heads have.

    Thread-safe; callers that run it from several threads share the trunk's own threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        threads: int = 0,
        spin: Spin = "auto",
        engine: str | Choice = AUTO,
        load_timeout_s: float | None = None,
        default_prompt: str | None = None,
    ) -> None:
        """`engine` by its name, or as it was chosen for this bundle and precision.

        What the graphs are tried with may take `load_timeout_s`; None: for ever. `default_prompt`
        goes before texts unasked in place of the bundle's own, where a head has one of that name.
        """
        self._default_prompt = default_prompt
        manifest = bundle.manifest
        self.bundle = bundle
        self.precision = bundle.choose_precision(precision)
        self.encoder = Encoder(
            bundle.file(TOKENIZER),
            max_tokens=manifest.max_tokens,
            vocabulary_size=manifest.vocabulary_size,
            segments=manifest.segments,
            truncation_side=manifest.truncation_side,
        )

        if isinstance(engine, str):
            engine = choose_engine(bundle, self.precision, engine)
        self.choice = engine

        def load(name: str, role: Role) -> Session:
            return open_session(
                bundle.file(name),
                role,
                engine=engine.engine,
                threads=threads,
                spin=spin,
                precision=self.precision,
            )

        self.trunk = load(self.choice.trunk, "trunk")
        self._sessions: dict[str, Session] = {}  # of the heads, by file
        with ends_within(load_timeout_s, self.stop, bundle.path):
            check_trunk(bundle, self.choice, self.encoder, self.trunk)
            self.heads = tuple(self._open_heads(load))
        # What is made of these, and runs their graphs.
        self.derived = tuple(derive_heads(self.heads))
        # Neither opens anything before it is asked.
        self.lens = Lens(bundle, self.encoder)
        self.word_vectors = WordVectors(bundle, self.encoder)
        self._reopening: object = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        precision: str | None = None,
        threads: int = 0,
        engine: str = AUTO,
    ) -> Self:
        """The bundle at `path`, checked and loaded. `threads` for the trunk; 0: one a core.

        Raises a BundleError that names the file and the remedy; SettingsError for an engine that
        there is not.
        """
        return cls(Bundle.open(path), precision=precision, threads=threads, engine=engine)

    @property
    def derived_tasks(self) -> list[str]:
        """What it answers beside its heads' tasks, made of theirs or of no weights: similarity."""
        return list_tasks(self.derived, sees=self.lens.sees)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""
        return self.bundle.manifest

    def find_head(self, task: str, name: HeadName = None) -> Head[Any, Any, Any]:
        """The head of that name, or the task's first; of several names one that asks them all.

        Raises TaskUnsupported, HeadNotFound.
        """
        if isinstance(name, tuple):
            return self._find_several(task, name)
        heads = [head for head in (*self.heads, *self.derived) if head.task.name == task]
        if not heads:
            raise TaskUnsupported(
                f"model {self.manifest.name!r} has no head for {task}{explain_task(task)}; "
                f"it answers {', '.join(self.manifest.tasks)}",
                param="model",
            )
        plain = [head for head in heads if head.entry.representation is None]
        if name is None and plain:
            return plain[0]
        for head in heads:
            if head.entry.name == name:
                return head
        names = [head.entry.name for head in heads if head.entry.name]
        if name is None or (task == "embed" and name in REPRESENTATIONS):
            wanted = "vectors of tokens" if name == "tokens" else f"{name or 'dense'} vectors"
            given = ["dense ones", *names] if plain else names
            raise TaskUnsupported(
                f"model {self.manifest.name!r} gives no {wanted}; it gives {', '.join(given)}",
                param="model",
            )
        if name in REPRESENTATIONS and task == EmbedHead.task.name:
            raise TaskUnsupported(
                f"model {self.manifest.name!r} gives no {name} vectors; "
                f"it gives {', '.join(['dense'] * bool(plain) + names)}",
                param="model",
            )
        raise HeadNotFound(
            f"model {self.manifest.name!r} has no {task} head named {name!r}; "
            + (f"choose from {', '.join(names)}, or leave it out" if names else "leave it out"),
            param="head",
        )

    def _find_several(self, task: str, names: tuple[str, ...]) -> Head[Any, Any, Any]:
        first = self.find_head(task, None if names == ("*",) else names[0])
        if names == ("*",):
            return SeveralHeads([head for head in self.heads if head.task is first.task])
        return SeveralHeads([first, *(self.find_head(task, name) for name in names[1:])])

    def answer(self, head: Head[Any, Any, Any], items: Sequence[Any], options: Any) -> list[Any]:
        """The answers of a head, in the order of the items, batch by batch.

        Raises InvalidValue for a single text in place of them.
        """
        if isinstance(items, str):
            raise InvalidValue(
                "one text is no list of texts: it would be read letter by letter; give [text]"
            )
        jobs = prepare(head, items, head.resolve(options))
        for batch in form_batches(spread(jobs), self.choice.batch_tokens):
            self.compute(batch)
        return [head.decode(job) for job in jobs]

    def attention(
        self,
        texts: Sequence[str | tuple[str, str]],
        *,
        layer: int = 0,
        head: int | None = None,
        include: Sequence[Included] = (),
        overflow: Overflow = "error",
        truncation_side: Side | None = None,
        max_tokens: int = MAX_ATTENTION_TOKENS,
    ) -> list[AttentionMap]:
        """For each text or pair how its tokens look at each other in a layer, or in a head of it.

        Each text is computed alone, of the fp32 trunk, by a session beside the one that serves.
        """
        options = self.lens.resolve(
            AttentionOptions(layer, head, tuple(include), overflow, truncation_side, max_tokens)
        )
        encoded = self.lens.encode(texts, options)
        pairs = zip(texts, encoded, strict=True)
        return [self.lens.look(text, tokens, options) for text, tokens in pairs]

    def tokenize(self, texts: Sequence[str], *, special: bool = True) -> list[list[TextToken]]:
        """All the tokens of each text, with those that the model puts around it if `special`."""
        return [split_text(self.encoder, text, special=special) for text in texts]

    def detokenize(self, ids: Sequence[Sequence[int]], *, special: bool = False) -> list[str]:
        """The text that each list of ids spells, special tokens too if `special`."""
        return [join_tokens(self.encoder, each, skip_special=not special) for each in ids]

    def words(
        self, positive: Sequence[str], negative: Sequence[str] = (), *, top_k: int = DEFAULT_TOP_K
    ) -> list[Neighbour]:
        """The tokens whose vectors, without any context, are nearest to a sum of words."""
        nearest, _ = self.word_vectors.find_nearest(positive, negative, top_k=top_k)
        return nearest

    def compute(self, jobs: Sequence[Job]) -> Extent:
        """Run the trunk once over all the jobs, then each head over its own."""
        hidden, packed, extent = self._run_trunk([job.encoded for job in jobs])
        for head in {id(job.head): job.head for job in jobs}.values():
            places = [place for place, job in enumerate(jobs) if job.head is head]
            head.compute(hidden, [jobs[place] for place in places], packed.starts[places])
        return extent

    def run_trunk(self, texts: Sequence[Encoded]) -> tuple[Output, Stream]:
        """The hidden states [T, H] of the texts, packed together, and the plan they lie by."""
        hidden, packed, _ = self._run_trunk(texts)
        return hidden, packed

    def _run_trunk(self, texts: Sequence[Encoded]) -> tuple[Output, Stream, Extent]:
        start, layout = self.manifest.position_start, self.manifest.layout
        packed = lay_out(texts, start) if self.choice.streams else pack(texts, start, layout)
        if layout == "flat":
            return self.trunk.run(packed.feeds), packed, packed.extent
        # Its groups are put together here, wherever the engine has them: a row each, no stream.
        hidden = np.empty((len(packed.input_ids), self.manifest.hidden_size), np.float32)
        rows = cells = 0
        for group in group_by_length(packed.lengths.tolist()):
            part = pack([texts[place] for place in group], start, layout)
            tokens = [np.arange(packed.lengths[place]) + packed.starts[place] for place in group]
            hidden[np.concatenate(tokens)] = self.trunk.run(part.feeds).whole()
            rows, cells = rows + part.extent.rows, cells + part.extent.cells
        return HostOutput(hidden), packed, Extent(rows, cells)

    def probe(self) -> None:
        """Run every graph over one token. Raises whatever is wrong with them."""
        hidden, _ = self.run_trunk([make_last_token(self.manifest)])
        if not np.isfinite(hidden.whole()).all():
            raise InternalError("the trunk gives numbers that are not finite")
        for head in self.heads:
            head.probe(hidden)

    def reopen(self) -> None:
        """Load every graph anew, in place of those that run. Raises a BundleError.

        Refuses a bundle whose files are not those that were opened at first. A call that hangs may
        be followed by another one, and then changes nothing any more: it raises RunStopped.
        """
        mine = self._reopening = object()
        bundle = Bundle.open(self.bundle.path)
        if bundle.fingerprint != self.bundle.fingerprint:
            raise BundleDamaged(
                f"{bundle.path} holds other files than those that were loaded; "
                "have the service read its bundles again"
            )
        for session in (self.trunk, *self._sessions.values()):
            if self._reopening is not mine:
                raise RunStopped("another call loads the graphs anew")
            session.reopen()

    def stop(self) -> None:
        """End what trunk and heads compute now, in any thread, with RunStopped; returns at once.

        Sessions stop one run each: a computation that is between two (trunk and head, or two
        groups of the padded layout) goes on with the next. Call again until it has ended.
        """
        for session in (self.trunk, *self._sessions.values()):
            session.stop()

    def _open_heads(self, load: Callable[[str, Role], Session]) -> Iterator[Head[Any, Any, Any]]:
        for entry in self.manifest.heads:
            kind = HEADS.get(entry.task)
            if entry.representation is not None:
                kind = REPRESENTATIONS.get(entry.representation)
            # A task of a later version: the bundle is sound, its other tasks are answered.
            if kind is None:
                continue
            # Heads of one graph, as fill-mask and sparse vectors are, have one session.
            if entry.file and entry.file not in self._sessions:
                self._sessions[entry.file] = load(entry.file, "head")
            session = self._sessions[entry.file] if entry.file else None
            check_head(self.bundle, entry, session)
            preferred = entry.prefer(self._default_prompt)
            yield kind(preferred, self.manifest, self.encoder, session)


def prepare(
    head: Head[Any, Any, Any],
    items: Iterable[Any],
    options: Any,
    field: str = "inputs",
    windows: float = math.inf,
    *,
    failed: dict[int, CallerError] | None = None,
) -> list[Job]:
    """The items as jobs; an item that cannot be one is named by its place in the field.

    Given `failed`, its error is put there, by its place, and the others become jobs. Else raises
    the first. InvalidValue where the answers together were longer than `MAX_ANSWER_CHARACTERS`, and
    InputTooLong for more than so many windows of long texts, or their size in vectors of tokens.
    """
    jobs = []
    read, written = 0, 0
    try:
        for place, item in enumerate(items):
            read += _count_characters(item)
            try:
                job = head.prepare(item, options)
                # So many numbers as a window's vector has at most.
                numbers = head.count_numbers(job) / 1024 if head.gives_many else 0
                left = windows - len(job.more) - numbers
                if left < 0:
                    reason = _TOO_MANY_NUMBERS if head.gives_many else _TOO_MANY_WINDOWS
                    raise InputTooLong(f"with this item {reason}")
                size = head.count_characters(job) if head.writes_texts else 0
                _check_answer(written + size)
            except CallerError as error:
                if failed is None:
                    raise error.at(field, place) from None
                failed[place] = error.at(field, place)
                continue
            windows, written = left, written + size
            jobs.append(job)
    finally:
        if read > _LARGE_CHARACTERS:
            return_freed_memory()
    return jobs


def _count_characters(item: Any) -> int:
    if isinstance(item, str):
        return len(item)
    return sum(map(_count_characters, item)) if isinstance(item, tuple) else 0


def _check_answer(characters: int) -> None:
    if characters > MAX_ANSWER_CHARACTERS:
        raise InvalidValue(
            f"with this item the answer would have more than {MAX_ANSWER_CHARACTERS} characters; "
            "ask for a smaller top_k, send shorter texts or fewer of them"
        )


def form_batches(jobs: Sequence[Job], max_tokens: int = MAX_BATCH_TOKENS) -> Iterator[list[Job]]:
    """The jobs in order, in batches of at most so many tokens; a longer text goes alone."""
    batch: list[Job] = []
    tokens = 0
    for job in jobs:
        if batch and tokens + job.tokens > max_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(job)
        tokens += job.tokens
    if batch:
        yield batch
