"""What fine-tuning teaches, a lesson each: labels, likeness of texts, and what was known before."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertForPreTraining, BertModel

from training.finetuning.heads import ClassifyHead, TagHead
from training.finetuning.tagged import IGNORED
from training.finetuning.taught import TaughtTexts
from training.finetuning.texts import WIDTH, run_first, run_mean
from training.pretraining.batches import Epoch
from training.pretraining.losses import compute_outcome
from training.rows import Ids, pack_texts
from training.text.store import TokenStore
from training.text.vocabulary import CLS, SEP
from training.trunk import run_trunk

_SCALE = 20.0  # cosines are multiplied by it before a softmax
# What a difference of cosines, and of directions, counts beside the losses of other lessons.
_LIKENESS, _SAMENESS = 30.0, 5.0
_MIN_SENTENCE_TOKENS = 6
_TRIES = 1000
# A label that holds weighs twice: then 0.5, where everyone draws the line, is near the best F1
# (it stands for a probability of one third).
_HOLDING_WEIGHT = 2.0


class Lesson(Protocol):
    """One objective, and the share of the steps it is given."""

    name: str
    share: float

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The loss on a batch drawn by rng, and its tokens."""


@dataclass
class ClassifyLesson:
    """Labels of texts: cross-entropy where one holds, binary cross-entropy where several may."""

    name: str
    share: float
    trunk: BertModel
    head: ClassifyHead
    texts: list[Ids]
    answers: Tensor
    size: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The mean loss of `size` texts."""
        chosen = rng.choice(len(self.texts), min(self.size, len(self.texts)), replace=False)
        texts = [self.texts[place] for place in chosen]
        scores = self.head(run_first(self.trunk, texts)).float()
        answers = self.answers[torch.from_numpy(chosen)].to(scores.device)
        if self.head.several:
            weight = torch.tensor(_HOLDING_WEIGHT, device=scores.device)
            loss = F.binary_cross_entropy_with_logits(
                scores, answers, reduction="sum", pos_weight=weight
            ) / len(texts)
        else:
            loss = F.cross_entropy(scores, answers)
        return loss, sum(map(len, texts))


@dataclass
class TagLesson:
    """Tags of tokens; pieces of which nothing is asked are not computed in the last layer."""

    name: str
    share: float
    trunk: BertModel
    head: TagHead
    texts: list[tuple[Ids, Ids]]
    size: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The mean cross-entropy over the tokens of `size` texts."""
        chosen = rng.choice(len(self.texts), min(self.size, len(self.texts)), replace=False)
        texts = [self.texts[place] for place in chosen]
        rows = pack_texts([[ids] for ids, _ in texts], WIDTH)
        asked = np.full(rows.token_ids.size, IGNORED, np.int64)
        for cell, (_, tags) in zip(rows.first_cells, texts, strict=True):
            asked[cell : cell + len(tags)] = tags
        cells = np.flatnonzero(asked != IGNORED)
        device = self.trunk.device
        hidden = run_trunk(self.trunk, rows, torch.from_numpy(cells).to(device))
        answers = torch.from_numpy(asked[cells]).to(device)
        return F.cross_entropy(self.head(hidden).float(), answers), rows.tokens


@dataclass
class SimilarityLesson:
    """Scored pairs: of two pairs the one scored higher shall have the higher cosine (CoSENT).

    The loss is log(1 + sum exp(scale * (cos_i - cos_j))) over all i scored below j
    (https://kexue.fm/archives/8847); it looks at order alone, as Spearman's correlation does.
    """

    name: str
    share: float
    trunk: BertModel
    firsts: list[Ids]
    seconds: list[Ids]
    scores: Tensor
    size: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The loss of `size` pairs against each other."""
        chosen = rng.choice(len(self.firsts), min(self.size, len(self.firsts)), replace=False)
        texts = [side[place] for side in (self.firsts, self.seconds) for place in chosen]
        first, second = run_mean(self.trunk, texts).chunk(2)
        cosines = (first * second).sum(-1) * _SCALE
        scores = self.scores[torch.from_numpy(chosen)].to(cosines.device)
        below = scores[:, None] < scores[None, :]
        differences = (cosines[:, None] - cosines[None, :])[below]
        return torch.logsumexp(F.pad(differences, (1, 0)), 0), sum(map(len, texts))


@dataclass
class TeacherLesson:
    """A teacher's vectors: the texts of a batch shall be as like each other as theirs are.

    Where student and teacher have as many dimensions, each vector shall be the teacher's, too
    (Reimers and Gurevych 2020).
    """

    name: str
    share: float
    trunk: BertModel
    taught: TaughtTexts
    size: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The mean square of the cosines' differences, and what is missing to the vectors."""
        chosen = np.sort(rng.integers(len(self.taught), size=self.size))
        texts = [self.taught.read(place) for place in chosen]
        ours = run_mean(self.trunk, texts)
        given = torch.from_numpy(self.taught.vectors[chosen].astype(np.float32))
        theirs = F.normalize(given.to(ours.device), dim=-1)
        loss = _LIKENESS * F.mse_loss(ours @ ours.mT, theirs @ theirs.mT)
        if ours.shape == theirs.shape:
            loss = loss + _SAMENESS * (1 - (ours * theirs).sum(-1)).mean()
        return loss, sum(map(len, texts))


