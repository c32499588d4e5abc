"""A bundle is placed whole or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch

import export.writing.exporter
from export.errors import OutputError
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from export.writing.staging import check_destination
from models.bundle.bundle import Bundle
from tests.helpers.fixtures import TakeGraphs


class Listener:
    """Writes down what an export reports."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[int | None, int]] = {}
        self.last = ""

    def begin(self, step: str, total: int | None = None) -> None:
        self.last = step
        self.steps[step] = (total, 0)

    def advance(self) -> None:
        total, done = self.steps[self.last]
        self.steps[self.last] = (total, done + 1)


def test_choices_land_in_the_manifest(classify_source: Path, tmp_path: Path) -> None:
    listener = Listener()
    out = tmp_path / "deep" / "er" / "bundle"
    tasks = ("embed", "classify")
    request = ExportRequest(str(classify_source), out, tasks=tasks, pooling="cls", name="mine")
    result = export_bundle(request, listener)
    manifest = Bundle.open(out).manifest
    assert manifest.name == "mine"
    assert manifest.heads[0].pooling == "cls"
    assert manifest.heads[0].pooling_source == "option"
    assert manifest.source.name == classify_source.name
    # Releases, without the build that this machine has of them.
    assert manifest.tools["torch"] == torch.__version__.partition("+")[0]
    assert not any("+" in version for version in manifest.tools.values())
    assert (result.fused_nodes, result.notes) == (2, [])
    assert result.bundle.path == out
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    # A step that knows its length says exactly that many times that it is further.
    assert list(listener.steps) == [
        "read the checkpoint",
        "ask the original",
        "export the trunk",
        "export the heads",
        "prove the bundle",
    ]
    for total, done in listener.steps.values():
        assert total is None or done == total > 0


@pytest.fixture
def source(pretraining_source: Path, pretraining_bundle: Path, take_graphs: TakeGraphs) -> Path:
    """A checkpoint whose graphs are made already."""
    take_graphs(pretraining_bundle)
    return pretraining_source


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_nothing(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.writing.exporter, "write_json", write_nothing)
    with pytest.raises(OutputError, match="No space left on device; nothing was left there"):
        export_bundle(ExportRequest(str(source), tmp_path / "out", tasks=("embed",)))
    assert list(tmp_path.iterdir()) == []


def test_another_export_may_have_been_faster(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prove = export.writing.exporter.prove

    def prove_slowly(*given: Any, **options: Any) -> Any:
        out.mkdir()
        (out / "theirs").write_text("")
        return prove(*given, **options)

    monkeypatch.setattr(export.writing.exporter, "prove", prove_slowly)
    with pytest.raises(OutputError, match="cannot be written"):
        export_bundle(ExportRequest(str(source), out, tasks=("embed",)))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["theirs"]


def test_a_destination_is_checked_before_any_work(tmp_path: Path) -> None:
    check_destination(tmp_path / "new" / "bundle")
    with pytest.raises(OutputError):
        export_bundle(ExportRequest("no/such", tmp_path))
