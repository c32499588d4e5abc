"""The packed form against the definition of its operator, which no processor has a kernel for."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from models.bundle.bundle import Bundle
from models.engines.cuda import lay_cells
from models.engines.onnx_runtime import OnnxRuntimeSession
from models.lens.joined import join_weights
from models.text.encoder import Encoder
from models.text.packing import lay_out, pack
from tests.helpers.bundles import WITHOUT_PACKED
from tests.helpers.checkpoints import FAMILIES, in_turn
from tests.helpers.fixtures import Export
from tests.helpers.oracle import write_texts

TEXTS = write_texts(12, seed=29)


class PackedMultiHeadAttention(OpRun):
    """As onnxruntime/docs/ContribOperators.md defines it, text by text."""

    op_domain = "com.microsoft"

    def _run(  # noqa: PLR0917 - the operator's inputs, in their order
        self,
        query: np.ndarray,
        key: np.ndarray,
        value: np.ndarray,
        bias: np.ndarray | None,
        offsets: np.ndarray,
        ends: np.ndarray,
        num_heads: int = 0,
        scale: float = 0.0,
        **_: Any,
    ) -> tuple[np.ndarray]:
        assert bias is None
        texts, longest = offsets.shape
        assert ends.shape == (texts + 1,)
        assert offsets.dtype == ends.dtype == np.int32
        size = query.shape[1] // num_heads
        # The tokens are spread over the grid, and each row of it attends within its text.
        grid = np.zeros((3, texts * longest, num_heads, size), np.float64)
        cells = offsets.ravel()[: len(query)]
        for place, side in enumerate((query, key, value)):
            grid[place, cells] = side.astype(np.float64).reshape(-1, num_heads, size)
        q, k, v = grid.reshape(3, texts, longest, num_heads, size)
        given = np.zeros_like(q)
        for text, length in enumerate(np.diff(ends)):
            scores = np.einsum("qhd,khd->hqk", q[text, :length], k[text, :length]) * scale
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            scores /= scores.sum(axis=-1, keepdims=True)
            given[text, :length] = np.einsum("hqk,khd->qhd", scores, v[text, :length])
        flat = given.reshape(texts * longest, -1)[cells]
        return (flat.astype(query.dtype),)


def compute(file: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What the graph gives by the definitions of its operators."""
    content = join_weights(file)
    assert content is not None, "its weights are not those of the standard graph's file"
    model = onnx.load_from_string(content)
    runner = ReferenceEvaluator(model, new_ops=[PackedMultiHeadAttention])
    offsets, ends = lay_cells(feeds["starts"])
    given = feeds | {"token_offset": offsets, "cumulative_sequence_length": ends}
    (hidden,) = runner.run(None, {each.name: given[each.name] for each in model.graph.input})
    found: np.ndarray = hidden
    return found


@pytest.mark.parametrize("family", in_turn(FAMILIES, ("bert", "roberta", "modernbert", "mpnet")))
def test_a_family(family: str, exported: Export) -> None:
    bundle = Bundle.open(exported(family, "ForMaskedLM").bundle)
    manifest = bundle.manifest
    packed = "trunk.fp16.packed.onnx"
    if manifest.layout == "padded" or family in WITHOUT_PACKED:
        assert packed not in manifest.files
        return
    # Its weights stand on the disk once.
    assert manifest.files[packed].bytes < 0.5 * manifest.files["trunk.fp16.onnx"].bytes
    encoder = Encoder(
        bundle.file("tokenizer.json"),
        max_tokens=manifest.max_tokens,
        vocabulary_size=manifest.vocabulary_size,
        segments=manifest.segments,
    )
    texts = [encoder.encode(text, overflow="truncate") for text in TEXTS]
    standard = OnnxRuntimeSession(bundle.file("trunk.fp16.onnx"), threads=1)
    for some in (texts, texts[:1], texts[3:5]):
        rows = pack(some, manifest.position_start)
        wanted = standard.run(rows.feeds).whole()
        found = compute(bundle.file(packed), lay_out(some, manifest.position_start).feeds)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-2 * np.abs(wanted).max())