@dataclass
class ContrastLesson:
    """Neighbouring sentences of the corpus: each shall find its neighbour among all of a batch."""

    name: str
    share: float
    trunk: BertModel
    store: TokenStore
    size: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The mean cross-entropy of finding the neighbour, in both directions."""
        places = [_draw_neighbours(self.store, rng) for _ in range(self.size)]
        texts = [frame_sentence(self.store, place + side) for side in (0, 1) for place in places]
        first, second = run_mean(self.trunk, texts).chunk(2)
        scores = first @ second.mT * _SCALE
        own = torch.arange(len(places), device=scores.device)
        loss = (F.cross_entropy(scores, own) + F.cross_entropy(scores.mT, own)) / 2
        return loss, sum(map(len, texts))


@dataclass
class OrderLesson:
    """Next-sentence prediction as it is asked in use: single sentences, half of them foreign."""

    name: str
    share: float
    model: BertForPreTraining
    store: TokenStore
    size: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The mean loss of `size` pairs; a foreign sentence is the second of another pair."""
        places = [_draw_neighbours(self.store, rng) for _ in range(self.size)]
        documents = np.searchsorted(self.store.documents, places, side="right")
        others = np.roll(np.arange(self.size), 1)
        foreign = (rng.random(self.size) < 0.5) & (documents != documents[others])
        seconds = np.where(foreign, others, np.arange(self.size))
        pairs = [
            [frame_sentence(self.store, place), frame_sentence(self.store, places[second] + 1)[1:]]
            for place, second in zip(places, seconds, strict=True)
        ]
        rows = pack_texts([_shorten(first, second) for first, second in pairs], WIDTH)
        device = self.model.device
        first_cells = torch.from_numpy(rows.first_cells).to(device)
        hidden = run_trunk(self.model.bert, rows, first_cells)
        scores = self.model.cls.seq_relationship(self.model.bert.pooler(hidden[:, None]))
        labels = torch.from_numpy(foreign.astype(np.int64)).to(device)
        return F.cross_entropy(scores.float(), labels), rows.tokens


@dataclass
class RehearsalLesson:
    """Pre-training's own losses, so that what was learnt there stays."""

    name: str
    share: float
    model: BertForPreTraining
    epoch: Epoch
    rows: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """MLM and NSP on some rows of the corpus."""
        start = int(rng.integers(max(1, len(self.epoch) - self.rows)))
        size = self.model.config.vocab_size
        batch = self.epoch.make_batch(start, self.rows, size, rng)
        return compute_outcome(self.model, batch).loss, batch.rows.tokens


def _draw_neighbours(store: TokenStore, rng: np.random.Generator) -> int:
    """A sentence whose document goes on with another one; neither is very short."""
    sentences, documents = store.sentences, store.documents
    place = 0
    for _ in range(_TRIES):
        place = int(rng.integers(len(sentences) - 2))
        lengths = np.diff(sentences[place : place + 3])
        next_document = documents[np.searchsorted(documents, place, side="right")]
        if place + 1 < next_document and lengths.min() >= _MIN_SENTENCE_TOKENS:
            break
    return place


def frame_sentence(store: TokenStore, sentence: int) -> Ids:
    """The tokens of a sentence of the corpus as [CLS] sentence [SEP]."""
    begin, end = store.sentences[sentence : sentence + 2]
    return np.concatenate([[CLS], store.tokens[begin : min(end, begin + WIDTH - 2)], [SEP]])


def _shorten(first: Ids, second: Ids) -> list[Ids]:
    """Both segments, the first cut where they are longer than a row together."""
    room = max(3, WIDTH - len(second))
    if len(first) > room:
        first = np.concatenate([first[: room - 1], first[-1:]])
    return [first, second[: WIDTH - len(first)]]
