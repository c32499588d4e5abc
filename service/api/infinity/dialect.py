"""The way of asking of Infinity and vLLM: OpenAI's, with fields of their own."""

from service.api.cohere.dialect import shape_error
from service.api.openai.dialect import OPENAI
from service.endpoint import Dialect

# What its client says where it names no model.
_UNNAMED = "default/not-specified"
INFINITY = Dialect(
    "infinity",
    prefixes=("/embeddings", "/classify", "/infinity"),
    items=("input", "inputs", "documents"),
    unknown_fields="ignore",
    declared=False,
    shape_error=shape_error,
    statuses=OPENAI.statuses,
)


def name_model(model: str | None) -> str | None:
    """The name that is meant."""
    return None if model == _UNNAMED else model
