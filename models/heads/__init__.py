"""The heads, one module a task."""

from typing import Any

from models.heads.classify import ClassifyHead, ClassifyOptions, Label
from models.heads.embed import EmbedHead, EmbedOptions
from models.heads.fill_mask import Candidate, FillMaskHead, FillMaskOptions, Mask
from models.heads.head import Head, Job
from models.heads.next_sentence import NextSentence, NextSentenceHead, NextSentenceOptions

HEADS: dict[str, type[Head[Any, Any, Any]]] = {
    head.task.name: head for head in (EmbedHead, FillMaskHead, NextSentenceHead, ClassifyHead)
}

__all__ = [
    "HEADS",
    "Candidate",
    "ClassifyHead",
    "ClassifyOptions",
    "EmbedHead",
    "EmbedOptions",
    "FillMaskHead",
    "FillMaskOptions",
    "Head",
    "Job",
    "Label",
    "Mask",
    "NextSentence",
    "NextSentenceHead",
    "NextSentenceOptions",
]
