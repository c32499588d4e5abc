"""What the manifest says of the heads."""

from pathlib import Path

import pytest

from export.reading.checkpoint import load_checkpoint
from export.writing.manifest import describe_heads
from export.writing.request import ExportRequest, choose_heads
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.fixtures import Export

ROOT = Path(__file__).parents[3]


def test_a_pooling_that_is_a_default_is_told_in_the_servers_words(
    pretraining_source: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(str(pretraining_source))
    request = ExportRequest(str(pretraining_source), tmp_path / "mine")
    _, [note] = describe_heads(request, checkpoint, checkpoint.all_heads)
    assert note.startswith("mean pooling is a default that its checkpoint does not say")
    assert 'only where a request asks for it by name, "model": "mine"; export it with' in note
    for page in ("README.md", "docs/checkpoints.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert 'only where a request asks for it by name, `"model": NAME`' in text


def test_a_pooling_that_is_declared_is_not_overruled(minilm_source: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(minilm_source))
    request = ExportRequest(str(minilm_source), tmp_path / "bundle", pooling="max")
    entries, notes = describe_heads(request, checkpoint, checkpoint.all_heads)
    assert (entries[0].pooling, entries[0].pooling_source) == ("mean", "sentence-transformers")
    assert len(notes) == 1
    assert "--pooling max was not used" in notes[0]


@pytest.mark.parametrize("kind", ["classifier", "splade", "readers"])
def test_a_pooling_that_no_head_answers_by_is_told(
    classify_source: Path, reader_source: Path, exported: Export, tmp_path: Path, kind: str
) -> None:
    splade = exported("bert", "ForMaskedLM").source
    source = {"classifier": classify_source, "splade": splade, "readers": reader_source}[kind]
    checkpoint = load_checkpoint(str(source), splade=kind == "splade")
    request = ExportRequest(str(source), tmp_path / "bundle", pooling="cls")
    entries, notes = describe_heads(request, checkpoint, choose_heads(checkpoint, None))
    [note] = [note for note in notes if "--pooling cls was not used" in note]
    assert all(entry.task in note for entry in entries)


def test_a_tokenizer_that_is_another_models_is_noted(
    pretraining_source: Path, tmp_path: Path
) -> None:
    source = make_checkpoint(tmp_path / "large", "bert", "BertForMaskedLM", vocab_size=2_000)
    checkpoint = load_checkpoint(str(source))
    request = ExportRequest(str(source), tmp_path / "mine", pooling="mean")
    known = checkpoint.tokenizer.backend_tokenizer.get_vocab_size()
    _, notes = describe_heads(request, checkpoint, checkpoint.all_heads)
    assert any(f"the tokenizer knows {known} tokens, and the model has 2000" in n for n in notes)
    checkpoint = load_checkpoint(str(pretraining_source))
    _, notes = describe_heads(request, checkpoint, checkpoint.all_heads)
    assert not any("the tokenizer knows" in note for note in notes)
