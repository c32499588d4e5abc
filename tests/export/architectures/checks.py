"""A bundle of a family of our own against a reference that was written for the test."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import Pipeline
from tests.helpers.oracle import pool, write_pairs, write_texts

TEXTS = write_texts(20, seed=81)
ITEMS: tuple[Any, ...] = (*TEXTS[:8], *write_pairs(6, seed=82))
# In single precision, of the largest value.
NEAR = 1e-5

# Token ids and segments in, hidden states [T, H] out; of a text alone.
Compute = Callable[[list[int], list[int]], torch.Tensor]


def randomize(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights by name: around 1 for the weights of norms, around 0 for all else."""
    source = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=source) * (0.25 if len(shape) > 1 else 0.1)
        norm = name.endswith("weight") and len(shape) == 1
        weights[name] = values + 1 if norm else values
    return weights


def measure(found: Any, wanted: Any) -> float:
    """The largest difference, of the largest value above 1."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    return float(np.abs(found - wanted).max()) / max(1.0, float(np.abs(wanted).max()))


def check_vectors(pipeline: Pipeline, compute: Compute, texts: Sequence[str] = TEXTS) -> None:
    """Texts packed together have the vectors that each has alone."""
    found = pipeline.embed(texts, normalize=False, overflow="truncate")
    head = pipeline.find_head("embed")
    wanted = []
    for text in texts:
        encoded = head.encoder.encode(text, overflow="truncate")
        wanted.append(pool(compute(encoded.ids.tolist(), encoded.type_ids.tolist()).numpy()))
    assert measure(found, wanted) < NEAR


def check_masks(pipeline: Pipeline, read: Compute) -> None:
    """The words of masks, of logits [T, V]."""
    mask = pipeline.manifest.special_tokens["mask"]
    head = pipeline.find_head("fill-mask")
    texts = [f"the {mask.token} of france", mask.token, f"a cold {mask.token} in the old town"]
    found = pipeline.fill_mask(texts, top_k=pipeline.manifest.vocabulary_size)
    for text, [answer] in zip(texts, found, strict=True):
        encoded = head.encoder.encode(text, overflow="error")
        ids = encoded.ids.tolist()
        logits = read(ids, encoded.type_ids.tolist())[ids.index(mask.id)]
        wanted = logits.double().softmax(-1).numpy()
        scores = np.zeros_like(wanted)
        scores[[one.token_id for one in answer.candidates]] = [
            one.score for one in answer.candidates
        ]
        assert np.abs(scores - wanted).max() < NEAR


def check_labels(pipeline: Pipeline, read: Compute, items: Sequence[Any] = ITEMS) -> None:
    """The logits of texts and pairs, [labels] of each."""
    head = pipeline.find_head("classify")
    answers = pipeline.classify(items, function="none", overflow="truncate")
    for item, answer in zip(items, answers, strict=True):
        pair = (item, None) if isinstance(item, str) else item
        encoded = head.encoder.encode(*pair, overflow="truncate")
        wanted = read(encoded.ids.tolist(), encoded.type_ids.tolist()).numpy()
        scores = {one.label: one.score for one in answer}
        found = [scores[label] for label in head.entry.labels or ()]
        assert measure(found, wanted) < NEAR


def save_tokenizer(tokenizer: Any, folder: Path, longest: int) -> None:
    """Write a tokenizer with the length that its model takes."""
    tokenizer.model_max_length = longest
    tokenizer.save_pretrained(folder)
