"""A wrong row, or a part that has no stand-in, does not pass the proof."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from export.errors import ProofFailed, UnsupportedModel
from export.graphs import stand_ins, trunk
from export.graphs.trunk import export_trunk
from export.reading.checkpoint import load_checkpoint
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models.families import FAMILIES
from tests.helpers.checkpoints import make_checkpoint, name_class
from tests.helpers.fixtures import Export, TakeGraphs


@pytest.fixture
def refused(tmp_path: Path) -> Any:
    """Exports a tiny checkpoint of the family, and returns the error that must come of it."""

    def export(family: str, **config: Any) -> Exception:
        source = make_checkpoint(tmp_path / "source", family, name_class(family, "Model"), **config)
        with pytest.raises((ProofFailed, UnsupportedModel)) as caught:
            export_bundle(ExportRequest(str(source), tmp_path / "bundle"))
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
        return caught.value

    return export


@pytest.mark.parametrize(
    ("family", "wrong"),
    [("mpnet", {"positions_follow_padding": False}), ("bert", {"positions_follow_padding": True})],
)
def test_a_row_with_the_wrong_positions(  # noqa: PLR0917 - fixtures
    monkeypatch: pytest.MonkeyPatch,
    refused: Any,
    exported: Export,
    take_graphs: TakeGraphs,
    family: str,
    wrong: dict[str, Any],
) -> None:
    """A graph is given its positions, so it is the same."""
    take_graphs(exported(family, "Model").bundle)
    monkeypatch.setitem(FAMILIES, family, dataclasses.replace(FAMILIES[family], **wrong))
    assert isinstance(refused(family), ProofFailed)


def test_a_row_that_says_flat_and_is_not(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    row = dataclasses.replace(FAMILIES["deberta-v2"], layout="flat")
    monkeypatch.setitem(FAMILIES, "deberta-v2", row)
    assert isinstance(refused("deberta-v2"), UnsupportedModel)


@pytest.mark.parametrize(
    ("family", "part", "error"),
    [
        ("mobilebert", "MobileBertEmbeddings", ProofFailed),
        ("mpnet", "MPNetSelfAttention", UnsupportedModel),
    ],
)
def test_a_part_without_its_stand_in(
    monkeypatch: pytest.MonkeyPatch, refused: Any, family: str, part: str, error: type[Exception]
) -> None:
    monkeypatch.delitem(stand_ins._STAND_INS, part)
    assert isinstance(refused(family), error)


def test_distances_that_are_forgotten(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    monkeypatch.setattr(
        stand_ins.Distances, "forward", lambda _, width: torch.zeros(width, width, dtype=torch.long)
    )
    assert isinstance(refused("mpnet"), ProofFailed)


@pytest.mark.parametrize("window", [None, 4, 6])
def test_a_window_that_is_not_the_models(
    monkeypatch: pytest.MonkeyPatch, refused: Any, window: int | None
) -> None:
    monkeypatch.setattr(trunk, "find_window", lambda _: window)
    assert isinstance(refused("modernbert", local_attention=10), ProofFailed)


@pytest.mark.parametrize(
    "family",
    [
        "mobilebert",
        pytest.param("mpnet", marks=pytest.mark.slow),
        pytest.param("deberta-v2", marks=pytest.mark.slow),
    ],
)
def test_the_model_is_whole_again_afterwards(tmp_path: Path, family: str) -> None:
    source = make_checkpoint(tmp_path / "source", family, name_class(family, "Model"))
    model = load_checkpoint(str(source)).trunk
    parts = [type(module).__name__ for module in model.modules()]
    ids = torch.tensor([[2, 7, 3, 9, 9, 12]])
    with torch.inference_mode():
        before = model(input_ids=ids).last_hidden_state
        export_trunk(model, tmp_path / "trunk.onnx", FAMILIES[family].layout)
        after = model(input_ids=ids).last_hidden_state
    assert [type(module).__name__ for module in model.modules()] == parts
    assert torch.equal(before, after)
    assert "get_rel_pos" not in {name for module in model.modules() for name in vars(module)}
