"""Classification heads with a pooler of their own, saved as a checkpoint of several heads has them.

Under heads/<name>/ lie the config of a BertForSequenceClassification and the head's own weights,
pooler included; the trunk's weights are not repeated.
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
        shared = config.to_dict()
        shared.pop("head_names", None)  # the checkpoint's own
        own = BertConfig.from_dict(shared)
        own.architectures = ["BertForSequenceClassification"]
        own.id2label = dict(enumerate(self.labels))
        own.label2id = {label: number for number, label in enumerate(self.labels)}
        own.problem_type = (
            "multi_label_classification" if self.several else "single_label_classification"
        )
        directory.mkdir(parents=True)
        own.save_pretrained(directory)
        weights = {
            "bert.pooler.dense.weight": self.pooler.weight,
            "bert.pooler.dense.bias": self.pooler.bias,
            "classifier.weight": self.classifier.weight,
            "classifier.bias": self.classifier.bias,
        }
        halves = {name: weight.detach().half().contiguous() for name, weight in weights.items()}
        save_file(halves, directory / "model.safetensors", metadata={"format": "pt"})


def encode_labels(data: LabelledTexts, *, several: bool) -> Tensor:
    """What a head is asked to give: label numbers [N], or a table [N, labels] of 0 and 1."""
    if not several:
        return torch.tensor([answers[0] for answers in data.answers])
    table = torch.zeros(len(data.answers), len(data.labels))
    for row, answers in enumerate(data.answers):
        table[row, list(answers)] = 1.0
    return table
