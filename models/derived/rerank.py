"""How well a document answers a query: the one score of a cross-encoder over the pair."""

from typing import Any

from models.heads.classify import ClassifyHead
from models.heads.head import Job
from models.tasks import Rows, Task


class RerankHead(ClassifyHead):
    """A classify head of one label, asked for its score alone, as its checkpoint wants it."""

    task = Task("rerank", rows=Rows.FIRST, weights=False)

    def decode(self, job: Job) -> Any:
        """The score of a pair."""
        (label,) = super().decode(job)
        return label.score
