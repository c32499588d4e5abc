"""Which heads are made of which: a row for each task that has no weights of its own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from models.bundle.manifest import HeadEntry
from models.derived.hidden import HiddenHead
from models.derived.rerank import RerankHead
from models.derived.retrieve import RetrieveHead
from models.derived.score import ScoreHead
from models.derived.zero_shot import ZeroShotHead, find_entailment
from models.heads import Head


@dataclass(frozen=True, slots=True)
class Derivation:
    """A head that is made of those of another task which fit; `wants` says in words which do."""

    kind: type[Head[Any, Any, Any]]
    base: str
    wants: str
    fits: Callable[[HeadEntry], bool] = lambda entry: True


DERIVATIONS: dict[str, Derivation] = {
    each.kind.task.name: each
    for each in (
        Derivation(ScoreHead, "fill-mask", "a fill-mask head"),
        Derivation(
            RetrieveHead,
            "embed",
            "an embed head of dense vectors",
            lambda entry: entry.representation is None,
        ),
        Derivation(
            HiddenHead,
            "embed",
            "an embed head of dense vectors",
            lambda entry: entry.representation is None,
        ),
        Derivation(
            ZeroShotHead,
            "classify",
            "a classify head with a label that begins with entail, as those trained on natural "
            "language inference have, or whose export named that label with --entailment",
            lambda entry: find_entailment(entry) is not None,
        ),
        Derivation(
            RerankHead,
            "classify",
            "a classify head of one label, as cross-encoders have",
            lambda entry: len(entry.labels or ()) == 1,
        ),
    )
}


def derive_heads(heads: Iterable[Head[Any, Any, Any]]) -> Iterator[Head[Any, Any, Any]]:
    """The heads that can be made of these; each runs the graph of the one it is made of."""
    for head in heads:
        for derivation in DERIVATIONS.values():
            if head.task.name == derivation.base and derivation.fits(head.entry):
                yield head.derive(derivation.kind)


# What callers ask for by these heads; rank is asked of whichever there is.
_ASKED = {
    "retrieve": ("similarity", "rerank"),
    "rerank": ("rerank",),
    "zero-shot": ("zero-shot",),
    "score": ("score",),
}
# What a tokenizer and a matrix of words can do without any head.
_ALWAYS = ("words", "tokenize", "detokenize")


def list_tasks(derived: Iterable[Head[Any, Any, Any]], *, sees: bool) -> list[str]:
    """What a model answers that no head of its own is for; `sees` says that attention is shown."""
    made = {head.task.name for head in derived}
    asked = [task for name, tasks in _ASKED.items() if name in made for task in tasks]
    return list(dict.fromkeys([*asked, *(("attention",) if sees else ()), *_ALWAYS]))


# What callers know tasks by whose names no route has.
_MEANS = {"answer": "question answering", "retrieve": "ranking by vectors"}


def explain_task(task: str) -> str:
    """What a task is and wants where its name does not say it, in brackets; else nothing."""
    words = [_MEANS[task]] if task in _MEANS else []
    if task in DERIVATIONS:
        words.append(f"which wants {DERIVATIONS[task].wants}")
    return f" ({', '.join(words)})" if words else ""
