"""OpenAI's way of asking for embeddings, in whose shape our own errors are too."""

from service.endpoint import Dialect

# Its clients know by 400 what we answer with 422: a request that cannot be answered as it was sent.
# What its servers have no word for, like token ids of another model, keeps the status it has.
_BAD_REQUEST = (
    "empty_input",
    "input_too_long",
    "invalid_token",
    "invalid_value",
    "missing_field",
    "task_unsupported",
    "too_many_characters",
    "too_many_inputs",
    "unknown_field",
)

# What OpenAI defines and we do not need stands in the schema; other unknown fields are refused.
OPENAI = Dialect(
    "openai",
    prefixes=("/v1/embeddings", "/openai/deployments"),
    items=("input",),
    statuses=dict.fromkeys(_BAD_REQUEST, 400),
)
