"""Asks a bundle what held-out texts have for answers, one function a figure of the model card.

All go through models/pipeline: what is judged is what is served.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.heads import FillMaskOptions, Job
from models.pipeline import Pipeline, form_batches
from models.text.encoded import Encoded
from training.errors import DataTooSmall
from training.finetuning.labelled import LabelledTexts, ScoredPairs
from training.finetuning.tagged import TaggedTexts
from training.metrics import (
    find_accuracy,
    find_macro_f1,
    find_micro_f1,
    find_rank_correlation,
    mark_labels,
)
from training.text.documents import read_documents
from training.text.sentences import split_sentences

PASSAGE_TOKENS = 128
MASKED_SHARE = 0.15
MIN_WORDS = 4  # of a sentence in next-sentence pairs: headings and rests of lists are none
_SEED = 20181011


@dataclass(frozen=True)
class Figure:
    """A figure with what it was measured on."""

    name: str
    value: float
    over: str


def read_sentences(files: Iterable[Path]) -> list[list[str]]:
    """The sentences of each document, in order."""
    return [
        [sentence for paragraph in document for sentence in split_sentences(paragraph)]
        for file in files
        for document in read_documents(file)
    ]


def judge_fill_mask(pipeline: Pipeline, documents: list[list[str]], count: int) -> list[Figure]:
    """Top-1 and top-5 over `count` passages, 15% of whose tokens are hidden.

    All of them by the mask, as it is asked in use; and once more as in training, where a tenth
    of the hidden tokens is another one and a tenth is left as it is.
    """
    passages = [text for document in documents for text in _join(pipeline, document)]
    order = np.random.default_rng(_SEED).permutation(len(passages))[:count]
    chosen = [passages[place] for place in order]
    masked = _ask_hidden(pipeline, chosen, mask_share=1.0)
    as_trained = _ask_hidden(pipeline, chosen, mask_share=0.8)
    over = f"{len(masked):,} tokens of {len(chosen):,} passages of up to {PASSAGE_TOKENS}"
    return [
        Figure("fill-mask top-1", float(np.mean([place == 0 for place in masked])), over),
        Figure("fill-mask top-5", float(np.mean([place >= 0 for place in masked])), over),
        Figure(
            "as trained (80/10/10) top-1",
            float(np.mean([place == 0 for place in as_trained])),
            over,
        ),
    ]


def judge_positions(pipeline: Pipeline, documents: list[list[str]], count: int) -> list[Figure]:
    """Top-1 as in training, by where the hidden token stands in passages as long as the model.

    None for a model that takes no more than PASSAGE_TOKENS.
    """
    longest = pipeline.manifest.max_tokens
    if longest <= PASSAGE_TOKENS:
        return []
    passages = [text for document in documents for text in _join(pipeline, document, longest)]
    long = [each for each in passages if len(each.ids) > 0.75 * longest]
    order = np.random.default_rng(_SEED).permutation(len(long))[:count]
    rows: list[int] = []
    ranks = np.array(_ask_hidden(pipeline, [long[place] for place in order], 0.8, rows))
    places, figures = np.array(rows), []
    for begin, end in ((0, PASSAGE_TOKENS), (PASSAGE_TOKENS, longest)):
        inside = (places >= begin) & (places < end)
        over = f"{int(inside.sum()):,} tokens of {len(order):,} passages of up to {longest}"
        value = float(np.mean(ranks[inside] == 0)) if inside.any() else 0.0
        figures.append(Figure(f"as trained top-1 at {begin} to {end - 1}", value, over))
    return figures


def _ask_hidden(
    pipeline: Pipeline, passages: list[Encoded], mask_share: float, places: list[int] | None = None
) -> list[int]:
    """For each hidden token its place among the first five answers, or -1.

    The rest of the hidden tokens is half replaced by a random one, half left. Where they stand in
    their passage goes to `places`.
    """
    rng = np.random.default_rng(_SEED)
    head = pipeline.find_head("fill-mask")
    special = {token.id for token in pipeline.manifest.special_tokens.values()}
    usual = np.setdiff1d(np.arange(pipeline.manifest.vocabulary_size), list(special))
    options = head.resolve(FillMaskOptions(5, None, "truncate"))
    jobs, gold = [], []
    for encoded in passages:
        candidates = np.flatnonzero(~np.isin(encoded.ids, list(special)))
        rows = np.sort(rng.permutation(candidates)[: max(1, round(MASKED_SHARE * len(candidates)))])
        ids = encoded.ids.copy()
        kind = rng.random(len(rows))
        ids[rows[kind < mask_share]] = pipeline.manifest.special_tokens["mask"].id
        swapped = rows[kind >= (1 + mask_share) / 2]
        ids[swapped] = rng.choice(usual, len(swapped))
        hidden = Encoded(ids, encoded.type_ids)
        jobs.append(Job(head=head, item=None, options=options, encoded=hidden, rows=rows))
        gold += encoded.ids[rows].tolist()
        if places is not None:
            places += rows.tolist()
    for batch in form_batches(jobs):
        pipeline.compute(batch)
    ranked = [ids.tolist() for job in jobs for ids, _ in job.output]
    return [
        ids.index(right) if right in ids else -1 for ids, right in zip(ranked, gold, strict=True)
    ]


def judge_next_sentence(pipeline: Pipeline, documents: list[list[str]], count: int) -> list[Figure]:
    """Accuracy over single sentences that follow each other, and as many from two documents."""
    rng = random.Random(_SEED)  # noqa: S311 - a sample, not a secret
    usable = [[s for s in document if len(s.split()) >= MIN_WORDS] for document in documents]
    usable = [document for document in usable if len(document) >= 2]
    if len(usable) < 2:
        raise DataTooSmall("Next-sentence needs two documents of two sentences to be judged by.")
    pairs, gold = [], []
    for number in range(count):
        first, other = rng.sample(usable, 2)
        place = rng.randrange(len(first) - 1)
        follows = number % 2 == 0
        pairs.append((first[place], first[place + 1] if follows else rng.choice(other)))
        gold.append(int(follows))
    answers = pipeline.next_sentence(pairs, overflow="truncate")
    given = [int(answer.is_next) for answer in answers]
    return [Figure("next-sentence accuracy", find_accuracy(given, gold), f"{count:,} pairs")]


def judge_classify(
    pipeline: Pipeline, head: str, data: LabelledTexts, *, several: bool
) -> list[Figure]:
    """Accuracy; where several labels may hold, F1 of the labels with a score of at least 0.5."""
    answers = pipeline.classify(data.texts, head=head, overflow="truncate")
    places = {label: place for place, label in enumerate(data.labels)}
    over = f"{len(data.texts):,} texts"
    if not several:
        best = [places[labels[0].label] for labels in answers]
        gold = [first for first, *_ in data.answers]
        return [Figure(f"{head} accuracy", find_accuracy(best, gold), over)]
    given = [[places[one.label] for one in labels if one.score >= 0.5] for labels in answers]
    marked, right = (mark_labels(each, len(places)) for each in (given, data.answers))
    return [
        Figure(f"{head} micro-F1", find_micro_f1(marked, right), over),
        Figure(f"{head} macro-F1", find_macro_f1(marked, right), over),
    ]


def judge_entities(pipeline: Pipeline, head: str, data: TaggedTexts) -> list[Figure]:
    """F1 of the entities: one is right whose label, beginning and end are."""
    found = pipeline.token_classify(
        data.texts, head=head, aggregation="simple", overflow="truncate"
    )
    hits = given = held = 0
    for entities, spans in zip(found, data.spans, strict=True):
        told = {(each.start, each.end, each.label) for each in entities}
        right = {(span.start, span.end, span.label) for span in spans}
        hits, given, held = hits + len(told & right), given + len(told), held + len(right)
    over = f"{held:,} entities of {len(data.texts):,} sentences"
    return [Figure(f"{head} span F1", 2 * hits / max(1, given + held), over)]


def judge_similarity(pipeline: Pipeline, pairs: ScoredPairs) -> list[Figure]:
    """Spearman's correlation of the cosine of two embeddings with the score of the pair."""
    sides = [pipeline.embed(side, overflow="truncate") for side in (pairs.firsts, pairs.seconds)]
    cosines = (sides[0] * sides[1]).sum(-1)
    value = find_rank_correlation(cosines, np.array(pairs.scores))
    return [Figure("similarity Spearman", value, f"{len(pairs.scores):,} pairs")]


def _join(
    pipeline: Pipeline, sentences: list[str], longest: int = PASSAGE_TOKENS
) -> Iterator[Encoded]:
    """Passages of whole sentences, as long as that lets them be."""
    room = min(longest, pipeline.manifest.max_tokens)
    passage, tokens = "", 2
    for sentence in sentences:
        more = len(pipeline.encoder.tokenize(sentence).ids)
        if passage and tokens + more > room:
            yield pipeline.encoder.encode(passage, overflow="truncate")
            passage, tokens = "", 2
        passage, tokens = f"{passage} {sentence}".strip(), tokens + more
    if passage:
        yield pipeline.encoder.encode(passage, overflow="truncate")
