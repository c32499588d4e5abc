"""Weights above what one file can hold lie beside the graph, and are as safe as in it."""

from pathlib import Path

import pytest

from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models.bundle.bundle import Bundle
from models.errors import BundleDamaged
from models.pipeline import Pipeline
from tests.helpers.checkpoints import make_checkpoint


@pytest.mark.slow
def test_weights_above_two_gigabytes(tmp_path: Path) -> None:
    source = make_checkpoint(
        tmp_path / "source",
        "bert",
        "BertModel",
        hidden_size=2048,
        num_hidden_layers=11,
        num_attention_heads=16,
        intermediate_size=8192,
        initializer_range=0.02,
    )
    bundle = export_bundle(ExportRequest(str(source), tmp_path / "out")).bundle
    data = bundle.path / "trunk.fp32.onnx.data"
    assert data.stat().st_size > 2 << 30
    assert data.name in bundle.manifest.files
    entry = bundle.manifest.files["trunk.fp32.onnx"]
    assert entry.bytes < 10_000_000
    assert (entry.loaded_bytes or 0) > 2 << 30
    assert Pipeline(bundle).embed(["rain and snow"]).shape == (1, 2048)
    with data.open("r+b") as stream:
        stream.seek(1 << 30)
        stream.write(b"?")
    with pytest.raises(BundleDamaged, match=r"trunk\.fp32\.onnx\.data"):
        Bundle.open(bundle.path)
