"""Token classification: a label for each token, word or group of words (named entities, tags).

Answers as transformers' TokenClassificationPipeline does, with its strategies of aggregation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from models.bundle.manifest import HeadEntry, Manifest
from models.engines import Output, Session
from models.errors import InternalError, InvalidValue
from models.heads.head import PARTS_OF_A_VECTOR, Floats, Head, Indices, Job, softmax
from models.tasks import TASKS
from models.text.encoder import Encoder
from models.text.truncation import Overflow, Side

Aggregation = Literal["none", "simple", "first", "max", "average"]


@dataclass(frozen=True, slots=True)
class TokenClassifyOptions:
    """What is told as one, and which labels are not told at all.

    `none`: every token by itself. `simple`: neighbouring tokens of one label together. `first`,
    `max` and `average` give each word one label before that: of its first token, of its surest
    token, of the mean of all. `ignore_labels` are compared with what is told: the whole label of
    a token, but the label of a group without its B- or I-.

    With `stride` a text that is too long is read in windows that overlap by so many tokens; of
    entities that overlap the longest is told, of equally long ones the surest. It needs an
    aggregation other than `none`.
    """

    aggregation: Aggregation = "none"
    ignore_labels: tuple[str, ...] = ("O",)
    overflow: Overflow = "error"
    truncation_side: Side | None = None
    stride: int | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """A token or a group of them: `start` and `end` are characters of the text as it was sent.

    `word` is how the vocabulary spells it, `index` the token's place in the sequence, special
    tokens counted; None for a group.
    """

    label: str
    score: float
    word: str
    start: int
    end: int
    index: int | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    """A token, or a word of several: `scores` is one for each label."""

    word: str
    scores: Floats
    start: int
    end: int
    index: int
    continues: bool = False


class TokenClassifyHead(Head[str, TokenClassifyOptions, list[Entity]]):
    """Answers a text with its entities, in order."""

    task = TASKS["token-classify"]
    golden_options = TokenClassifyOptions(ignore_labels=())

    def __init__(
        self, entry: HeadEntry, manifest: Manifest, encoder: Encoder, session: Session | None
    ) -> None:
        super().__init__(entry, manifest, encoder, session)
        self._unknown = manifest.special_tokens.get("unk")
        # Only WordPiece models have a marker for tokens that continue a word.
        self._marks = bool(getattr(encoder.tokenizer.model, "continuing_subword_prefix", None))

    def resolve(self, options: TokenClassifyOptions) -> TokenClassifyOptions:
        """Raises InvalidValue for an aggregation there is not, or a stride that cannot be."""
        known = get_args(Aggregation)
        if options.aggregation not in known:
            raise InvalidValue(
                f"{options.aggregation!r} is not one of {', '.join(known)}", param="aggregation"
            )
        if options.stride is not None:
            room = self.encoder.room
            if options.aggregation == "none":
                raise InvalidValue(
                    "tokens that stand in two windows are told once only as parts of entities; "
                    "ask for an aggregation other than none, or leave stride out",
                    param="stride",
                )
            if not 0 <= options.stride < room:
                raise InvalidValue(
                    f"{options.stride} is outside 0 to {room - 1}; a window has room for {room} "
                    "tokens of the text",
                    param="stride",
                )
        return options

    def prepare(self, item: str, options: TokenClassifyOptions) -> Job:
        """A job for the text, or its first window, which reads all of its rows."""
        if options.stride is not None:
            windows = self.encoder.split(
                item, overlap_tokens=options.stride, overflow=options.overflow
            )
            first, *others = (
                Job(head=self, item=item, options=options, encoded=w) for w in windows
            )
            first.more = tuple(others)
            return first
        encoded = self.encoder.encode(
            item, overflow=options.overflow, side=options.truncation_side, origins=True
        )
        return Job(head=self, item=item, options=options, encoded=encoded)

    def compute(self, hidden: Output, jobs: Sequence[Job], starts: Indices) -> None:
        """The logits of each token, [tokens, labels]."""
        for job, logits in zip(jobs, self.logits(hidden, jobs, starts), strict=True):
            job.output = logits

    def decode(self, job: Job) -> list[Entity]:
        """The entities whose label is not to be ignored."""
        if not job.more:
            return self._decode(job)
        return _resolve([one for window in (job, *job.more) for one in self._decode(window)])

    def weigh(self, job: Job) -> int:
        """By the tokens, each of which may be an entity."""
        tokens = sum(each.tokens for each in (job, *job.more))
        return 1 + tokens // PARTS_OF_A_VECTOR

    def _decode(self, job: Job) -> list[Entity]:
        """Those of one window."""
        options: TokenClassifyOptions = job.options
        tokens = self._read_tokens(job)
        match options.aggregation:
            case "none":
                entities = [self._name(token) for token in tokens]
            case "simple":
                entities = self._group([self._name(token) for token in tokens])
            case strategy:
                words = [self._join_word(word, strategy) for word in _split_words(tokens)]
                entities = self._group(words)
        return [entity for entity in entities if entity.label not in options.ignore_labels]

    def difference(self, answer: list[Entity], golden: Sequence[Mapping[str, Any]]) -> float:
        """The largest of the entities' scores.

        Where a tie gave a token another label, the least that the scores of one must differ by.
        """
        differences = [0.0]
        for entity, wanted in zip(answer, golden, strict=True):
            place = (entity.start, entity.end, entity.word)
            if place != tuple(wanted[key] for key in ("start", "end", "word")):
                return 1.0
            score = wanted["score"]
            if entity.label == wanted["label"]:
                differences.append(abs(entity.score - score))
            else:
                differences.append(score - min(entity.score, 1.0 - entity.score))
        return float(np.max(differences))

    def _read_tokens(self, job: Job) -> list[_Token]:
        """The tokens of the text itself, those that are special left out."""
        origins = job.encoded.origins
        if origins is None:
            raise InternalError("a text for token-classify was encoded without its origins")
        scores = softmax(job.output)
        tokens = []
        for index in origins.places(0).tolist():
            token_id = int(job.encoded.ids[index])
            start, end = origins.offsets[index].tolist()
            written: str = job.item[start:end]
            if self._unknown is not None and token_id == self._unknown.id:
                word, continues = written, False
            else:
                word = self.encoder.tokenizer.id_to_token(token_id) or ""
                continues = self._continues(word, job.item, start, end)
            tokens.append(_Token(word, scores[index], start, end, index, continues))
        return tokens

    def _continues(self, word: str, text: str, start: int, end: int) -> bool:
        """Whether a token goes on with the word before it, as well as its tokenizer lets tell."""
        if self._marks:
            return len(word) != end - start
        return start > 0 and " " not in text[start - 1 : start + 1]

    def _name(self, token: _Token) -> Entity:
        """The token with its likeliest label, of equal ones the first."""
        best = int(token.scores.argmax())
        label = self.entry.labels[best] if self.entry.labels else str(best)
        score = float(token.scores[best])
        return Entity(label, score, token.word, token.start, token.end, token.index)

    def _join_word(self, tokens: Sequence[_Token], strategy: Aggregation) -> Entity:
        """The tokens of one word as one, with one label."""
        match strategy:
            case "first":
                scores = tokens[0].scores
            case "max":
                scores = max(tokens, key=lambda token: float(token.scores.max())).scores
            case _:
                scores = np.mean([token.scores for token in tokens], axis=0)
        word = self._spell([token.word for token in tokens])
        return self._name(_Token(word, scores, tokens[0].start, tokens[-1].end, tokens[0].index))

    def _group(self, entities: Sequence[Entity]) -> list[Entity]:
        """Neighbours of one label together; B- begins a group anew, I- and no prefix go on."""
        groups: list[list[Entity]] = []
        for entity in entities:
            begins = entity.label.startswith("B-")
            if groups and not begins and _strip(entity.label) == _strip(groups[-1][-1].label):
                groups[-1].append(entity)
            else:
                groups.append([entity])
        return [
            Entity(
                label=group[0].label.split("-", 1)[-1],
                score=float(np.mean([entity.score for entity in group])),
                word=self._spell([entity.word for entity in group]),
                start=group[0].start,
                end=group[-1].end,
            )
            for group in groups
        ]

    def _spell(self, words: list[str]) -> str:
        decoder = self.encoder.tokenizer.decoder
        spelled: str = " ".join(words) if decoder is None else decoder.decode(words)
        return spelled


def _resolve(entities: Sequence[Entity]) -> list[Entity]:
    """Entities of several windows, of those that overlap the longest, else the surest, alone."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity.start):
        if not kept or not kept[-1].start <= entity.start < kept[-1].end:
            kept.append(entity)
            continue
        lengths = [one.end - one.start for one in (entity, kept[-1])]
        if lengths[0] > lengths[1] or (lengths[0] == lengths[1] and entity.score > kept[-1].score):
            kept[-1] = entity
    return kept


def _split_words(tokens: Sequence[_Token]) -> list[list[_Token]]:
    words: list[list[_Token]] = []
    for token in tokens:
        if words and token.continues:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _strip(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label
