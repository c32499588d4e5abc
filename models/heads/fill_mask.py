"""Fill-mask: the likeliest tokens for each mask of a text (Devlin et al. 2018, masked LM)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.bundle.manifest import HeadEntry, Manifest
from models.engines import Output, Session
from models.errors import (
    CallerError,
    EmptyInput,
    InternalError,
    InvalidTarget,
    InvalidValue,
    MissingMask,
)
from models.heads.head import PARTS_OF_A_VECTOR, Floats, Head, Indices, Job, softmax
from models.tasks import TASKS
from models.text.encoder import Encoder
from models.text.truncation import Overflow, Side

COMMON_MASK = "[MASK]"
# As other families spell it, and as people do.
OTHER_MASK = "<mask>"
_OTHER_MASKS = re.compile(r"<mask>|\[mask\]", re.IGNORECASE)
DEFAULT_TOP_K = 5
# Longer than any token; how many tokens it is then takes a while to find out.
_TARGET_CHARACTERS = 1_000
# More are looked up off an event loop.
_LARGE_TARGETS = 16
# Of a candidate in an answer, besides its sequence.
_FIELDS_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class FillMaskOptions:
    """Without `top_k`: five candidates, or all the `targets` where these are given."""

    top_k: int | None = None
    targets: tuple[str, ...] | None = None
    overflow: Overflow = "error"
    target_ids: tuple[int, ...] | None = field(default=None, repr=False)
    truncation_side: Side | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token for a mask: its text, id, probability over the vocabulary, and the text filled."""

    token: str
    token_id: int
    score: float
    sequence: str


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask: where it stands in the text as it was sent, in characters, and its candidates."""

    start: int
    end: int
    candidates: tuple[Candidate, ...]


class FillMaskHead(Head[str, FillMaskOptions, list[Mask]]):
    """Answers for each mask of a text, in order, best candidate first.

    A mask is written as `[MASK]`, whatever the family, or as the model's own mask token.
    """

    task = TASKS["fill-mask"]
    writes_texts = True
    slow_options = True
    # More than are compared: a tie may put another token in.
    golden_options = FillMaskOptions(top_k=50)

    def __init__(
        self, entry: HeadEntry, manifest: Manifest, encoder: Encoder, session: Session | None
    ) -> None:
        super().__init__(entry, manifest, encoder, session)
        self._mask = manifest.special_tokens["mask"]
        self._masks = re.compile(f"{re.escape(COMMON_MASK)}|{re.escape(self._mask.token)}")
        # Only WordPiece models have a marker for tokens that continue a word.
        self._marker: str = getattr(encoder.tokenizer.model, "continuing_subword_prefix", "") or ""

    def resolve(self, options: FillMaskOptions) -> FillMaskOptions:
        """Look the targets up. Raises InvalidTarget for one that is not a single token."""
        if options.top_k is not None and options.top_k < 1:
            raise InvalidValue(f"{options.top_k} is not at least 1", param="top_k")
        if options.targets is None:
            return replace(options, top_k=options.top_k or DEFAULT_TOP_K)
        if not options.targets:
            raise InvalidTarget("the list is empty; leave it out, or name a word", param="targets")
        ids: dict[int, None] = {}
        for place, text in enumerate(options.targets):
            try:
                ids[self._find_target(text)] = None
            except CallerError as error:
                raise error.at("targets", place) from None
        unique = tuple(ids)
        return replace(options, target_ids=unique, top_k=options.top_k or len(unique))

    def prepare(self, item: str, options: FillMaskOptions) -> Job:
        """A job that reads the rows of the masks alone. Raises MissingMask without one."""
        if not item.strip():
            raise EmptyInput("the text is empty; leave it out, or send one with a mask")
        if not self._masks.search(item):
            other = _OTHER_MASKS.search(item)
            said = f"{other[0]} is no mask of this model" if other else "the text has no mask"
            raise MissingMask(f"{said}; put {COMMON_MASK} where a word is missing")
        own = self._masks.sub(lambda _: self._mask.token, item)
        encoded = self.encoder.encode(own, overflow=options.overflow, side=options.truncation_side)
        if encoded.truncated_at is not None and own != item:
            encoded = replace(encoded, truncated_at=self._place(item, encoded.truncated_at))
        rows = np.flatnonzero(encoded.ids == self._mask.id)
        return Job(head=self, item=item, options=options, encoded=encoded, rows=rows)

    def count_characters(self, job: Job) -> int:
        """Each candidate of each mask carries the whole text, and its own fields."""
        return self._count_candidates(job) * (len(job.item) + _FIELDS_CHARACTERS)

    def weigh(self, job: Job) -> int:
        """By the candidates of all masks."""
        return 1 + self._count_candidates(job) // PARTS_OF_A_VECTOR

    def _count_candidates(self, job: Job) -> int:
        masks = 0 if job.rows is None else len(job.rows)
        return masks * min(job.options.top_k or DEFAULT_TOP_K, self.manifest.vocabulary_size)

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """Keep the best candidates of each mask: ids and probabilities, [masks, candidates] each.

        Done here and not in `decode`, so that no logits of the size of the vocabulary wait.
        """
        for job, logits in zip(jobs, self.logits(hidden, jobs, starts), strict=True):
            job.output = [_best(row, job.options) for row in logits]

    def decode(self, job: Job) -> list[Mask]:
        """The masks that were not cut away, in order of the text."""
        text: str = job.item
        spans = [match.span() for match in self._masks.finditer(text)]
        side = job.options.truncation_side or self.encoder.truncation_side
        if job.encoded.truncated_at is not None and side == "left":
            # The first of them were cut away.
            spans = spans[len(spans) - len(job.output) :]
        masks = []
        for (start, end), (ids, scores) in zip(spans, job.output, strict=False):
            candidates = []
            for token_id, score in zip(ids.tolist(), scores.tolist(), strict=True):
                token = self._show(token_id)
                filled = text[:start] + token + text[end:]
                candidates.append(Candidate(token, token_id, score, filled))
            masks.append(Mask(start, end, tuple(candidates)))
        return masks

    def difference(self, answer: list[Mask], golden: Sequence[Mapping[str, Any]]) -> float:
        """The largest of the candidates' scores, by mask and token."""
        differences = [0.0]
        for mask, wanted in zip(answer, golden, strict=True):
            found = {candidate.token_id: candidate.score for candidate in mask.candidates}
            for token, score in zip(wanted["token_ids"], wanted["scores"], strict=True):
                differences.append(abs(found[token] - score) if token in found else 1.0)
        return float(np.max(differences))

    def is_large(self, options: FillMaskOptions) -> bool:
        """Each target is tokenised."""
        return len(options.targets or ()) > _LARGE_TARGETS

    def _place(self, text: str, at: Any) -> int:
        """A character of the text as it was sent, from where it is with the model's own masks."""
        place: int = at
        for match in self._masks.finditer(text):
            if match.end() > place + len(match[0]) - len(self._mask.token):
                break
            place += len(match[0]) - len(self._mask.token)
        return place

    def _find_target(self, text: str) -> int:
        if len(text) > _TARGET_CHARACTERS:
            raise InvalidTarget(
                f"a target of {len(text)} characters is not one token of the vocabulary; "
                "choose a target that is"
            )
        unknown = self.manifest.special_tokens.get("unk")
        # A word in running text stands after a space, which byte-level tokens carry themselves.
        for written in (f" {text}", text):
            tokens = self.encoder.tokenize(written).ids
            if len(tokens) == 1 and text.strip() and not (unknown and tokens[0] == unknown.id):
                return int(tokens[0])
        exact = self.encoder.tokenizer.token_to_id(text)
        if exact is not None:
            return int(exact)
        pieces = self.encoder.tokenize(text).tokens
        raise InvalidTarget(
            f"{text!r} is not one token of the vocabulary"
            + (f" but {len(pieces)} ({' '.join(pieces[:8])})" if len(pieces) > 1 else "")
            + "; choose a target that is"
        )

    def _show(self, token_id: int) -> str:
        tokenizer = self.encoder.tokenizer
        token: str | None = tokenizer.id_to_token(token_id)
        if token is None:
            # A row of a vocabulary padded to a round size: no token has this id.
            return ""
        if self._marker:
            return token.removeprefix(self._marker)
        shown: str = tokenizer.decode([token_id], skip_special_tokens=False)
        return shown.strip()


def _best(logits: Floats, options: FillMaskOptions) -> tuple[Indices, Floats]:
    scores = softmax(logits)
    if options.top_k is None:
        raise InternalError("fill-mask options were not resolved")
    if options.target_ids is not None:
        ids = np.array(options.target_ids, dtype=np.int64)
    elif options.top_k < len(scores):
        ids = np.argpartition(-scores, options.top_k)[: options.top_k]
    else:
        ids = np.arange(len(scores))
    ids = ids[np.lexsort((ids, -scores[ids]))][: options.top_k]
    return ids, scores[ids]
