"""Vectors of a query and of documents: each with the prompt that the model has for its role."""

from dataclasses import dataclass, replace
from typing import Any

from models.derived.documents import shorten
from models.heads.embed import EmbedHead, EmbedOptions
from models.heads.head import Job
from models.tasks import Rows, Task


@dataclass(frozen=True, slots=True)
class RetrieveOptions(EmbedOptions):
    """Those of a vector, and after how many of its tokens a document is cut."""

    document_tokens: int | None = None


class RetrieveHead(EmbedHead):
    """Embeds texts that say what they are: an item is a role with a text."""

    task = Task("retrieve", rows=Rows.ALL, weights=False)
    golden_options = RetrieveOptions(prompt="")

    def prepare(self, item: Any, options: EmbedOptions) -> Job:
        """A job for the text behind the prompt of its role, where there is one."""
        assert isinstance(options, RetrieveOptions)
        role, text = item
        cut = None
        if role == "document":
            text, cut = shorten(self.encoder, text, options.document_tokens)
        prompt = self.choose_prompt(None, role)
        job = super().prepare(text, replace(options, prompt=prompt))
        if cut is not None and job.encoded.truncated_at is None:
            job.encoded = replace(job.encoded, truncated_at=cut)
        return job
