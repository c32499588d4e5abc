"""Bundles whose maker is the attacker: every hash is right, and what they say is not."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.__main__ import main
from models import Pipeline
from models.bundle.bundle import MANIFEST, Bundle, hash_file
from models.errors import BundleDamaged, BundleError, BundleNotFound
from tests.helpers.checkpoints import write_json

TRUNK = "trunk.fp32.onnx"
HEAD = "head.classify.onnx"


def read(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / MANIFEST).read_text())
    return content


def sign(bundle: Path, *names: str) -> None:
    """Have the manifest say of these files what they are now."""
    content = read(bundle)
    for name in names:
        file = bundle / name
        content["files"][name] = {"sha256": hash_file(file), "bytes": file.stat().st_size}
    write_json(bundle / MANIFEST, content)


OUTSIDE = [
    "../secret",
    "/etc/passwd",
    "sub/../../secret",
    "..\\secret",
    "C:\\secret",
    "",
    ".",
    "a\0b",
    "a\nb",
    "\u202eterces",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_is_none_of_the_bundles(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_text("secret")
    content = read(bundle)
    content["files"][name] = {"sha256": "0" * 64, "bytes": 6}
    write_json(bundle / MANIFEST, content)
    with pytest.raises(BundleDamaged, match=r"manifest\.json") as caught:
        Pipeline.open(bundle)
    assert "\n" not in caught.value.message
    assert "\0" not in caught.value.message


@pytest.mark.parametrize("name", ["tokenizer.json", TRUNK, HEAD, "golden.json"])
def test_a_link_that_leads_out(bundle: Path, name: str) -> None:
    shutil.move(bundle / name, bundle.parent / name)
    for target in (Path("..") / name, bundle.parent / name):
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).symlink_to(target)
        with pytest.raises(BundleDamaged, match=f"{name} is a link that leads out of the bundle"):
            Pipeline.open(bundle)


def test_a_manifest_that_is_a_link_out(bundle: Path) -> None:
    shutil.move(bundle / MANIFEST, bundle.parent / "elsewhere.json")
    (bundle / MANIFEST).symlink_to("../elsewhere.json")
    with pytest.raises(BundleDamaged, match="leads out"):
        Bundle.open(bundle)
    (bundle / MANIFEST).unlink()
    (bundle / MANIFEST).symlink_to(MANIFEST)
    with pytest.raises(BundleNotFound, match=r"manifest\.json"):
        Bundle.open(bundle)


def test_links_inside_are_followed(bundle: Path) -> None:
    """As Kubernetes mounts a ConfigMap; and the bundle's own directory may be a link."""
    (bundle / "..data_1").mkdir()
    for name in ("tokenizer.json", MANIFEST):
        shutil.move(bundle / name, bundle / "..data_1" / name)
        (bundle / name).symlink_to(Path("..data") / name)
    (bundle / "..data").symlink_to("..data_1")
    linked = bundle.parent / "linked"
    linked.symlink_to(bundle)
    assert Bundle.open(linked).manifest == Bundle.open(bundle).manifest


