"""The kernels' form of trunks: as exact as the standard one, and the same in any company."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.errors import UnsupportedModel
from models import Pipeline
from models.bundle.bundle import Bundle
from models.engines.library import Kernels, find_kernels
from models.families import FAMILIES as ROWS
from tests.helpers.checkpoints import FAMILIES, make_checkpoint, name_class
from tests.helpers.oracle import write_texts
from tests.helpers.results import record_engine
from tests.helpers.store import Store

FOUND = find_kernels()
pytestmark = pytest.mark.skipif(
    not isinstance(FOUND, Kernels), reason=str(getattr(FOUND, "reason", ""))
)
# One of each kind: plain, a window with gates and turns, a bias by distance. The others take their
# turn in `make test-slow`.
_STAND_FOR_ALL = ("bert", "modernbert", "mpnet")
FLAT = [
    pytest.param(family, marks=[] if family in _STAND_FOR_ALL else [pytest.mark.slow])
    for family in FAMILIES
    if ROWS[family].layout == "flat"
]
PRECISIONS = ("fp32", "int8", "bf16")
TEXTS = write_texts(24, seed=17)


@pytest.fixture(scope="module")
def precisions() -> tuple[str, ...]:
    half = isinstance(FOUND, Kernels) and FOUND.half
    return PRECISIONS if half else PRECISIONS[:2]


@pytest.mark.parametrize("family", FLAT)
def test_a_family(family: str, tmp_path: Path, exports: Store, precisions: tuple[str, ...]) -> None:
    source = make_checkpoint(tmp_path / "source", family, name_class(family, "ForMaskedLM"))
    if family in LEFT_ALONE:
        with pytest.raises(UnsupportedModel, match="there is no bf16 of it"):
            exports.export(source, family, precisions=PRECISIONS, accept_loss=True)
        precisions = PRECISIONS[:2]
    path = exports.export(source, family, precisions=precisions, accept_loss=True, pooling="mean")
    bundle = Bundle.open(path)
    if "trunk.fp32.kernels.onnx" not in bundle.manifest.files:
        # What is not recognised stays as it was, and that has to be meant.
        assert family in LEFT_ALONE
        return
    assert family not in LEFT_ALONE
    plain = Pipeline(bundle, threads=1, engine="onnxruntime")
    wanted = plain.embed(TEXTS, normalize=False, overflow="truncate")
    told: dict[str, tuple[float, float]] = {}
    for precision in precisions:
        ours = Pipeline(bundle, threads=2, precision=precision, engine="kernels")
        found = ours.embed(TEXTS, normalize=False, overflow="truncate")
        if precision == "fp32":
            scale = max(1.0, float(np.abs(wanted).max()))
            np.testing.assert_allclose(found, wanted, atol=1e-5 * scale)
        # To the last bit, on other threads and among others.
        alone = Pipeline(bundle, threads=1, precision=precision, engine="kernels")
        for text, vector in zip(TEXTS[::5], found[::5], strict=True):
            (same,) = alone.embed([text], normalize=False, overflow="truncate")
            np.testing.assert_array_equal(same, vector)
        ones, others = (each / np.linalg.norm(each, axis=1)[:, None] for each in (wanted, found))
        told[precision] = float(np.abs(ones - others).max()), float((ones * others).sum(1).min())
    record_engine(bundle.manifest.family, "kernels", told)


# Tokens of a text see their neighbours outside of attention, too.
LEFT_ALONE = ("mobilebert",)


def test_weights_stand_on_the_disk_once(minilm_bundle: Path) -> None:
    for precision in ("fp32", "int8"):
        whole = minilm_bundle / f"trunk.{precision}.onnx"
        form = minilm_bundle / f"trunk.{precision}.kernels.onnx"
        assert form.stat().st_size < 0.02 * whole.stat().st_size
        model = onnx.load(form, load_external_data=False)
        places = {
            entry.value
            for weight in model.graph.initializer
            for entry in weight.external_data
            if entry.key == "location"
        }
        assert whole.name in places
        assert places <= {"trunk.fp32.onnx", "trunk.int8.onnx"}


def test_the_operators_are_there(minilm_bundle: Path) -> None:
    model = onnx.load(minilm_bundle / "trunk.fp32.kernels.onnx", load_external_data=False)
    kinds = Counter(node.op_type for node in model.graph.node if node.domain == "ai.cloze")
    # The first norm is of the embeddings; after the last one no product comes.
    wanted = {"Attention": 6, "AddNorm": 1, "Product": 6, "ProductGelu": 6, "ProductNorm": 12}
    assert kinds == wanted
    assert {value.name for value in model.graph.input} == {
        "input_ids",
        "token_type_ids",
        "position_ids",
        "starts",
    }
    assert not any(node.op_type == "MultiHeadAttention" for node in model.graph.node)


def test_int8_takes_every_product(minilm_bundle: Path) -> None:
    model = onnx.load(minilm_bundle / "trunk.int8.kernels.onnx", load_external_data=False)
    kinds = Counter(node.op_type for node in model.graph.node if node.domain == "ai.cloze")
    # Whatever is before a product makes its bytes.
    assert kinds == {
        "AddNormBytes": 1,
        "AttentionBytes": 6,
        "ProductBytes": 7,
        "ProductGeluBytes": 6,
        "ProductNormBytes": 11,
        "AddNorm": 1,
    }
    assert not any(node.op_type.startswith("MatMul") for node in model.graph.node)
