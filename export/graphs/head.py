"""A head as a graph: hidden rows in, logits out.

What is exported is the checkpoint's own class with its trunk taken out, so every head computes
exactly what transformers computes, whatever lies between its pooler and its last layer.
"""

from pathlib import Path
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from export.graphs.onnx_file import export_graph
from export.reading.heads import SourceHead
from models.families import Family


class _Passage(torch.nn.Module):
    """Stands where the trunk stood: hands the rows on, through the trunk's own pooler if any."""

    def __init__(self, trunk: torch.nn.Module, pooler: list[torch.nn.Module]) -> None:
        super().__init__()
        # DeBERTa's masked-LM head asks the trunk for its word embeddings.
        self.embeddings = getattr(trunk, "embeddings", None)
        self.pooler_parts = torch.nn.ModuleList(pooler)

    def forward(
        self, *_: Any, inputs_embeds: torch.Tensor, **__: Any
    ) -> BaseModelOutputWithPooling:
        pooled = inputs_embeds
        for part in self.pooler_parts:
            pooled = part(pooled)
        if pooled.dim() == 3:
            pooled = pooled[:, 0]
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


class _HeadGraph(torch.nn.Module):
    def __init__(self, head: SourceHead) -> None:
        super().__init__()
        self.model = head.model
        self.head = head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.head.read_logits(self.model(inputs_embeds=hidden[:, None, :]))
        return logits[:, 0] if logits.dim() == 3 else logits


def export_projection(projection: torch.nn.Module, width: int, file: Path) -> None:
    """Write the graph of an embed head: input `pooled` [n, width], output `vector` [n, D]."""
    export_graph(
        projection,
        (torch.zeros(3, width),),
        inputs=["pooled"],
        output="vector",
        dynamic=({0: torch.export.Dim("texts")},),
        file=file,
    )


def export_tokens(modules: torch.nn.Module, width: int, file: Path) -> None:
    """Write the graph of a ColBERT: input `hidden` [rows, width], output `vectors` [rows, D]."""
    export_graph(
        modules,
        (torch.zeros(3, width),),
        inputs=["hidden"],
        output="vectors",
        dynamic=({0: torch.export.Dim("rows")},),
        file=file,
    )


def export_head(head: SourceHead, family: Family, file: Path) -> None:
    """Write the head's graph: input `hidden` [rows, H], output `logits` [rows, classes]."""
    model = head.model
    trunk = model.base_model
    prefix = model.base_model_prefix
    pooler = [getattr(trunk, name, None) for name in family.pooler]
    setattr(model, prefix, _Passage(trunk, [part for part in pooler if part is not None]))
    try:
        export_graph(
            _HeadGraph(head),
            (torch.zeros(3, model.config.hidden_size),),
            inputs=["hidden"],
            output="logits",
            dynamic=({0: torch.export.Dim("rows")},),
            file=file,
        )
    finally:
        setattr(model, prefix, trunk)
