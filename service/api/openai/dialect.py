"""OpenAI's way of asking for embeddings, in whose shape our own errors are too."""

from service.endpoint import Dialect

# What OpenAI defines and we do not need stands in the schema; other unknown fields are refused.
OPENAI = Dialect("openai", prefixes=("/v1/embeddings",), items=("input",))
