"""The baseline in process: the same checkpoint, exported in the padded layout everybody uses.

As strong as it can fairly be: the same exporter, the same fused MultiHeadAttention node a layer,
the same GELU, run by the same session. Only the layout differs: texts stand in the rows of a
rectangle [B, S], padded to the longest, and nothing is gathered. `masked=False` leaves the mask
out as well, which is right, and faster, only where no text is padded: one text at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface, PreTrainedModel

from benchmarks.minilm import find_checkpoint
from benchmarks.results import RESULTS
from export.graphs.onnx_file import export_graph
from export.graphs.trunk import count_fused
from export.reading.checkpoint import load_checkpoint
from models.bundle.bundle import Bundle, hash_file
from models.text.encoded import Encoded

_NAME = "benchmark_padded"
_INPUTS = ("input_ids", "token_type_ids", "position_ids", "mask")


class PaddedTrunk(torch.nn.Module):
    """Ids [B, S] in, hidden states [B, S, H] out; `mask` [B, S] is 1 where a token stands."""

    def __init__(self, model: PreTrainedModel, *, masked: bool) -> None:
        super().__init__()
        self.model = model
        self.masked = masked

    def forward(
        self,
        input_ids: torch.Tensor,
        token_type_ids: torch.Tensor,
        position_ids: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the encoder once over the rectangle."""
        output = self.model(
            input_ids=input_ids,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            # Four dimensions: transformers hands such a mask to the attention as it is.
            attention_mask=torch.ones(1, 1, 1, 1),
            key_padding_mask=None if mask is None else mask.to(torch.int32),
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden


def attend_padded(  # noqa: PLR0917 - transformers' signature
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    *,
    key_padding_mask: torch.Tensor | None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a rectangle: query, key and value come as [B, heads, S, size]."""
    batch, heads, width, size = query.shape

    def join(side: torch.Tensor) -> torch.Tensor:
        return side.transpose(1, 2).reshape(batch, width, heads * size)

    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [join(query), join(key), join(value), None, key_padding_mask],
        {"num_heads": heads, "scale": float(scaling)},
        dtype=query.dtype,
        shape=(batch, width, heads * size),
        version=1,
    )
    return mixed.reshape(batch, width, heads, size), None


def ensure_padded_trunk(bundle: Bundle, *, masked: bool = True) -> Path:
    """The padded graph of the bundle's checkpoint, exported unless this bundle's is cached."""
    kind = "padded" if masked else "unmasked"
    # Of this bundle, by this code: anything else would compare unlike work.
    code = hash_file(Path(__file__))[:8]
    file = RESULTS / "graphs" / f"{kind}.{bundle.fingerprint}.{code}.onnx"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _export(file, masked=masked)
    return file


def pad(texts: Sequence[Encoded], position_start: int = 0) -> dict[str, NDArray[np.int64]]:
    """The texts as a rectangle as wide as the longest of them, by the graph's names."""
    lengths = [len(text.ids) for text in texts]
    width = max(lengths)
    input_ids = np.zeros((len(texts), width), np.int64)
    token_type_ids = np.zeros((len(texts), width), np.int64)
    mask = np.zeros((len(texts), width), np.int64)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        input_ids[row, :length] = text.ids
        token_type_ids[row, :length] = text.type_ids
        mask[row, :length] = 1
    positions = np.arange(width, dtype=np.int64) + position_start
    return {
        "input_ids": input_ids,
        "token_type_ids": token_type_ids,
        "position_ids": np.broadcast_to(positions, mask.shape),
        "mask": mask,
    }


def _export(file: Path, *, masked: bool) -> None:
    model = load_checkpoint(str(find_checkpoint())).trunk
    AttentionInterface.register(_NAME, attend_padded)
    model.set_attn_implementation(_NAME)
    batch, width = torch.export.Dim("batch"), torch.export.Dim("width")
    names = _INPUTS if masked else _INPUTS[:-1]
    partial = file.with_suffix(".partial")
    graph = export_graph(
        PaddedTrunk(model, masked=masked),
        tuple(torch.zeros((2, 4), dtype=torch.long) for _ in names),
        inputs=names,
        output="hidden",
        dynamic=({0: batch, 1: width},) * len(names),
        file=partial,
    )
    if count_fused(graph) != model.config.num_hidden_layers:
        raise RuntimeError("the padded graph lacks fused attention; it would be no fair baseline")
    partial.rename(file)
