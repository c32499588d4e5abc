"""Heads of texts and of tokens, saved as a checkpoint of several heads has them.

Under heads/<name>/ lie the config of a BertForSequenceClassification, or of a
BertForTokenClassification, and the head's own weights, pooler included; the trunk's weights are not
repeated.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from training.finetuning.labelled import LabelledTexts

_DROPOUT = 0.1


class ClassifyHead(nn.Module):
    """Scores [N, labels] from the hidden states [N, H] of [CLS], as BertForSequenceClassification.

    Its pooler starts as a copy of the trunk's.
    """

    def __init__(self, trunk: BertModel, labels: tuple[str, ...], *, several: bool) -> None:
        super().__init__()
        self.labels = labels
        self.several = several
        size = trunk.config.hidden_size
        self.pooler = nn.Linear(size, size)
        self.pooler.load_state_dict(trunk.pooler.dense.state_dict())
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(size, len(labels))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        if several:  # nearly all labels do not hold of a text: begin there
            nn.init.constant_(self.classifier.bias, -math.log(len(labels)))

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores before softmax or sigmoid."""
        scores: Tensor = self.classifier(self.dropout(torch.tanh(self.pooler(hidden))))
        return scores

    def save(self, directory: Path, config: BertConfig) -> None:
        """Writes heads/<name>/ in half precision."""
        weights = {
            "bert.pooler.dense.weight": self.pooler.weight,
            "bert.pooler.dense.bias": self.pooler.bias,
            "classifier.weight": self.classifier.weight,
            "classifier.bias": self.classifier.bias,
        }
        kind = "multi_label_classification" if self.several else "single_label_classification"
        _save(directory, config, "BertForSequenceClassification", self.labels, weights, kind)


class TagHead(nn.Module):
    """Scores [N, tags] from the hidden states [N, H] of tokens, as BertForTokenClassification."""

    def __init__(self, trunk: BertModel, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.labels = labels
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(trunk.config.hidden_size, len(labels))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores before softmax."""
        scores: Tensor = self.classifier(self.dropout(hidden))
        return scores

    def save(self, directory: Path, config: BertConfig) -> None:
        """Writes heads/<name>/ in half precision."""
        weights = {
            "classifier.weight": self.classifier.weight,
            "classifier.bias": self.classifier.bias,
        }
        _save(directory, config, "BertForTokenClassification", self.labels, weights)


def _save(  # noqa: PLR0917 - what a head's folder holds
    directory: Path,
    config: BertConfig,
    architecture: str,
    labels: tuple[str, ...],
    weights: dict[str, Tensor],
    problem_type: str | None = None,
) -> None:
    shared = config.to_dict()
    shared.pop("head_names", None)  # the checkpoint's own
    own = BertConfig.from_dict(shared)
    own.architectures = [architecture]
    own.id2label = dict(enumerate(labels))
    own.label2id = {label: number for number, label in enumerate(labels)}
    own.problem_type = problem_type
    directory.mkdir(parents=True)
    own.save_pretrained(directory)
    halves = {name: weight.detach().half().cpu().contiguous() for name, weight in weights.items()}
    save_file(halves, directory / "model.safetensors", metadata={"format": "pt"})


def encode_labels(data: LabelledTexts, *, several: bool) -> Tensor:
    """What a head is asked to give: label numbers [N], or a table [N, labels] of 0 and 1."""
    if not several:
        return torch.tensor([answers[0] for answers in data.answers])
    table = torch.zeros(len(data.answers), len(data.labels))
    for row, answers in enumerate(data.answers):
        table[row, list(answers)] = 1.0
    return table
