"""What of a checkpoint on the hub is downloaded: all that says something of its answers."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from export.reading import files
from export.reading.checkpoint import load_checkpoint
from tests.helpers.checkpoints import change_json, make_checkpoint, write_json

Serve = Callable[[Path], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    """Has a folder be the hub, of which a download brings the files that were asked for."""

    def serve_folder(hub: Path) -> None:
        def download(_: str, *, revision: str | None, allow_patterns: Sequence[str]) -> str:
            names = [str(file.relative_to(hub)) for file in hub.rglob("*") if file.is_file()]
            for name in filter_repo_objects(names, allow_patterns=list(allow_patterns)):
                (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(hub / name, tmp_path / "cache" / name)
            return str(tmp_path / "cache")

        monkeypatch.setattr(files, "snapshot_download", download)

    return serve_folder


def test_the_settings_of_stanfords_colbert(serve: Serve, tmp_path: Path) -> None:
    hub = make_checkpoint(tmp_path / "hub", "bert", "BertModel")
    weights = {f"bert.{key}": value for key, value in load_file(hub / WEIGHTS).items()}
    weights["linear.weight"] = torch.randn(8, 32)
    save_file(weights, hub / WEIGHTS, metadata={"format": "pt"})
    change_json(hub / "config.json", architectures=["HF_ColBERT"])
    said = {"query_maxlen": 12, "doc_maxlen": 20, "mask_punctuation": False}
    write_json(hub / "artifact.metadata", said)
    serve(hub)
    late = load_checkpoint("org/colbert").late
    assert late is not None
    assert late.expansion is not None
    assert (late.expansion.length, late.document_tokens, late.skipped) == (12, 20, ())


WEIGHTS = "model.safetensors"


def test_a_pickle_of_weights_beside_a_head_in_safetensors(serve: Serve, tmp_path: Path) -> None:
    hub = make_checkpoint(tmp_path / "hub", "bert", "BertModel")
    torch.save(load_file(hub / WEIGHTS), hub / "pytorch_model.bin")
    (hub / WEIGHTS).unlink()
    head = {"coef": torch.zeros(3, 32), "intercept": torch.zeros(3)}
    save_file(head, hub / "model_head.safetensors")
    serve(hub)
    assert load_checkpoint("org/setfit").tasks == ("embed", "classify")


def test_a_pickle_of_weights_beside_the_same_in_safetensors(serve: Serve, tmp_path: Path) -> None:
    hub = make_checkpoint(tmp_path / "hub", "bert", "BertModel")
    torch.save(load_file(hub / WEIGHTS), hub / "pytorch_model.bin")
    serve(hub)
    assert load_checkpoint("org/bert").tasks == ("embed",)
    assert not (tmp_path / "cache" / "pytorch_model.bin").exists()


def test_a_classifier_in_a_pickle_is_told(serve: Serve, tmp_path: Path) -> None:
    hub = make_checkpoint(tmp_path / "hub", "bert", "BertModel")
    (hub / "model_head.pkl").write_bytes(b"never opened")
    serve(hub)
    [note] = load_checkpoint("org/setfit").notes
    assert "model_head.pkl is a pickle and is not opened" in note
