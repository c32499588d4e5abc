"""Extractive question answering: the spans of a context that answer a question (SQuAD).

Answers as the QuestionAnsweringPipeline of transformers 4 did, which transformers 5 no longer has:
same windows, same candidates, same merging. Differs from it where it erred: a span always lies in
the context, also where the question spells a special token; spans of probability 0 never fill a
list; an answer that begins a window of a byte-level BPE has no space before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines import Output
from models.errors import InputTooLong, InternalError, InvalidValue
from models.heads.head import PARTS_OF_A_VECTOR, Floats, Head, Indices, Job
from models.tasks import TASKS
from models.text.encoded import Encoded, Origins
from models.text.listing import read_pair
from models.text.truncation import Overflow, Side

# Longer windows than these are not what such models were trained on (SQuAD: 384).
_WINDOW_TOKENS = 384
# Of one context: a span that is looked at takes up to a kilobyte.
_MOST_SPANS = 1 << 18

Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How spans are chosen, lengths in tokens.

    `doc_stride` is how far the windows of a long context overlap; left out, it is 128, or less for
    a model of short texts. `impossible` admits the answer that there is none. `align_to_words`
    widens a span to whole words. `truncation_side` is where a question that is too long is cut.
    """

    top_k: int = 1
    max_answer_tokens: int = 15
    doc_stride: int | None = None
    impossible: bool = False
    align_to_words: bool = True
    overflow: Overflow = "error"
    truncation_side: Side | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the context, `start` and `end` in characters; empty, 0 and 0: no answer.

    `score` is the probability of its start times that of its end, added up over all windows and
    spellings in which the same text was found, so it can exceed 1.
    """

    answer: str
    score: float
    start: int
    end: int


class AnswerHead(Head[tuple[str, str], AnswerOptions, list[Span]]):
    """Answers pairs (question, context). A long context is read in overlapping windows."""

    task = TASKS["answer"]
    golden_options = AnswerOptions(top_k=5, impossible=True)

    def resolve(self, options: AnswerOptions) -> AnswerOptions:
        """Check the numbers. Raises InvalidValue for those that leave nothing to choose from."""
        for name in ("top_k", "max_answer_tokens"):
            if getattr(options, name) < 1:
                raise InvalidValue(f"{getattr(options, name)} is not at least 1", param=name)
        if options.doc_stride is not None and not 0 <= options.doc_stride < self._window_tokens:
            raise InvalidValue(
                f"{options.doc_stride} is outside 0 to {self._window_tokens - 1}; "
                f"a window has {self._window_tokens} tokens",
                param="doc_stride",
            )
        return options

    def prepare(self, item: tuple[str, str], options: AnswerOptions) -> Job:
        """A job for the first window, which holds those of the others."""
        question, context = read_pair(item)
        windows = self.encoder.encode_windows(
            question,
            context,
            window_tokens=self._window_tokens,
            overlap_tokens=options.doc_stride,
            overflow=options.overflow,
            side=options.truncation_side,
        )
        looked_at = len(windows) * _count_wanted(options)
        if looked_at > _MOST_SPANS:
            raise InputTooLong(
                f"the context takes {len(windows)} windows, and for {options.top_k} answers more "
                f"than {_MOST_SPANS} spans would be looked at; ask for fewer, or send it in parts"
            )
        first, *others = (Job(head=self, item=item, options=options, encoded=w) for w in windows)
        first.more = tuple(others)
        return first

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """The logits of each window, [tokens, 2]: that a span starts there, that it ends there."""
        for job, logits in zip(jobs, self.logits(hidden, jobs, starts), strict=True):
            job.output = logits

    def decode(self, job: Job) -> list[Span]:
        """At most `top_k` spans, best first; equal scores in the order of the windows."""
        options: AnswerOptions = job.options
        _, context = job.item
        found: dict[str, Span] = {}
        no_answer = np.inf
        for window in (job, *job.more):
            origins = _read_origins(window.encoded)
            start, end = _normalise(window.output, origins)
            no_answer = min(no_answer, float(start[0] * end[0]))
            scores, first, last = _choose(start, end, origins, options)
            begins, stops = _place(origins, first, last, align=options.align_to_words)
            for score, begin, stop in zip(
                scores.tolist(), begins.tolist(), stops.tolist(), strict=True
            ):
                # As the pipeline does: a text is one answer, wherever and however it is written.
                text = context[begin:stop]
                known = found.get(text.lower())
                if known is None:
                    found[text.lower()] = Span(text, score, begin, stop)
                else:
                    total = known.score + score
                    found[text.lower()] = Span(known.answer, total, known.start, known.end)
        spans = list(found.values())
        if options.impossible:
            spans.append(Span("", no_answer, 0, 0))
        return sorted(spans, key=lambda span: -span.score)[: options.top_k]

    def weigh(self, job: Job) -> int:
        """By the spans that are looked at."""
        options: AnswerOptions = job.options
        return (1 + len(job.more)) * (1 + options.top_k // PARTS_OF_A_VECTOR)

    def difference(self, answer: list[Span], golden: Sequence[Mapping[str, Any]]) -> float:
        """The largest of the spans' scores.

        A span that a tie has put out of the list counts as the last that is in it.
        """
        found = {(span.start, span.end): span.score for span in answer}
        last = min(found.values())
        differences = [
            abs(found.get((wanted["start"], wanted["end"]), last) - wanted["score"])
            for wanted in golden
        ]
        return float(np.max(differences))

    @property
    def _window_tokens(self) -> int:
        return min(self.encoder.max_tokens, _WINDOW_TOKENS)


def _read_origins(encoded: Encoded) -> Origins:
    if encoded.origins is None:
        raise InternalError("a window was encoded without its origins")
    return encoded.origins


def _normalise(logits: Floats, origins: Origins) -> tuple[Probabilities, Probabilities]:
    """Probabilities of start and end, [tokens] each, over the context and the first token.

    The first token stands for "no answer" and takes its share (Devlin et al. 2018, SQuAD 2.0).
    """
    allowed = origins.texts == 1
    allowed[0] = True
    masked = np.where(allowed[:, None], logits.astype(np.float64), -np.inf)
    powers = np.exp(masked - masked.max(axis=0))
    start, end = (powers / powers.sum(axis=0)).T
    return start, end


def _count_wanted(options: AnswerOptions) -> int:
    """How many spans of a window are looked at: some become the same answer."""
    return options.top_k * 2 + 10 if options.align_to_words else options.top_k


def _choose(
    start: Probabilities, end: Probabilities, origins: Origins, options: AnswerOptions
) -> tuple[Probabilities, Indices, Indices]:
    """The best spans of a window: their scores, first tokens and last tokens.

    Of equal scores the earliest and shortest span comes first; spans of no probability are left
    out.
    """
    wanted = _count_wanted(options)
    context = origins.places(1)
    size = len(context)
    longest = min(options.max_answer_tokens, size)
    # Row: the first token; column: how many follow it.
    lasts = np.arange(size)[:, None] + np.arange(longest)
    ends = np.append(end[context], np.zeros(longest))
    scores = (start[context][:, None] * ends[lasts]).ravel()
    likely = np.flatnonzero(scores)
    if len(likely) > wanted:
        least = np.partition(scores[likely], -wanted)[-wanted]
        likely = likely[scores[likely] >= least]
    best = likely[np.argsort(-scores[likely], kind="stable")][:wanted]
    return scores[best], context[best // longest], context[lasts.ravel()[best]]


def _place(
    origins: Origins, first: Indices, last: Indices, *, align: bool
) -> tuple[Indices, Indices]:
    """The characters of spans from their first to their last token, or of those tokens' words."""
    if align:
        inside = np.minimum(origins.words[first], origins.words[last]) >= 0
        begins, ends = _find_words(origins)
        first = np.where(inside, begins[first], first)
        last = np.where(inside, ends[last], last)
    return origins.offsets[first, 0], origins.offsets[last, 1]


def _find_words(origins: Origins) -> tuple[Indices, Indices]:
    """Of each token of the window the first and the last one that are of the same word."""
    names = np.stack([origins.texts, origins.words], axis=1)
    _, begins, word = np.unique(names, axis=0, return_index=True, return_inverse=True)
    word = word.ravel()
    ends = np.zeros(len(begins), np.int64)
    np.maximum.at(ends, word, np.arange(len(names)))
    return begins[word], ends[word]
