"""What fine-tuning teaches, a lesson each: labels, likeness of texts, and what was known before."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertForPreTraining, BertModel

from training.finetuning.heads import ClassifyHead
from training.finetuning.texts import WIDTH, run_first, run_mean
from training.pretraining.batches import Epoch
from training.pretraining.losses import compute_outcome
from training.rows import Ids
from training.text.store import TokenStore
from training.text.vocabulary import CLS, SEP

_SCALE = 20.0  # cosines are multiplied by it before a softmax
_MIN_SENTENCE_TOKENS = 6


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
            each = F.binary_cross_entropy_with_logits(scores, answers, reduction="none")
            loss = each.sum(-1).mean()
        else:
            loss = F.cross_entropy(scores, answers)
        return loss, sum(map(len, texts))


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
class ContrastLesson:
    """Neighbouring sentences of the corpus: each shall find its neighbour among all of a batch."""

    name: str
    share: float
    trunk: BertModel
    store: TokenStore
    size: int

    def compute_loss(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """The mean cross-entropy of finding the neighbour, in both directions."""
        pairs = [self._draw_pair(rng) for _ in range(self.size)]
        texts = [pair[side] for side in (0, 1) for pair in pairs]
        first, second = run_mean(self.trunk, texts).chunk(2)
        scores = first @ second.mT * _SCALE
        own = torch.arange(len(pairs), device=scores.device)
        loss = (F.cross_entropy(scores, own) + F.cross_entropy(scores.mT, own)) / 2
        return loss, sum(map(len, texts))

    def _draw_pair(self, rng: np.random.Generator) -> tuple[Ids, Ids]:
        sentences, documents = self.store.sentences, self.store.documents
        for _ in range(1000):
            here = int(rng.integers(len(sentences) - 2))
            lengths = np.diff(sentences[here : here + 3])
            next_document = documents[np.searchsorted(documents, here, side="right")]
            if here + 1 < next_document and lengths.min() >= _MIN_SENTENCE_TOKENS:
                break
        return self._frame(here), self._frame(here + 1)

    def _frame(self, sentence: int) -> Ids:
        begin, end = self.store.sentences[sentence : sentence + 2]
        return np.concatenate(
            [[CLS], self.store.tokens[begin : min(end, begin + WIDTH - 2)], [SEP]]
        )


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