@pytest.mark.parametrize("name", ["tokenizer.json", MANIFEST])
def test_what_is_no_file_is_not_waited_for(bundle: Path, name: str) -> None:
    """Whoever opens a pipe that nobody writes to waits for ever."""
    content = read(bundle)
    content["files"]["tokenizer.json"]["bytes"] = 0
    write_json(bundle / MANIFEST, content)
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    found: list[BaseException] = []

    def open_bundle() -> None:
        try:
            Bundle.open(bundle)
        except BundleError as error:
            found.append(error)

    thread = threading.Thread(target=open_bundle, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert f"{name} is not a file" in str(found[0])


Change = Callable[[dict[str, Any]], Any]
LIES: dict[str, tuple[Change, str]] = {
    "a huge vocabulary": (lambda m: m.update(vocabulary_size=10**30), "vocabulary_size"),
    "a vocabulary it has not": (lambda m: m.update(vocabulary_size=10**9), "vocabulary of"),
    "a smaller vocabulary": (lambda m: m.update(vocabulary_size=3), "tokenizer.json has token ids"),
    "positions it has not": (lambda m: m.update(max_tokens=10**6), "1000000 positions"),
    "another start": (lambda m: m.update(position_start=10**6), "positions"),
    "huge positions": (lambda m: m.update(max_tokens=10**40), "max_tokens"),
    "another width": (lambda m: m.update(hidden_size=31), "hidden size of 31"),
    "a width of text": (lambda m: m.update(hidden_size="wide"), "hidden_size"),
    "no number": (lambda m: m.update(hidden_size=float("nan")), "hidden_size"),
    "a label too many": (
        lambda m: m["heads"][1]["labels"].append("x"),
        "the manifest has 4 labels",
    ),
    "a label twice": (lambda m: m["heads"][1].update(labels=["a", "b", "a"]), "one label twice"),
    "a head twice": (lambda m: m["heads"].append(m["heads"][1]), "lists classify twice"),
    "a head without its file": (lambda m: m["heads"][1].update(file=None), "names no file for"),
    "a head with another's file": (lambda m: m["heads"][1].update(file=TRUNK), "has 3 labels"),
    "a precision that climbs": (lambda m: m.update(precisions=["../../x"]), "files does not list"),
    "files that are a list": (lambda m: m.update(files=[]), "files"),
    "bytes below zero": (lambda m: m["files"][TRUNK].update(bytes=-1), "bytes"),
    "huge bytes": (lambda m: m["files"][TRUNK].update(bytes=10**40), "bytes"),
    "heads that are text": (lambda m: m.update(heads="embed"), "heads"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_manifest_that_lies(bundle: Path, what: str) -> None:
    change, sentence = LIES[what]
    content = read(bundle)
    change(content)
    write_json(bundle / MANIFEST, content)
    with pytest.raises(BundleDamaged) as caught:
        Pipeline.open(bundle)
    assert sentence in caught.value.message
    assert str(bundle) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        b'{"format_version": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"format_version": 1' + b"0" * 10_000 + b"}",
        b'{"format_version": 1, "name": "\xff"}',
        b'{"format_version": 1, "files": 1e999}',
    ],
    ids=["deep list", "deep object", "long number", "no utf-8", "no number"],
)
def test_a_manifest_that_is_hard_to_read(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleDamaged, match=r"manifest\.json"):
        Bundle.open(bundle)


def test_a_key_twice(bundle: Path) -> None:
    """Two readers might take another one each."""
    text = (bundle / MANIFEST).read_text().rstrip()
    (bundle / MANIFEST).write_text(text[:-1] + ', "name": "other"}')
    with pytest.raises(BundleDamaged, match="'name' is there twice"):
        Bundle.open(bundle)


def test_a_manifest_that_fills_memory(bundle: Path) -> None:
    with (bundle / MANIFEST).open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BundleDamaged, match="too large for a manifest"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        "{",
        '{"tasks": 3}',
        '{"tasks": [3]}',
        '{"tasks": [{}]}',
        '{"tasks": []}',
        '{"tasks": [{"task": "fly", "head": null, "cases": [], "batches": []}]}',
        '{"tasks": [{"task": "embed", "head": null, "cases": [{}], "batches": []}]}',
        '{"tasks": [{"task": "embed", "head": null, "batches": [],'
        ' "cases": [{"input": "a", "answer": [1]}]}]}',
        '{"tasks": [{"task": "embed", "head": null, "batches": [[7]],'
        ' "cases": [{"input": "a", "answer": [1]}]}]}',
        '{"tasks": [{"task": "embed", "head": null, "batches": [[0]],'
        ' "cases": [{"input": {"a": 1}, "answer": [1]}]}]}',
        '{"tasks": [{"task": "embed", "head": null, "batches": [[0]],'
        ' "cases": [{"input": "a", "answer": "x"}]}]}',
        '{"tasks": [{"task": "classify", "head": null, "batches": [[0]],'
        ' "cases": [{"input": "a", "answer": [1, 2]}]}]}',
        '{"tasks":' + "[" * 100_000,
    ],
)
def test_golden_answers_that_are_none(
    bundle: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (bundle / "golden.json").write_text(content)
    sign(bundle, "golden.json")
    assert main(["verify", str(bundle)]) == 2
    error = capsys.readouterr().err
    assert "golden.json" in error
    assert "export the bundle again" in error


def externalise(file: Path, location: str) -> str:
    """Have the graph's first large weight lie at that place; returns the weight's name."""
    model = onnx.load(str(file))
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    content = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    file.write_bytes(model.SerializeToString())
    (file.parent.parent / "secret").write_bytes(content)
    return str(weight.name)


@pytest.mark.parametrize("name", [TRUNK, HEAD])
@pytest.mark.parametrize(
    "place", ["../secret", "absolute", "sub/../../secret", "link", "/dev/zero"]
)
def test_weights_that_lie_outside_are_not_read(bundle: Path, name: str, place: str) -> None:
    """What stands there would fit; it is somebody else's all the same."""
    (bundle / "sub").mkdir()
    location = str(bundle.parent / "secret") if place == "absolute" else place
    externalise(bundle / name, location)
    if place == "link":
        (bundle / "link").symlink_to("../secret")
    sign(bundle, name)
    with pytest.raises(BundleDamaged, match=name):
        Pipeline.open(bundle)


def test_weights_beside_the_graph_are_read(bundle: Path) -> None:
    """The same file inside is served: it was the place that was wrong."""
    before = Pipeline.open(bundle, engine="onnxruntime").embed(["the king"])
    externalise(bundle / TRUNK, "weights.data")
    shutil.copy(bundle.parent / "secret", bundle / "weights.data")
    sign(bundle, TRUNK, "weights.data")
    again = Pipeline.open(bundle, engine="onnxruntime")
    np.testing.assert_array_equal(again.embed(["the king"]), before)


def make_graph(domain: str, kind: str, functions: tuple[Any, ...] = ()) -> bytes:
    values = [
        helper.make_tensor_value_info(n, 1, ["rows", w]) for n, w in (("hidden", 32), ("y", 3))
    ]
    node = helper.make_node(kind, ["hidden"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def repeat_for_ever() -> bytes:
    body = helper.make_function(
        "local",
        "Again",
        ["x"],
        ["y"],
        [helper.make_node("Again", ["x"], ["y"], domain="local")],
        [helper.make_opsetid("local", 1)],
    )
    return make_graph("local", "Again", (body,))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a graph",
        b"\x08\xff\xff\xff\xff",
        make_graph("evil.custom", "Run"),
        make_graph("com.microsoft", "NoSuchOperator"),
        make_graph("local", "Missing"),
        repeat_for_ever(),
    ],
    ids=["empty", "text", "cut", "custom domain", "unknown operator", "no function", "recursive"],
)
@pytest.mark.parametrize("name", [TRUNK, HEAD])
def test_a_graph_that_cannot_be_run(bundle: Path, name: str, content: bytes) -> None:
    (bundle / name).write_bytes(content)
    sign(bundle, name)
    with pytest.raises(BundleDamaged, match=name):
        Pipeline.open(bundle)


def test_a_graph_of_another_shape(bundle: Path) -> None:
    """Sound for ONNX Runtime, and no trunk."""
    shutil.copy(bundle / HEAD, bundle / TRUNK)
    sign(bundle, TRUNK)
    with pytest.raises(BundleDamaged, match=TRUNK):
        Pipeline.open(bundle)
