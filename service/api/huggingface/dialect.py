"""Hugging Face's way of asking, as huggingface_hub and @huggingface/inference send it."""

from typing import Any

from service.endpoint import Dialect
from service.error_response import Problem


def shape_error(problem: Problem) -> dict[str, Any]:
    """One string, with the place it is about; while models load, for how long about."""
    told: dict[str, Any] = {"error": problem.message, "error_type": problem.code}
    return told | {"estimated_time": 10.0} if problem.code == "not_ready" else told


HUGGING_FACE = Dialect(
    "huggingface",
    prefixes=("/models", "/pipeline"),
    items=("inputs",),
    unknown_fields="ignore",
    declared=False,
    shape_error=shape_error,
    cut_it='have it cut: "truncate": true, among the parameters or beside the inputs',
)
