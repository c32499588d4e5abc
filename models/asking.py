"""The pipeline's methods for those who use a bundle from Python: one a task, with its options.

Owns how options are packed. What is done with them, the pipeline itself knows.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle.manifest import Function, Pooling
from models.heads import (
    Aggregation,
    AnswerOptions,
    ClassifyOptions,
    EmbedHead,
    EmbedOptions,
    Entity,
    FillMaskOptions,
    Head,
    Label,
    Mask,
    NextSentence,
    NextSentenceOptions,
    Span,
    SparseOptions,
    SparseVector,
    TextRole,
    TokenClassifyOptions,
    TokensOptions,
    WindowedText,
)
from models.text.listing import check_list
from models.text.truncation import Overflow, Side

# Of one head, or of several that are asked at once: `*` alone stands for all of a task.
HeadName = str | tuple[str, ...] | None


class Asking(ABC):
    """What answers items by a head, asked task by task."""

    @abstractmethod
    def find_head(self, task: str, name: HeadName = None) -> Head[Any, Any, Any]:
        """The head of that name, or the task's first; several as one that asks them all."""

    @abstractmethod
    def answer(self, head: Head[Any, Any, Any], items: Sequence[Any], options: Any) -> list[Any]:
        """The answers of a head, in the order of the items."""

    def embed(  # noqa: PLR0913 - all by name, as the options have them
        self,
        texts: Sequence[str | Sequence[int]],
        *,
        pooling: Pooling | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        overflow: Overflow = "error",
        prompt: str | None = None,
        truncation_side: Side | None = None,
        special_tokens: bool | None = None,
        role: TextRole | None = None,
    ) -> NDArray[np.float32]:
        """One vector a text, [texts, dimensions]; `prompt` names one of the bundle's.

        Left out, it is that of the texts' `role` in a search. Token ids are
        taken as given; with `special_tokens` only if they have them, and without they are added.
        """
        head: EmbedHead = self.find_head("embed")  # type: ignore[assignment]
        options = EmbedOptions(pooling, normalize, dimensions, overflow, prompt, truncation_side)
        options = head.resolve(replace(options, special_tokens=special_tokens, role=role))
        vectors = self.answer(head, texts, options)
        size = options.dimensions or head.count(options.pooling or "mean")
        return np.stack(vectors) if vectors else np.zeros((0, size), np.float32)

    def embed_sparse(
        self,
        texts: Sequence[str],
        *,
        top_k: int | None = None,
        overflow: Overflow = "error",
        prompt: str | None = None,
        truncation_side: Side | None = None,
        role: TextRole | None = None,
    ) -> list[SparseVector]:
        """For each text the words of the vocabulary that stand for it, with their weights."""
        options = SparseOptions(top_k, overflow, prompt, truncation_side, role)
        return self.answer(self.find_head("embed", "sparse"), texts, options)

    def embed_tokens(
        self,
        texts: Sequence[str],
        *,
        role: TextRole | None = "document",
        overflow: Overflow = "error",
        prompt: str | None = None,
        truncation_side: Side | None = None,
    ) -> list[NDArray[np.float32]]:
        """For each text the vectors of its tokens, [tokens, dimensions], for late interaction.

        `role`: what it is, a query or a document; None takes it as it stands.
        """
        options = TokensOptions(role, overflow, prompt, truncation_side)
        return self.answer(self.find_head("embed", "tokens"), texts, options)

    def embed_windows(
        self,
        texts: Sequence[str],
        *,
        overlap: int = 0,
        normalize: bool = True,
        dimensions: int | None = None,
        overflow: Overflow = "error",
        prompt: str | None = None,
    ) -> list[WindowedText]:
        """For each text, of any length, its vector, and those of its windows.

        A window has as many tokens as the model takes, and begins `overlap` before the last ended.
        """
        options = EmbedOptions(None, normalize, dimensions, overflow, prompt, None, "each", overlap)
        return self.answer(self.find_head("embed"), texts, options)

    def fill_mask(
        self,
        texts: Sequence[str],
        *,
        top_k: int | None = None,
        targets: Sequence[str] | None = None,
        overflow: Overflow = "error",
        truncation_side: Side | None = None,
    ) -> list[list[Mask]]:
        """For each text its masks, each with its likeliest tokens."""
        check_list(targets or (), "target", param="targets")
        wanted = None if targets is None else tuple(targets)
        options = FillMaskOptions(top_k, wanted, overflow, truncation_side=truncation_side)
        return self.answer(self.find_head("fill-mask"), texts, options)

    def next_sentence(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        overflow: Overflow = "error",
        truncation_side: Side | None = None,
    ) -> list[NextSentence]:
        """For each pair whether the second text follows the first."""
        options = NextSentenceOptions(overflow, truncation_side)
        return self.answer(self.find_head("next-sentence"), pairs, options)

    def classify(
        self,
        texts: Sequence[str | tuple[str, str]],
        *,
        head: str | None = None,
        top_k: int | None = None,
        function: Function | None = None,
        overflow: Overflow = "error",
        prompt: str | None = None,
        truncation_side: Side | None = None,
    ) -> list[list[Label]]:
        """For each text or pair its labels, best first; `prompt` names one of the bundle's."""
        options = ClassifyOptions(top_k, function, overflow, prompt, truncation_side)
        return self.answer(self.find_head("classify", head), texts, options)

    def token_classify(
        self,
        texts: Sequence[str],
        *,
        head: str | None = None,
        aggregation: Aggregation = "none",
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        overflow: Overflow = "error",
        truncation_side: Side | None = None,
    ) -> list[list[Entity]]:
        """For each text its tokens, words or groups of words with their labels, in order.

        With `stride` long texts are read whole, in windows that overlap by so many tokens.
        """
        ignored = tuple(ignore_labels)
        options = TokenClassifyOptions(aggregation, ignored, overflow, truncation_side, stride)
        return self.answer(self.find_head("token-classify", head), texts, options)

    def answer_questions(  # noqa: PLR0913 - all by name, as the options have them
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        head: str | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 15,
        doc_stride: int | None = None,
        impossible: bool = False,
        align_to_words: bool = True,
        overflow: Overflow = "error",
        truncation_side: Side | None = None,
    ) -> list[list[Span]]:
        """For each question and its context the likeliest spans of the context, best first."""
        options = AnswerOptions(
            top_k=top_k,
            max_answer_tokens=max_answer_tokens,
            doc_stride=doc_stride,
            impossible=impossible,
            align_to_words=align_to_words,
            overflow=overflow,
            truncation_side=truncation_side,
        )
        return self.answer(self.find_head("answer", head), pairs, options)
