"""The kernels' form of a trunk beside the standard one, in each precision that it has.

Owns where the weights of the form lie: those that a standard graph has, too, are named there by
their place in its file, and stand on the disk once.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from transformers import PreTrainedModel

from export.architectures.jina_bert import list_slopes
from export.graphs.halves import store_halves
from export.graphs.int8 import Inputs
from export.graphs.kernels import Sight, rewrite
from export.graphs.kernels_bf16 import halve_products
from export.graphs.kernels_fp32 import place_products
from export.graphs.kernels_int8 import quantize_products
from export.graphs.onnx_file import save_graph, strip_metadata
from export.graphs.trunk import find_window
from models.lens.graph import Tensor, open_graph
from models.lens.panels import PANELS, gather_panels

# What is smaller is written again: a runtime wants to read the numbers that shapes are made of.
_SMALL_BYTES = 1024


def list_sights(model: PreTrainedModel) -> list[Sight]:
    """What the attention of each layer sees."""
    if (distance := _list_distances(model)) is not None:
        return [Sight(distance=distance)] * model.config.num_hidden_layers
    kinds = getattr(model.config, "layer_types", None) or ()
    window = find_window(model)
    near = [window is not None and kind == "sliding_attention" for kind in kinds]
    near += [False] * (model.config.num_hidden_layers - len(near))
    return [Sight(window if each else None) for each in near]


def _list_distances(model: PreTrainedModel) -> NDArray[np.float32] | None:
    """What is added to scores by the distance of two tokens, which is the same in each layer."""
    reach = int(model.config.max_position_embeddings)
    away = torch.arange(-reach, reach + 1)
    match model.config.model_type:
        case "mpnet":
            encoder: Any = model.encoder
            # Always of as many as by default, whatever the configuration says.
            buckets = encoder.relative_position_bucket(away)
            with torch.inference_mode():
                table: torch.Tensor = encoder.relative_attention_bias(buckets).T
        case "jina_bert":
            table = (
                -torch.tensor(list_slopes(model.config.num_attention_heads))[:, None] * away.abs()
            )
        case _:
            return None
    return np.ascontiguousarray(table.numpy(), np.float32)


def write_kernels(
    single: Path,
    target: Path,
    precision: str,
    sights: Sequence[Sight],
    *,
    inputs: Inputs,
    beside: Sequence[Path],
) -> bool:
    """Write the trunk at `single`, in fp32, in the kernels' form; False where it has none.

    `inputs` are a Watcher's, for int8. Weights that stand in one of the graphs `beside` it are not
    written again.
    """
    try:
        model = onnx_ir.load(single)
    except DecodeError:  # the proof of the standard graph says so
        return False
    if not rewrite(model, sights, shared=precision == "fp32"):
        return False
    if precision == "fp32":
        place_products(model.graph)
        store_halves(model)  # as the standard graph has them
    if precision == "int8" and not quantize_products(model, inputs):
        return False
    if precision == "bf16" and not halve_products(model):
        return False
    strip_metadata(model)
    share_weights(model, beside)
    save_graph(model, target)
    return True


def share_weights(model: onnx_ir.Model, files: Sequence[Path]) -> None:
    """Let weights whose numbers stand in one of these files be named by their place in it.

    Panels are looked for as the matrix that they are made of (models/lens/panels.py).
    """
    places: dict[tuple[int, tuple[int, ...], bytes], onnx_ir.ExternalTensor] = {}
    for file in files:
        with open_graph(file) as graph:
            for each in graph.weights.values():
                if each.length is not None and not each.file and each.length >= _SMALL_BYTES:
                    data = graph.data[each.start : each.start + each.length]
                    key = each.type, each.shape, hashlib.sha256(data).digest()
                    places.setdefault(key, _place(file, each))
    for name, value in model.graph.initializers.items():
        numbers = value.const_value
        if numbers is None or isinstance(numbers, onnx_ir.ExternalTensor):
            continue
        shape = tuple(int(size) for size in numbers.shape)
        content: NDArray[Any] = numbers.numpy()
        if len(shape) == len(PANELS):
            # They stand there as a matrix, and are laid out when the graph is loaded.
            content = gather_panels(content)
        key = int(numbers.dtype), content.shape, hashlib.sha256(content.tobytes()).digest()
        found = places.get(key)
        if found is not None:
            value.const_value = onnx_ir.ExternalTensor(
                found.location,
                found.offset,
                found.length,
                found.dtype,
                shape=numbers.shape,
                name=name,
                base_dir=found.base_dir,
            )


def _place(file: Path, tensor: Tensor) -> onnx_ir.ExternalTensor:
    return onnx_ir.ExternalTensor(
        file.name,
        tensor.start,
        tensor.length,
        onnx_ir.DataType(tensor.type),
        shape=onnx_ir.Shape(tensor.shape),
        name=tensor.name,
        base_dir=file.parent,
    )
