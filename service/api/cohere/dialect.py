"""Cohere's and Jina's way of asking, and an error that the clients of both can read."""

from typing import Any

from service.api.openai.dialect import OPENAI
from service.endpoint import Dialect
from service.error_response import Problem
from service.error_response import shape_error as shape_own


def shape_error(problem: Problem) -> dict[str, Any]:
    """Ours, with what Cohere's clients read as the message, and Jina's as the detail."""
    return {**shape_own(problem), "message": problem.message, "detail": problem.message}


COHERE = Dialect(
    "cohere",
    prefixes=("/v1/rerank", "/v2/rerank", "/v1/embed", "/v2/embed"),
    items=("documents", "texts"),
    unknown_fields="ignore",
    declared=False,
    shape_error=shape_error,
    statuses=OPENAI.statuses,
    cut_it='have it cut: embed takes "truncate": "END", rerank and voyage "truncation": true',
)
