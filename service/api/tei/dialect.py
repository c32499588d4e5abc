"""text-embeddings-inference's way of asking (router/src/http, core/src/infer.rs at 0d124dc)."""

from typing import Any

from service.endpoint import Dialect
from service.error_response import Problem

# Its kinds of errors, in the capitals that its server sends.
_KINDS = {429: "Overloaded", 503: "Unhealthy", 504: "Backend", 500: "Backend"}
_KINDS_BY_CODE = {
    "empty_input": "Empty",
    "task_unsupported": "Backend",
    "head_not_found": "Backend",
}


def shape_error(problem: Problem) -> dict[str, Any]:
    """A string, and its kind."""
    kind = _KINDS_BY_CODE.get(problem.code) or _KINDS.get(problem.status, "Validation")
    return {"error": problem.message, "error_type": kind}


TEI = Dialect(
    "tei",
    prefixes=("/tei",),
    items=("inputs", "texts", "documents", "instances", "ids"),
    unknown_fields="ignore",
    declared=False,
    shape_error=shape_error,
    statuses={"empty_input": 400, "task_unsupported": 424, "head_not_found": 424},
    cut_it='have it cut: "truncate": true',
)
