"""Trained checkpoints as people have them, against the libraries that made them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models import Pipeline
from tests.export import test_splade
from tests.helpers.real import unpack_mpnet, unpack_splade

TEXTS = [
    "A man is playing a guitar.",
    "It rains.",
    "Zürich, naïve façade: 東京 🙂 e-mail don't $3.50",
    "the river runs cold under an old bridge where nobody fishes any more " * 40,
    "?",
]

pytestmark = pytest.mark.slow


def test_all_mpnet_base_v2(tmp_path: Path) -> None:
    """Its config names a masked-LM head, and its file holds none."""
    source = unpack_mpnet(tmp_path / "source")
    result = export_bundle(ExportRequest(str(source), tmp_path / "bundle"))
    assert result.bundle.manifest.tasks == ("embed",)
    assert any("no weights of the head of MPNetForMaskedLM" in note for note in result.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = SentenceTransformer(str(source), device="cpu").encode(TEXTS)
    pipeline = Pipeline(result.bundle)
    found = pipeline.embed(TEXTS, overflow="truncate")
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_splade(tmp_path: Path) -> None:
    source = unpack_splade(tmp_path / "source")
    request = ExportRequest(str(source), tmp_path / "bundle", pooling="splade")
    pipeline = Pipeline(export_bundle(request).bundle)
    test_splade.check_same(source, pipeline)
    test_splade.check_same(source, pipeline, texts=TEXTS)
