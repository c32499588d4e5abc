"""Each lesson can be learnt, and its loss is what its docstring says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForPreTraining

from training.finetuning.heads import ClassifyHead, TagHead, encode_labels
from training.finetuning.lessons import (
    ClassifyLesson,
    ContrastLesson,
    Lesson,
    OrderLesson,
    RehearsalLesson,
    SimilarityLesson,
    TagLesson,
)
from training.finetuning.sets import Part, read_sets
from training.finetuning.tagged import encode_tags
from training.finetuning.texts import encode_texts, run_mean
from training.pretraining.batches import Epoch
from training.text.store import TokenStore, tokenize_documents


@pytest.fixture
def model(tiny_config: BertConfig) -> BertForPreTraining:
    """A model that has learnt nothing yet."""
    torch.manual_seed(6)
    return BertForPreTraining(tiny_config)


@pytest.fixture(scope="module")
def part(data: Path) -> Part:
    """The training part of every set."""
    return read_sets(data)[0]


def make_similarity(model: BertForPreTraining, part: Part, tokenizer: Tokenizer) -> Lesson:
    pairs = part.similarity
    firsts, seconds = (encode_texts(tokenizer, side) for side in (pairs.firsts, pairs.seconds))
    scores = torch.tensor(pairs.scores)
    return SimilarityLesson("similarity", 1.0, model.bert, firsts, seconds, scores, 12)


def make_lesson(
    kind: str, model: BertForPreTraining, part: Part, tokenizer: Tokenizer, store: TokenStore
) -> tuple[Lesson, list[torch.nn.Parameter]]:
    weights = list(model.parameters())
    match kind:
        case "similarity":
            return make_similarity(model, part, tokenizer), weights
        case "contrast":
            return ContrastLesson(kind, 1.0, model.bert, store, 12), weights
        case "order":
            return OrderLesson(kind, 1.0, model, store, 12), weights
        case "rehearsal":
            return RehearsalLesson(kind, 1.0, model, Epoch(store, 64, 0, 0), 6), weights
        case "entities":
            assert part.entities is not None
            tags = TagHead(model.bert, part.entities.labels)
            texts = encode_tags(tokenizer, part.entities, 128)
            lesson = TagLesson(kind, 1.0, model.bert, tags, texts, 16)
            return lesson, [*weights, *tags.parameters()]
    data, several = part.heads[kind], kind == "emotions"
    head = ClassifyHead(model.bert, data.labels, several=several)
    texts, answers = encode_texts(tokenizer, data.texts), encode_labels(data, several=several)
    return ClassifyLesson(kind, 1.0, model.bert, head, texts, answers, 16), [
        *weights,
        *head.parameters(),
    ]


@pytest.mark.parametrize(
    "kind",
    ["sentiment", "emotions", "intents", "entities", "similarity", "contrast", "rehearsal"],
)
def test_a_few_steps_lower_the_loss(
    model: BertForPreTraining, part: Part, tokenizer: Tokenizer, store: TokenStore, kind: str
) -> None:
    # At this rate a step may leap where the weights of the head begin badly.
    torch.manual_seed(0)
    lesson, weights = make_lesson(kind, model, part, tokenizer, store)
    optimizer = torch.optim.AdamW(weights, lr=5e-3)
    losses = []
    for step in range(60):
        loss, tokens = lesson.compute_loss(np.random.default_rng(step))
        assert tokens > 0
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.93 * np.mean(losses[:5])


def test_the_loss_of_scored_pairs_looks_at_order(
    model: BertForPreTraining, part: Part, tokenizer: Tokenizer
) -> None:
    lesson = make_similarity(model.eval(), part, tokenizer)
    assert isinstance(lesson, SimilarityLesson)
    lesson.size = len(lesson.firsts)
    with torch.no_grad():
        loss, tokens = lesson.compute_loss(np.random.default_rng(0))
        cosines = (run_mean(model.bert, lesson.firsts) * run_mean(model.bert, lesson.seconds)).sum(
            -1
        )
    total = 1.0
    for one, low in zip(cosines.tolist(), lesson.scores.tolist(), strict=True):
        for other, high in zip(cosines.tolist(), lesson.scores.tolist(), strict=True):
            total += np.exp(20 * (one - other)) if low < high else 0.0
    assert loss.item() == pytest.approx(np.log(total), rel=1e-4)
    assert tokens == sum(map(len, [*lesson.firsts, *lesson.seconds]))


def test_neighbours_are_of_one_document(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    """Foreign ones would be taught as alike."""
    lone = "The ship was near the barn and the cow and the oven and the desk."
    pair = "The judge met the cow again. The singer met the barn again."
    store = tokenize_documents([[lone]] * 20 + [[pair]] + [[lone]] * 20, tokenizer)
    lesson = ContrastLesson("contrast", 1.0, model.bert, store, 10)
    _, tokens = lesson.compute_loss(np.random.default_rng(0))
    assert tokens == 10 * 2 * (7 + 2)


def test_order_is_asked_of_pairs_that_follow_and_that_do_not(
    model: BertForPreTraining, store: TokenStore
) -> None:
    """Where the answer is always the same, about half of the answers are right."""
    lesson = OrderLesson("order", 1.0, model, store, 40)
    follows = []
    for bias in ([20.0, 0.0], [0.0, 20.0]):
        with torch.no_grad():
            model.cls.seq_relationship.weight.zero_()
            model.cls.seq_relationship.bias.copy_(torch.tensor(bias))
            losses = [lesson.compute_loss(np.random.default_rng(n))[0].item() for n in range(9)]
        follows.append(1 - np.mean(losses) / 20)
    assert sum(follows) == pytest.approx(1, abs=1e-3)
    assert follows[0] == pytest.approx(0.5, abs=0.12)


def test_the_same_draw_gives_the_same_loss(
    model: BertForPreTraining, part: Part, tokenizer: Tokenizer, store: TokenStore
) -> None:
    model.eval()
    for kind in ("intents", "similarity", "contrast", "order", "rehearsal"):
        lesson, _ = make_lesson(kind, model, part, tokenizer, store)
        if isinstance(lesson, ClassifyLesson):
            lesson.head.eval()
        with torch.no_grad():
            losses = [lesson.compute_loss(np.random.default_rng(n))[0].item() for n in (1, 1, 2)]
        assert losses[0] == losses[1] != losses[2]


def test_batches_larger_than_the_set(
    model: BertForPreTraining, part: Part, tokenizer: Tokenizer, store: TokenStore
) -> None:
    for kind in ("intents", "similarity"):
        lesson, _ = make_lesson(kind, model, part, tokenizer, store)
        assert isinstance(lesson, ClassifyLesson | SimilarityLesson)
        lesson.size = 10_000
        loss, _ = lesson.compute_loss(np.random.default_rng(0))
        assert torch.isfinite(loss)
