"""The pipeline's methods for tasks without weights of their own, for those who use Python."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.asking import Asking
from models.bundle.manifest import Function
from models.derived.rerank import RerankOptions
from models.derived.score import ScoreOptions, TextScore
from models.derived.similarity import compare, compare_all
from models.derived.zero_shot import TEMPLATE, ZeroShotOptions
from models.heads import ClassifyOptions, Label
from models.text.listing import check_list
from models.text.truncation import Overflow, Side


class Deriving(Asking):
    """What answers by heads, and by what is computed from what these give."""

    def similarity(
        self, source: str, targets: Sequence[str], *, overflow: Overflow = "error"
    ) -> NDArray[np.float32]:
        """The cosine of each target with the source, [targets]."""
        check_list(targets, param="targets")
        vectors = self.embed([source, *targets], overflow=overflow)
        return compare(vectors[0], vectors[1:])

    def similarities(
        self, texts: Sequence[str], *, overflow: Overflow = "error"
    ) -> NDArray[np.float32]:
        """The cosines of all pairs, [texts, texts]."""
        return compare_all(self.embed(texts, overflow=overflow))

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        function: Function | None = None,
        overflow: Overflow = "error",
        document_tokens: int | None = None,
    ) -> list[float]:
        """What a cross-encoder says of each document, or of its first tokens, in their order."""
        check_list(documents, param="documents")
        options = RerankOptions(
            function=function, overflow=overflow, document_tokens=document_tokens
        )
        pairs = [(query, document) for document in documents]
        return self.answer(self.find_head("rerank"), pairs, options)

    def zero_shot(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        template: str = TEMPLATE,
        multi_label: bool = False,
        head: str | None = None,
        overflow: Overflow = "error",
    ) -> list[list[Label]]:
        """For each text the labels, best first, by a head that knows what follows from what."""
        check_list(labels, "label", param="labels")
        options = ZeroShotOptions(tuple(labels), template, multi_label, overflow=overflow)
        return self.answer(self.find_head("zero-shot", head), texts, options)

    def score(
        self,
        texts: Sequence[str],
        *,
        overflow: Overflow = "error",
        truncation_side: Side | None = None,
    ) -> list[TextScore]:
        """For each text how likely it is to the masked LM, and each of its tokens."""
        return self.answer(self.find_head("score"), texts, ScoreOptions(overflow, truncation_side))

    def classify_by(
        self,
        texts: Sequence[str | tuple[str, str]],
        heads: Sequence[str] = ("*",),
        *,
        overflow: Overflow = "error",
    ) -> list[list[tuple[str | None, list[Label]]]]:
        """For each text what each of these heads says, all of them by `*`, from one run."""
        found = self.find_head("classify", tuple(heads))
        return self.answer(found, texts, ClassifyOptions(overflow=overflow))
