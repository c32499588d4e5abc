"""Weights whose headers lie: found out from the header, before a byte of them is loaded."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.reading.checkpoint import load_checkpoint
from tests.attacks.conftest import Refuse
from tests.helpers.checkpoints import add_head, change_json, write_json

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def read_header(file: Path) -> tuple[dict[str, Any], bytes]:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(file: Path, header: bytes, data: bytes, length: int | None = None) -> None:
    size = len(header) if length is None else length
    file.write_bytes(struct.pack("<Q", size) + header + data)


LIES = {
    "beyond the file": lambda t: t["a"].update(data_offsets=[0, 1 << 50], shape=[1 << 48]),
    "before the file": lambda t: t["a"].update(data_offsets=[-4, 4]),
    "overlapping": lambda t: t["b"].update(data_offsets=t["a"]["data_offsets"]),
    "too few bytes": lambda t: t["a"].update(shape=[1, 1]),
    "a product that overflows": lambda t: t["a"].update(shape=[1 << 40, 1 << 40]),
    "a negative size": lambda t: t["a"].update(shape=[-1]),
    "no such type": lambda t: t["a"].update(dtype="F99"),
    "a gap": lambda t: t.pop("b"),
    "not an object": lambda t: t.update(a=[]),
}


@pytest.mark.parametrize("what", LIES)
def test_a_header_that_lies(source: Path, refuse: Refuse, what: str) -> None:
    file = source / "model.safetensors"
    header, data = read_header(file)
    first, second = sorted(key for key in header if key != "__metadata__")[:2]
    named = {"a": header[first], "b": header[second]}
    LIES[what](named)
    rest = {key: value for key, value in header.items() if key not in (first, second)}
    changed = rest | {{"a": first, "b": second}[key]: value for key, value in named.items()}
    write(file, json.dumps(changed).encode(), data)
    refuse(source, 3, "model.safetensors cannot be read", "save the checkpoint again")


@pytest.mark.parametrize("length", [0, 7, 1 << 60, (1 << 64) - 1])
def test_a_header_of_another_length(source: Path, refuse: Refuse, length: int) -> None:
    file = source / "model.safetensors"
    header, data = read_header(file)
    write(file, json.dumps(header).encode(), data, length)
    refuse(source, 3, "model.safetensors cannot be read")


def test_a_name_twice(source: Path, refuse: Refuse) -> None:
    file = source / "model.safetensors"
    header, data = read_header(file)
    name = "encoder.layer.0.output.dense.bias"
    again = f', "{name}": {json.dumps(header[name])}}}'
    write(file, (json.dumps(header)[:-1] + again).encode(), data)
    refuse(source, 3, f"model.safetensors holds {name} twice")


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.uint8])
def test_whole_numbers_for_weights(source: Path, refuse: Refuse, kind: torch.dtype) -> None:
    weights = load_file(source / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    weights[name] = weights[name].to(kind)
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    refuse(source, 4, f"holds {name} as", "export the checkpoint it was quantised from")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(source: Path, refuse: Refuse, value: float) -> None:
    weights = load_file(source / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][3, 4] = value
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    name = "encoder.layer.1.output.dense.weight"
    refuse(source, 3, f"not all numbers: see {name}; nothing can be computed with them: export a")


def test_a_head_that_is_no_numbers(source: Path, refuse: Refuse) -> None:
    file = add_head(source, "mood", "BertForSequenceClassification") / "model.safetensors"
    weights = load_file(file)
    weights["classifier.bias"][1] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    refuse(source, 3, f"{file} holds classifier.bias, which is not all numbers; nothing can be")


def shard(source: Path) -> dict[str, str]:
    """Split the weights in two files; returns which tensor lies where."""
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    places = {name: (FIRST, SECOND)[place % 2] for place, name in enumerate(sorted(weights))}
    for file in (FIRST, SECOND):
        part = {name: weights[name] for name, place in places.items() if place == file}
        save_file(part, source / file, metadata={"format": "pt"})
    write_json(source / INDEX, {"metadata": {}, "weight_map": places})
    return places


def test_a_set_of_files_is_read(source: Path) -> None:
    shard(source)
    assert load_checkpoint(str(source)).tasks == ("embed",)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "..", "", "a/b", 3])
def test_an_index_that_leads_out(source: Path, refuse: Refuse, name: Any) -> None:
    places = shard(source)
    shutil.copy(source / FIRST, source.parent / "outside.safetensors")
    change = {key: name if place == FIRST else place for key, place in places.items()}
    write_json(source / INDEX, {"weight_map": change})
    refuse(source, 3, INDEX, f"names {name!r}, which is not a file beside it")


def test_an_index_of_what_is_not_there(source: Path, refuse: Refuse) -> None:
    places = shard(source)
    other = next(name for name, place in places.items() if place == SECOND)
    write_json(source / INDEX, {"weight_map": places | {other: FIRST}})
    refuse(source, 3, INDEX, f"says that {FIRST} holds {other}, which it does not")
    write_json(source / INDEX, {"weight_map": places | {other: "pytorch_model.bin"}})
    (source / "pytorch_model.bin").write_bytes(b"")
    refuse(source, 3, INDEX, "a file of another kind")
    write_json(source / INDEX, {"weight_map": places})
    (source / SECOND).unlink()
    refuse(source, 3, INDEX, f"names {SECOND}, which is not there")
    for broken in ({}, {"weight_map": []}, {"weight_map": {}}):
        write_json(source / INDEX, broken)
        refuse(source, 3, INDEX, "has no weight_map")


def test_a_tensor_in_two_files(source: Path, refuse: Refuse) -> None:
    shard(source)
    both = load_file(source / FIRST) | load_file(source / SECOND)
    save_file(both, source / SECOND, metadata={"format": "pt"})
    refuse(source, 3, SECOND, f"and {FIRST} does too")


def test_a_pickle_that_claims_more_than_it_holds(source: Path, refuse: Refuse) -> None:
    """One number, repeated by a stride of zero: a large shape in a small file."""
    weights = dict(load_file(source / "model.safetensors"))
    (source / "model.safetensors").unlink()
    weights["embeddings.word_embeddings.weight"] = torch.zeros(1).expand(1 << 20, 32)
    torch.save(weights, source / "pytorch_model.bin")
    refuse(source, 3, "pytorch_model.bin is smaller than embeddings.word_embeddings.weight")
    for content in ([torch.zeros(1)], {"x": 3}, {1: torch.zeros(1)}):
        torch.save(content, source / "pytorch_model.bin")
        refuse(source, 3, "pytorch_model.bin holds")


def pickle_weights(source: Path, *, archive: bool = True) -> Path:
    """The weights as older checkpoints have them."""
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    file = source / "pytorch_model.bin"
    torch.save(weights, file, _use_new_zipfile_serialization=archive)
    return file


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_pickle_without_its_end(
    source: Path,
    refuse: Refuse,
    part: float,
    archive: bool,  # noqa: FBT001
) -> None:
    """It lacks a part; to convert it would be no remedy."""
    file = pickle_weights(source, archive=archive)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    said = refuse(source, 3, f"{file} is not all there: its end is missing; copy or save the check")
    assert "convert" not in said


def test_the_state_of_a_training(source: Path, refuse: Refuse) -> None:
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save({"epoch": 3, "model_state_dict": weights}, source / "pytorch_model.bin")
    refuse(
        source,
        3,
        "pytorch_model.bin is the state of a training: it holds 'epoch', 'model_state_dict', and "
        "the weights lie in 'model_state_dict'; save these alone, torch.save(model.state_dict(), ",
    )


def test_a_source_of_links_as_in_the_hubs_cache(source: Path, tmp_path: Path) -> None:
    linked = tmp_path / "snapshots"
    linked.mkdir()
    for file in source.iterdir():
        (linked / file.name).symlink_to(file)
    assert load_checkpoint(str(linked)).tasks == ("embed",)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "is quantised"),
        ({"transformers_weights": "other.safetensors"}, "names its weights itself"),
    ],
)
def test_weights_of_another_kind(
    source: Path, refuse: Refuse, changes: dict[str, Any], sentence: str
) -> None:
    change_json(source / "config.json", **changes)
    refuse(source, 4, "config.json", sentence)


def test_an_adapter(source: Path, refuse: Refuse) -> None:
    write_json(source / "adapter_config.json", {"base_model_name_or_path": "../other"})
    refuse(source, 4, "adapter_config.json makes it an adapter")
