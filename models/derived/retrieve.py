"""Vectors of a query and of documents: each with the prompt that the model has for its role."""

from dataclasses import replace
from typing import Any

from models.heads.embed import EmbedHead, EmbedOptions
from models.heads.head import Job
from models.tasks import Rows, Task


class RetrieveHead(EmbedHead):
    """Embeds texts that say what they are: an item is a role with a text."""

    task = Task("retrieve", rows=Rows.ALL, weights=False)

    def prepare(self, item: Any, options: EmbedOptions) -> Job:
        """A job for the text behind the prompt of its role, where there is one."""
        role, text = item
        prompt = self.choose_prompt(None, role)
        return super().prepare(text, replace(options, prompt=prompt))
