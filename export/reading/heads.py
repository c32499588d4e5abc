"""The heads of a checkpoint: the ones its architecture has.

Owns which architecture carries which task, and where its output holds the logits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from export.architectures.classes import is_own
from export.errors import UnsupportedModel
from export.reading.sentences.colbert import Late
from export.reading.sentences.pooling import Splade
from export.reading.sentences.settings import Sentences
from models.bundle.manifest import Function, Pooling, ProblemType, Representation, head_file
from models.families import Family
from models.tasks import TASKS


@dataclass(frozen=True, slots=True)
class SourceHead:
    """A head of the checkpoint: the model that has it, and where its output holds the logits.

    Of several fields, each is a column. `pooling` says which rows of a text a classifier reads: the
    first, or all of them pooled. `prompted`: the checkpoint's prompts go before its texts; without
    `include_prompt` their rows are not pooled, which the model is told as `ahead`.

    A `representation` is an embed head that gives something else than dense vectors: `pool` makes
    it of the logits [tokens, vocabulary] of a text, which the fill-mask graph gives, or of its
    hidden states, which its own graph reads: that is made of `pool`.
    """

    task: str
    name: str | None
    model: Any
    output: str | tuple[str, ...]
    labels: tuple[str, ...] | None = None
    problem_type: ProblemType | None = None
    function: Function | None = None
    pooling: str | None = None
    prompted: bool = False
    include_prompt: bool = True
    representation: Representation | None = None
    pool: Callable[[torch.Tensor], torch.Tensor] | None = None
    late: Late | None = None

    @property
    def weights(self) -> bool:
        """Whether it has weights of its own, and so a graph."""
        return TASKS[self.task].weights or self.representation is not None

    @property
    def file(self) -> str:
        """The name of its graph."""
        if self.representation == "sparse":
            return head_file("fill-mask", None)
        # Of tokens: head.embed.tokens.onnx.
        return head_file(self.task, self.name)

    def list_prompts(self, sentences: Sentences) -> Mapping[str, str]:
        """The prompts that may go before its texts, by name, of a checkpoint that says these."""
        if self.late is not None:
            return self.late.prompts
        return sentences.prompts if self.prompted or not self.weights else {}

    def read_logits(self, output: Any) -> torch.Tensor:
        """The logits in what the model gave, classes last; without weights, the hidden states."""
        if isinstance(self.output, str):
            logits: torch.Tensor = output[self.output]
            return logits
        return torch.stack([output[name] for name in self.output], dim=-1)


def make_trunk_head(trunk: PreTrainedModel) -> SourceHead:
    """The trunk as it answers by itself, by its hidden states."""
    return SourceHead("embed", None, trunk, "last_hidden_state")


def list_carried() -> set[str]:
    """The tasks that some architecture carries."""
    return {row.task for rows in _ENDINGS.values() for row in rows}


def list_endings() -> tuple[str, ...]:
    """The endings of architectures that carry a head."""
    return tuple(_ENDINGS)


def find_ending(architecture: str) -> str | None:
    """The ending of an architecture's name that tells its heads, or None."""
    return next((ending for ending in _ENDINGS if architecture.endswith(ending)), None)


def list_heads(
    model: PreTrainedModel, architecture: str, family: Family, name: str | None = None
) -> list[SourceHead]:
    """The heads that a model of that architecture has."""
    ending = find_ending(architecture)
    if ending is None:
        return []
    return [
        row.read(SourceHead(row.task, name, model, row.output))
        for row in _ENDINGS[ending]
        if ending != _PRETRAINING or row.task in family.pretraining_tasks
    ]


def _keep(head: SourceHead) -> SourceHead:
    return head


def _read_token_labels(head: SourceHead) -> SourceHead:
    labels, _, _ = _describe_labels(head.model.config)
    return replace(head, labels=labels, function="softmax")


def _read_classifier(head: SourceHead) -> SourceHead:
    labels, problem_type, function = _describe_labels(head.model.config)
    return replace(
        head,
        labels=labels,
        problem_type=problem_type,
        function=function,
        pooling=_find_pooling(head.model.config, type(head.model).__name__),
    )


@dataclass(frozen=True, slots=True)
class _Carried:
    """A task that an architecture carries: where its logits are, and what its config says of it."""

    task: str
    output: str | tuple[str, ...] = "logits"
    read: Callable[[SourceHead], SourceHead] = _keep


# Of what this class carries, a family's row says which are its own.
_PRETRAINING = "ForPreTraining"
# The ending of an architecture's name says which tasks its heads answer: a row each.
_ENDINGS: dict[str, tuple[_Carried, ...]] = {
    _PRETRAINING: (
        _Carried("fill-mask", "prediction_logits"),
        _Carried("next-sentence", "seq_relationship_logits"),
    ),
    "ForMaskedLM": (_Carried("fill-mask"),),
    "ForNextSentencePrediction": (_Carried("next-sentence"),),
    "ForSequenceClassification": (_Carried("classify", read=_read_classifier),),
    "ForTokenClassification": (_Carried("token-classify", read=_read_token_labels),),
    "ForQuestionAnswering": (_Carried("answer", ("start_logits", "end_logits")),),
}


def _find_pooling(config: PretrainedConfig, architecture: str) -> Pooling | None:
    """How a classifier pools, where its config says so; None: it reads the first row."""
    declared = getattr(config, "classifier_pooling", None)
    if declared in (None, "cls", "bos"):
        return None
    if declared == "mean":
        return "mean"
    if declared == "max" and is_own(config.model_type):
        return "max"
    raise UnsupportedModel(f"{architecture} pools by {declared!r}; supported is one of cls, mean")


def make_tokens_head(trunk: PreTrainedModel, late: Late) -> SourceHead:
    """The head of a ColBERT."""
    return SourceHead(
        "embed",
        "tokens",
        trunk,
        "last_hidden_state",
        prompted=True,
        representation="tokens",
        pool=late.modules,
        late=late,
    )


def make_sparse_head(heads: Sequence[SourceHead], splade: Splade) -> list[SourceHead]:
    """The head that gives sparse vectors, where there is one that fills masks."""
    return [
        replace(
            head,
            task="embed",
            name="sparse",
            prompted=True,
            representation="sparse",
            pool=splade.pool,
        )
        for head in heads
        if (head.task, head.name) == ("fill-mask", None)
    ]


def apply_activation(head: SourceHead, sentences: Sentences) -> SourceHead:
    """The head with the function that sentence-transformers' files say, where they say one.

    A cross-encoder whose files say none has sentence-transformers' own: sigmoid of one label, and
    the logits of several.
    """
    if head.task != "classify":
        return head
    function = sentences.function
    if function is None and sentences.cross_encoder:
        function = "sigmoid" if len(head.labels or ()) == 1 else "none"
    return replace(head, function=function or head.function, prompted=sentences.cross_encoder)


def _describe_labels(
    config: PretrainedConfig,
) -> tuple[tuple[str, ...], ProblemType | None, Function]:
    labels = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    problem_type: ProblemType | None = config.problem_type
    # As transformers' TextClassificationPipeline chooses.
    if problem_type == "regression":
        return labels, problem_type, "none"
    if problem_type == "multi_label_classification" or config.num_labels == 1:
        return labels, problem_type, "sigmoid"
    return labels, problem_type, "softmax"
