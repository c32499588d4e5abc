"""Judges trunk and heads while they are trained, on texts held out.

A part of each set is enough to draw a curve; the figures of the model card come from the bundle
(training/evaluate.py).
"""

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertForPreTraining, BertModel

from training.finetuning.heads import ClassifyHead, TagHead
from training.finetuning.sets import Part
from training.finetuning.tagged import IGNORED, encode_tags
from training.finetuning.texts import WIDTH, encode_texts, run_first, run_mean
from training.metrics import find_accuracy, find_micro_f1, find_rank_correlation, mark_labels
from training.pretraining.batches import Epoch
from training.pretraining.losses import compute_outcome
from training.rows import Ids, pack_texts
from training.text.store import TokenStore
from training.trunk import run_trunk

_MOST = 600  # examples of each set
_AT_ONCE = 100
_ROWS = 96  # of the validation text


class Validation:
    """The held-out part, tokenised once."""

    def __init__(self, part: Part, tokenizer: Tokenizer, store: TokenStore) -> None:
        size = tokenizer.get_vocab_size()
        rng = np.random.default_rng(0)
        self._batch = Epoch(store, WIDTH, 0, 0).make_batch(0, _ROWS, size, rng)
        self._answers = {name: data.answers[:_MOST] for name, data in part.heads.items()}
        self._texts = {
            name: encode_texts(tokenizer, data.texts[:_MOST]) for name, data in part.heads.items()
        }
        self._firsts = encode_texts(tokenizer, part.similarity.firsts[:_MOST])
        self._seconds = encode_texts(tokenizer, part.similarity.seconds[:_MOST])
        self._scores = np.array(part.similarity.scores[:_MOST])
        tagged = [] if part.entities is None else encode_tags(tokenizer, part.entities, WIDTH)
        self._tagged = tagged[:_MOST]

    def judge(
        self, model: BertForPreTraining, heads: dict[str, ClassifyHead | TagHead]
    ) -> dict[str, float]:
        """Accuracy of each head, or micro-F1 where several labels may hold; Spearman; MLM, NSP.

        Of tags the accuracy over tokens that are part of an entity, or are said to be.
        """
        trunk = model.bert
        outcome = compute_outcome(model, self._batch).figures()
        figures = {name: outcome[name] for name in ("mlm_accuracy", "nsp_accuracy")}
        for name, head in heads.items():
            if isinstance(head, TagHead):
                figures[f"{name}_accuracy"] = _judge_tags(trunk, head, self._tagged)
                continue
            scores = torch.cat([head(run_first(trunk, part)) for part in _parts(self._texts[name])])
            answers = self._answers[name]
            if head.several:
                marked = (scores > 0).cpu().numpy()
                gold = mark_labels(answers, len(head.labels))
                figures[f"{name}_f1"] = find_micro_f1(marked, gold)
            else:
                best = scores.argmax(-1).tolist()
                figures[f"{name}_accuracy"] = find_accuracy(best, [first for first, *_ in answers])
        cosines = (_embed(trunk, self._firsts) * _embed(trunk, self._seconds)).sum(-1)
        figures["similarity_correlation"] = find_rank_correlation(
            cosines.float().cpu().numpy(), self._scores
        )
        return figures


def _judge_tags(trunk: BertModel, head: TagHead, tagged: list[tuple[Ids, Ids]]) -> float:
    """How many of the tokens that are part of an entity, or said to be, have the right tag."""
    right = asked = 0
    for start in range(0, len(tagged), _AT_ONCE):
        part = tagged[start : start + _AT_ONCE]
        rows = pack_texts([[ids] for ids, _ in part], WIDTH)
        best = head(run_trunk(trunk, rows)).argmax(-1).cpu().numpy()
        for cell, (_, tags) in zip(rows.first_cells, part, strict=True):
            found = best[cell : cell + len(tags)]
            matters = (tags != IGNORED) & ((tags > 0) | (found > 0))
            right += int(np.count_nonzero(found[matters] == tags[matters]))
            asked += int(np.count_nonzero(matters))
    return right / max(1, asked)


def _embed(trunk: BertModel, texts: list[Ids]) -> Tensor:
    return torch.cat([run_mean(trunk, part) for part in _parts(texts)])


def _parts(texts: list[Ids]) -> list[list[Ids]]:
    return [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]
