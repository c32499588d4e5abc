"""The trunk as a graph: transformers' own encoder, with one fused attention node a layer.

Owns the attention function through which the flat layout reaches the model, and the gate that no
export passes without its fused nodes. transformers calls the function by name (AttentionInterface),
so nothing is matched against patterns that a release could change.
"""

import inspect
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir
import torch
from transformers import AttentionInterface, PreTrainedModel

from export.errors import UnsupportedModel
from export.graphs.onnx_file import export_graph
from export.graphs.stand_ins import Plan, Stage, stand_in, use_tables
from models.families import Layout

_FLAT = "cloze_flat"
_FUSED = ("com.microsoft", "MultiHeadAttention")
# Where tokens see their neighbours outside attention, too.
_NEIGHBOURS = ("mobilebert",)


class Stream(NamedTuple):
    """The inputs of the graph, in their order; see models/text/packing.py."""

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    position_ids: torch.Tensor
    row_index: torch.Tensor
    row_sequence: torch.Tensor
    flat_index: torch.Tensor


INPUTS = Stream._fields


class Trunk(torch.nn.Module, ABC):
    """Stream in, hidden states [T, H] out."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.segments = "token_type_ids" in inspect.signature(model.forward).parameters

    def forward(  # noqa: PLR0917 - the graph's inputs, in their order
        self,
        input_ids: torch.Tensor,
        token_type_ids: torch.Tensor,
        position_ids: torch.Tensor,
        row_index: torch.Tensor,
        row_sequence: torch.Tensor,
        flat_index: torch.Tensor,
    ) -> torch.Tensor:
        """Run the model once over the stream."""
        return self.run(
            Stream(input_ids, token_type_ids, position_ids, row_index, row_sequence, flat_index)
        )

    @abstractmethod
    def run(self, stream: Stream) -> torch.Tensor:
        """The hidden states of the stream's tokens."""


