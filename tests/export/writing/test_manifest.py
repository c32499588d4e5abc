"""What the manifest says of the heads."""

from pathlib import Path

from export.reading.checkpoint import load_checkpoint
from export.writing.manifest import describe_heads
from export.writing.request import ExportRequest


def test_a_pooling_that_is_declared_is_not_overruled(minilm_source: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(minilm_source))
    request = ExportRequest(str(minilm_source), tmp_path / "bundle", pooling="max")
    entries, notes = describe_heads(request, checkpoint, checkpoint.all_heads)
    assert (entries[0].pooling, entries[0].pooling_source) == ("mean", "sentence-transformers")
    assert len(notes) == 1
    assert "--pooling max was not used" in notes[0]
