"""Weights under names that a wrapper has put something before."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.errors import SourceError
from export.reading.checkpoint import load_checkpoint
from export.reading.weights import find_weights
from tests.helpers.checkpoints import change_json, make_checkpoint


def wrap(source: Path, prefix: str, *, pickled: bool = False) -> None:
    file = source / "model.safetensors"
    weights = {prefix + name: value for name, value in load_file(file).items()}
    if pickled:
        file.unlink()
        torch.save(weights, source / "pytorch_model.bin")
    else:
        save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "GteForMaskedLM"])
def test_a_model_that_was_saved_in_its_wrapper(
    tmp_path: Path,
    prefix: str,
    pickled: bool,  # noqa: FBT001
    name: str,
) -> None:
    """As torch's DataParallel and torch.compile name everything, whatever else is renamed."""
    family = "gte" if name.startswith("Gte") else "bert"
    source = make_checkpoint(tmp_path / "source", family, name)
    wanted = load_checkpoint(str(source))
    wrap(source, prefix, pickled=pickled)
    found = load_checkpoint(str(source))
    assert found.tasks == wanted.tasks
    for key, value in wanted.trunk.state_dict().items():
        assert torch.equal(found.trunk.state_dict()[key], value), key
    assert found.notes == [f"every name of the weights begins with {prefix}: left out"]
    assert find_weights(source).prefix == prefix


def test_what_not_all_names_have_is_part_of_them(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    wrap(source, "module.")
    weights = load_file(source / "model.safetensors") | {"other": torch.zeros(1)}
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match="lacks weights of BertModel"):
        load_checkpoint(str(source))


def test_feed_forward_in_pieces(tmp_path: Path) -> None:
    """A saving of memory in training, which would ask that lengths divide."""
    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    plain = load_checkpoint(str(source)).trunk
    change_json(source / "config.json", chunk_size_feed_forward=4)
    pieces = load_checkpoint(str(source)).trunk
    ids = torch.tensor([[2, 7, 9, 11, 3]])
    with torch.inference_mode():
        one, other = (model(input_ids=ids).last_hidden_state for model in (plain, pieces))
    assert torch.equal(one, other)