class FlatTrunk(Trunk):
    """For models whose tokens see each other in attention alone, which looks at the rows."""

    def __init__(self, model: PreTrainedModel, stage: Stage, *, aside: bool = False) -> None:
        super().__init__(model)
        self.stage = stage
        self.aside = aside

    def run(self, stream: Stream) -> torch.Tensor:
        """Run the encoder once over the stream."""
        seeing = stream.row_sequence.abs() if self.aside else stream.row_sequence
        same_text = seeing[:, None, :, None] == stream.row_sequence[:, None, None, :]
        bias = _make_bias(same_text)
        extra = {"token_type_ids": stream.token_type_ids[None]} if self.segments else {}
        with self.stage.show(Plan(stream.row_index, stream.flat_index, bias, stream.row_sequence)):
            output = self.model(
                input_ids=stream.input_ids[None],
                position_ids=stream.position_ids[None],
                attention_mask=self._bias_by_kind(same_text, bias),
                row_index=stream.row_index,
                flat_index=stream.flat_index,
                **extra,
            )
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden

    def _bias_by_kind(
        self, same_text: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """The bias, or one for each kind of layer where some see their neighbours alone.

        A text lies in a row as it does alone, so the distance of two cells is that of their tokens.
        """
        window = find_window(self.model)
        if window is None:
            return bias
        cells = torch.arange(same_text.shape[-1])
        near = (cells[:, None] - cells[None, :]).abs() <= window
        return {"full_attention": bias, "sliding_attention": _make_bias(same_text & near)}


class PaddedTrunk(Trunk):
    """For models that must have each text in its own row.

    The model runs as it is, on the rectangle of rows. The embeddings of empty cells are zeros, as
    is what a model finds beyond the ends of a text that stands alone.
    """

    def run(self, stream: Stream) -> torch.Tensor:
        """Run the model once over the rows, each of which holds one text."""
        filled = (stream.row_sequence > 0).to(torch.long)
        words = self.model.get_input_embeddings()(stream.input_ids[stream.row_index])
        extra = {"token_type_ids": stream.token_type_ids[stream.row_index]} if self.segments else {}
        output = self.model(
            inputs_embeds=words * filled[:, :, None],
            position_ids=stream.position_ids[stream.row_index],
            attention_mask=filled,
            **extra,
        )
        states = output.last_hidden_state
        cells: torch.Tensor = states.reshape(-1, states.shape[-1])
        return cells.index_select(0, stream.flat_index)


def export_trunk(
    model: PreTrainedModel, file: Path, layout: Layout = "flat", *, aside: bool = False
) -> int:
    """Write the trunk's graph, and return its number of fused attention nodes.

    With `aside` a cell whose sequence is below 0 sees that text and is not seen. Raises
    UnsupportedModel where a flat trunk has not one fused node a layer. A padded one has none: there
    attention is as the model's own code computes it.
    """
    near = model.config.model_type in _NEIGHBOURS or find_window(model) is not None
    if aside and (layout == "padded" or near):
        raise UnsupportedModel(
            f"a {model.config.model_type} whose queries are filled with tokens that their words do "
            "not see (attend false) is not supported"
        )
    if layout == "padded":
        with use_tables(model):
            return count_fused(_export(PaddedTrunk(model), file))
    stage = Stage(attend_flat)
    before = model.config._attn_implementation
    AttentionInterface.register(_FLAT, attend_flat)
    model.set_attn_implementation(_FLAT)
    try:
        with stand_in(model, stage):
            graph = _export(FlatTrunk(model, stage, aside=aside), file)
    finally:
        model.set_attn_implementation(before)
    fused = count_fused(graph)
    layers = model.config.num_hidden_layers
    if fused != layers:
        raise UnsupportedModel(
            f"the graph has {fused} fused attention nodes for {layers} layers; this release of "
            "transformers does not route the model's attention through AttentionInterface"
        )
    return fused


def _export(trunk: torch.nn.Module, file: Path) -> onnx_ir.Model:
    tokens, rows, width = (torch.export.Dim(name) for name in ("tokens", "rows", "width"))
    # A tensor of its own for each input: torch takes one that is given twice for one input.
    stream, cells = (6,), (2, 4)
    shapes = (stream, stream, stream, cells, cells, stream)
    return export_graph(
        trunk,
        tuple(torch.zeros(shape, dtype=torch.long) for shape in shapes),
        inputs=INPUTS,
        output="hidden",
        dynamic=({0: tokens},) * 3 + ({0: rows, 1: width},) * 2 + ({0: tokens},),
        file=file,
    )


def find_window(model: PreTrainedModel) -> int | None:
    """How far from a token the layers look that see its neighbours alone; None without any."""
    if "sliding_attention" not in (getattr(model.config, "layer_types", None) or ()):
        return None
    return int(model.config.sliding_window)


def _make_bias(allowed: torch.Tensor) -> torch.Tensor:
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)


def count_fused(graph: onnx_ir.Model) -> int:
    """How many attention nodes the graph has that a runtime computes in one kernel."""
    kinds = Counter((node.domain, node.op_type) for node in graph.graph.all_nodes())
    return kinds[_FUSED]


def attend_flat(  # noqa: PLR0913, PLR0917 - transformers' signature
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    *,
    row_index: torch.Tensor,
    flat_index: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over rows, for a stream: gather, attend, gather back.

    query, key and value come as [1, heads, T, size], the bias of the rows as `attention_mask`
    [R, 1, W, W]; the output goes back as [1, T, heads, size]. Of keys and values there may be
    fewer heads, each for several of the query's that follow one another.
    """
    _batch, heads, _tokens, size = query.shape
    rows, width = row_index.shape
    cells = row_index.reshape(-1)
    if key.shape[1] != heads:
        key, value = (_repeat(side, heads) for side in (key, value))

    def gather(side: torch.Tensor) -> torch.Tensor:
        stream = side.transpose(1, 2).reshape(-1, heads * size)
        return stream.index_select(0, cells).reshape(rows, width, heads * size)

    mixed = torch.onnx.ops.symbolic(
        "::".join(_FUSED),
        [gather(query), gather(key), gather(value), None, None, attention_mask],
        {"num_heads": heads, "scale": float(scaling)},
        dtype=query.dtype,
        shape=(rows, width, heads * size),
        version=1,
    )
    stream = mixed.reshape(-1, heads * size).index_select(0, flat_index)
    return stream.reshape(1, -1, heads, size), None


def _repeat(side: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys or values [1, fewer, T, size] as [1, heads, T, size]."""
    _batch, fewer, _tokens, size = side.shape
    groups = side[:, :, None].expand(-1, -1, heads // fewer, -1, -1)
    return groups.reshape(1, heads, -1, size)
