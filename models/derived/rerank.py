"""How well a document answers a query: the one score of a cross-encoder over the pair."""

from dataclasses import dataclass, replace
from typing import Any

from models.bundle.manifest import HeadEntry
from models.derived.documents import shorten
from models.heads.classify import ClassifyHead, ClassifyOptions
from models.heads.head import Job
from models.tasks import Rows, Task


@dataclass(frozen=True, slots=True)
class RerankOptions(ClassifyOptions):
    """Those of a pair, and after how many of its tokens a document is cut."""

    document_tokens: int | None = None


# What transformers calls labels that nobody named: a cross-encoder's one is never looked at.
_UNNAMED = ("LABEL_0", "0")


def is_unsure(entry: HeadEntry) -> bool:
    """Whether one label with a name of its own, as "toxic" is, may be no score of a document."""
    return entry.labels is not None and entry.labels[0] not in _UNNAMED


class RerankHead(ClassifyHead):
    """A classify head of one label, asked for its score alone, as its checkpoint wants it."""

    task = Task("rerank", rows=Rows.FIRST, weights=False)
    golden_options = RerankOptions(prompt="")

    def prepare(self, item: Any, options: ClassifyOptions) -> Job:
        """A job for a query with a document."""
        assert isinstance(options, RerankOptions)
        query, document = item
        document, cut = shorten(self.encoder, document, options.document_tokens)
        job = super().prepare((query, document), options)
        if cut is not None:
            found = job.encoded.truncated_at
            of_query, again = found if isinstance(found, tuple) else (None, None)
            at = (of_query, cut if again is None else again)
            job.encoded = replace(job.encoded, truncated_at=at)
        return job

    def decode(self, job: Job) -> Any:
        """The score of a pair."""
        (label,) = super().decode(job)
        return label.score
