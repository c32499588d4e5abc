"""Vectors of a query and of documents: each with the prompt that the model has for its role."""

from dataclasses import replace
from typing import Any, Literal

from models.heads.embed import EmbedHead, EmbedOptions
from models.heads.head import Job
from models.tasks import Rows, Task

Role = Literal["query", "document"]
# As SentenceTransformer.encode_query and encode_document look for them (sentence-transformers 6).
PROMPTS: dict[Role, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}


class RetrieveHead(EmbedHead):
    """Embeds texts that say what they are: an item is a role with a text."""

    task = Task("retrieve", rows=Rows.ALL, weights=False)

    def prepare(self, item: Any, options: EmbedOptions) -> Job:
        """A job for the text behind the prompt of its role, else behind the default one."""
        role, text = item
        prompts = self.entry.prompts or {}
        named = next((name for name in PROMPTS[role] if name in prompts), options.prompt)
        return super().prepare(text, replace(options, prompt=named))
