"""Which engine is the fastest here: tried on golden answers, kept, and never one that is wrong."""

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models import Pipeline, contest
from models.bundle.bundle import Bundle
from models.choice import Choice, choose_engine, list_candidates
from models.contest import choose_fastest
from models.engines.library import Kernels, find_kernels
from models.errors import AnswersWrong, OperatorError

BUILT = isinstance(find_kernels(), Kernels)
pytestmark = pytest.mark.skipif(not BUILT, reason=str(getattr(find_kernels(), "reason", "")))


@pytest.fixture
def bundle(pretraining_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(pretraining_bundle, tmp_path / "bundle"))


@pytest.fixture
def rivals(bundle: Bundle) -> list[Choice]:
    return [choose_engine(bundle, "fp32", engine) for engine in ("onnxruntime", "kernels")]


def list_kept(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_the_fastest_is_found_and_kept(
    bundle: Bundle, rivals: list[Choice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache" / "cloze"
    found, held = choose_fastest(bundle, "fp32", rivals, threads=1, folder=folder)
    assert held is not None
    assert set(held.speeds) == {"onnxruntime", "kernels"}
    assert not held.refused
    assert found.engine in held.speeds
    assert held.speeds[found.engine] * 1.05 >= max(held.speeds.values())
    assert found.reason.startswith("it is the fastest here")
    assert f"{found.engine} {held.speeds[found.engine]:,.0f}" in found.reason
    (file,) = list_kept(folder)
    assert json.loads(file.read_text())["engine"] == found.engine

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is measured again")

    monkeypatch.setattr(contest, "Pipeline", refuse)
    again, held = choose_fastest(bundle, "fp32", rivals, threads=1, folder=folder)
    assert held is None
    assert replace(again, reason="") == replace(found, reason="")
    assert "was found the fastest here" in again.reason
    # What it was found for is a part of its name.
    with pytest.raises(AssertionError):
        choose_fastest(bundle, "fp32", rivals, threads=2, folder=folder)
    with pytest.raises(AssertionError):
        choose_fastest(bundle, "fp32", rivals[::-1], threads=1, folder=folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"engine": "none", "speeds": {}}', b'{"engine": "kernels"}']
)
def test_what_was_kept_and_is_damaged_is_found_anew(
    bundle: Bundle, rivals: list[Choice], tmp_path: Path, content: bytes
) -> None:
    choose_fastest(bundle, "fp32", rivals, threads=1, folder=tmp_path / "kept")
    (file,) = list_kept(tmp_path / "kept")
    file.write_bytes(content)
    _, held = choose_fastest(bundle, "fp32", rivals, threads=1, folder=tmp_path / "kept")
    assert held is not None
    assert json.loads(file.read_text())["engine"] in held.speeds
    assert list_kept(tmp_path / "kept") == [file]


def test_a_folder_that_cannot_be_written_is_no_matter(
    bundle: Bundle, rivals: list[Choice], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    _, held = choose_fastest(bundle, "fp32", rivals, threads=1, folder=tmp_path / "file" / "cloze")
    assert held is not None
    _, held = choose_fastest(bundle, "fp32", rivals, threads=1, folder=None)
    assert held is not None


def test_one_that_answers_wrongly_is_out(bundle: Bundle, rivals: list[Choice]) -> None:
    """However fast: its golden answers are computed first."""
    plain, ours = rivals
    # Of the answers that are expected, one; the engine's graph is a sound one of another model.
    golden = bundle.file("golden.json")
    sound = golden.read_text()
    content = json.loads(sound)
    content["tasks"][0]["cases"][0]["answer"] = [0.5] * len(
        content["tasks"][0]["cases"][0]["answer"]
    )
    golden.write_text(json.dumps(content))
    with pytest.raises(AnswersWrong, match="answers otherwise on this machine"):
        choose_fastest(bundle, "fp32", rivals, threads=1)
    golden.write_text(sound)
    bundle.file(ours.trunk).unlink()
    found, held = choose_fastest(bundle, "fp32", rivals, threads=1)
    assert held is not None
    assert found.engine == plain.engine
    assert list(held.refused) == ["kernels"]
    assert "trunk.fp32.kernels.onnx" in held.refused["kernels"]


def test_one_that_failed_is_not_in_memory_beside_the_next(
    bundle: Bundle, rivals: list[Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error's frames would hold the model that it is of."""
    opened: list[weakref.ref[Pipeline]] = []

    class Watched(Pipeline):
        def __init__(self, *given: Any, **options: Any) -> None:
            assert all(reference() is None for reference in opened)
            super().__init__(*given, **options)
            opened.append(weakref.ref(self))

    def refuse(_: Pipeline) -> None:
        raise AnswersWrong("wrong")

    monkeypatch.setattr(contest, "Pipeline", Watched)
    monkeypatch.setattr(contest, "check_golden", refuse)
    with pytest.raises(AnswersWrong):
        choose_fastest(bundle, "fp32", rivals, threads=1)
    assert len(opened) == 2


def test_where_one_engine_is_installed_nothing_is_tried(bundle: Bundle) -> None:
    candidates = list_candidates(bundle, "fp32")
    assert [each.engine for each in candidates] == ["kernels"]
    found, held = choose_fastest(bundle, "fp32", candidates)
    assert (found, held) == (candidates[0], None)


def test_an_engine_that_is_not_installed(bundle: Bundle) -> None:
    with pytest.raises(
        OperatorError, match="openvino is not installed; Cloze's extra of the same name has it"
    ):
        Pipeline(bundle, engine="openvino")
