"""The Open Inference Protocol's way of asking (inference_rest.md)."""

from typing import Any

from service.endpoint import Dialect
from service.error_response import Problem


def shape_error(problem: Problem) -> dict[str, Any]:
    """One string."""
    return {"error": problem.message}


KSERVE = Dialect(
    "kserve",
    prefixes=("/v2/models", "/v2/health"),
    items=("inputs",),
    unknown_fields="ignore",
    declared=False,
    shape_error=shape_error,
    cut_it="have the service cut what is too long: CLOZE_AUTO_TRUNCATE",
)
