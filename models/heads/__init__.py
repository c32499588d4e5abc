"""The heads, one module a task."""

from typing import Any

from models.heads.answer import AnswerHead, AnswerOptions, Span
from models.heads.classify import ClassifyHead, ClassifyOptions, Label
from models.heads.embed import EmbedHead, EmbedOptions, Window, WindowedText, Windows
from models.heads.fill_mask import Candidate, FillMaskHead, FillMaskOptions, Mask
from models.heads.head import Head, Job, TextRole, spread
from models.heads.next_sentence import NextSentence, NextSentenceHead, NextSentenceOptions
from models.heads.sparse import SparseHead, SparseOptions, SparseVector
from models.heads.token_classify import (
    Aggregation,
    Entity,
    TokenClassifyHead,
    TokenClassifyOptions,
)
from models.heads.tokens import TokensHead, TokensOptions

HEADS: dict[str, type[Head[Any, Any, Any]]] = {
    head.task.name: head
    for head in (
        EmbedHead,
        FillMaskHead,
        NextSentenceHead,
        ClassifyHead,
        TokenClassifyHead,
        AnswerHead,
    )
}

# What an embed head is where it gives something else of a text than one dense vector.
REPRESENTATIONS: dict[str, type[Head[Any, Any, Any]]] = {
    "sparse": SparseHead,
    "tokens": TokensHead,
}

__all__ = [
    "HEADS",
    "REPRESENTATIONS",
    "Aggregation",
    "AnswerHead",
    "AnswerOptions",
    "Candidate",
    "ClassifyHead",
    "ClassifyOptions",
    "EmbedHead",
    "EmbedOptions",
    "Entity",
    "FillMaskHead",
    "FillMaskOptions",
    "Head",
    "Job",
    "Label",
    "Mask",
    "NextSentence",
    "NextSentenceHead",
    "NextSentenceOptions",
    "Span",
    "SparseHead",
    "SparseOptions",
    "SparseVector",
    "TextRole",
    "TokenClassifyHead",
    "TokenClassifyOptions",
    "TokensHead",
    "TokensOptions",
    "Window",
    "WindowedText",
    "Windows",
    "spread",
]
