"""A graph is read as onnx reads it, and a part of it computes what the whole does."""

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.engines.onnx_view import OnnxView
from models.errors import BundleDamaged
from models.lens.graph import open_graph, read_graph
from models.lens.mapped import MappedFiles
from models.lens.taps import find_attention, find_words
from models.lens.wire import WireError
from models.text.encoded import Encoded
from models.text.packing import pack
from tests.helpers.oracle import Exported

IDS = np.arange(2, 21, dtype=np.int64)


def make_feeds() -> dict[str, np.ndarray]:
    return pack([Encoded(ids=IDS, type_ids=np.zeros_like(IDS))]).feeds


def test_it_is_read_as_onnx_reads_it(pretraining: Exported) -> None:
    file = pretraining.bundle / "trunk.fp32.onnx"
    model = onnx.load(file)
    content = file.read_bytes()
    with open_graph(file) as graph:
        assert [(n.operation, n.domain) for n in graph.nodes] == [
            (n.op_type, n.domain) for n in model.graph.node
        ]
        assert [(n.inputs, n.outputs) for n in graph.nodes] == [
            (tuple(n.input), tuple(n.output)) for n in model.graph.node
        ]
        assert graph.weights.keys() == {each.name for each in model.graph.initializer}
        for each in model.graph.initializer:
            found = graph.weights[each.name]
            assert (found.shape, found.type) == (tuple(each.dims), each.data_type)
            if each.raw_data:
                assert found.length is not None
                assert content[found.start : found.start + found.length] == each.raw_data


def test_attention_nodes_are_found(pretraining: Exported) -> None:
    with open_graph(pretraining.bundle / "trunk.fp32.onnx") as graph:
        taps = find_attention(graph)
    assert taps is not None
    assert [(tap.heads, round(tap.scale or 0, 4)) for tap in taps] == [(4, 0.3536)] * 2
    assert all(tap.bias for tap in taps)


def test_a_part_gives_what_is_inside_of_the_whole(pretraining: Exported) -> None:
    file = pretraining.bundle / "trunk.fp32.onnx"
    with open_graph(file) as graph:
        taps = find_attention(graph) or []
        parts = [graph.cut(tap.names) for tap in taps]
    for tap, part in zip(taps, parts, strict=True):
        whole = file.read_bytes()
        outputs = [helper.make_empty_tensor_value_info(name) for name in tap.names]
        more = onnx.ModelProto(graph=onnx.GraphProto(output=outputs)).SerializeToString()
        # As protobuf has it: what repeats is joined.
        session = onnxruntime.InferenceSession(whole + more, providers=["CPUExecutionProvider"])
        inputs = {each.name for each in session.get_inputs()}
        feeds = {name: value for name, value in make_feeds().items() if name in inputs}
        wanted = session.run(list(tap.names), feeds)
        found = OnnxView(part, file.parent).run(tap.names, make_feeds())
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    # The first layer needs nothing of the second, and no number of a large weight is in a part.
    assert len(parts[0]) < len(parts[1]) < len(whole) / 3
    names = [n.op_type for n in onnx.load_from_string(parts[0]).graph.node]
    assert "MultiHeadAttention" not in names


def test_halves_are_widened_after_rows_are_taken(pretraining: Exported) -> None:
    source = pretraining.bundle / "trunk.fp32.onnx"
    graph = read_graph(halve(onnx.load(source)).SerializeToString(), "halves.onnx")
    words = find_words(graph, pretraining.pipeline.manifest.vocabulary_size)
    assert words is not None
    assert words.type == TensorProto.FLOAT16
    assert find_words(graph, 10**6) is None
    (tap, *_) = find_attention(graph) or []
    part = onnx.load_from_string(graph.cut(tap.names))
    gathers = [n for n in part.graph.node if n.op_type == "Gather"]
    tables = {each.name: each.data_type for each in part.graph.initializer}
    taken = {tables.get(n.input[0]) for n in gathers}
    assert TensorProto.FLOAT16 in taken
    # No table is widened whole.
    used = {name for n in part.graph.node for name in n.input}
    assert not [n for n in part.graph.node if n.op_type == "Cast" and n.output[0] not in used]


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with tables of words and positions stored as halves."""
    for each in list(model.graph.initializer):
        if each.name.endswith("embeddings.weight"):
            name, numbers = each.name, numpy_helper.to_array(each).astype(np.float16)
            each.CopyFrom(numpy_helper.from_array(numbers, f"{name}.half"))
            widen = helper.make_node("Cast", [each.name], [name], to=TensorProto.FLOAT)
            model.graph.node.insert(0, widen)
    return model


def test_a_halved_table_gives_the_same_rows(pretraining: Exported, tmp_path: Path) -> None:
    file = tmp_path / "halves.onnx"
    onnx.save(halve(onnx.load(pretraining.bundle / "trunk.fp32.onnx")), file)
    with open_graph(file) as graph:
        (tap, *_) = find_attention(graph) or []
        part = graph.cut(tap.names)
    whole = onnx.load(file)
    whole.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tap.names)
    session = onnxruntime.InferenceSession(
        whole.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {each.name: make_feeds()[each.name] for each in session.get_inputs()}
    wanted = session.run(list(tap.names), feeds)
    found = OnnxView(part, tmp_path).run(tap.names, make_feeds())
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_weights_beside_the_graph(pretraining: Exported, tmp_path: Path) -> None:
    file = tmp_path / "trunk.fp32.onnx"
    model = onnx.load(pretraining.bundle / file.name)
    onnx.save(
        model, file, save_as_external_data=True, location=f"{file.name}.data", size_threshold=256
    )
    with open_graph(file) as graph:
        beside = {each.file for each in graph.weights.values()}
        (tap, *_) = find_attention(graph) or []
        part = graph.cut(tap.names)
        words = find_words(graph, pretraining.pipeline.manifest.vocabulary_size)
    assert beside == {"", f"{file.name}.data"}
    assert words is not None
    rows = np.memmap(tmp_path / words.file, np.float32, "r", words.start, words.shape)
    (table,) = (t for t in onnx.load(file).graph.initializer if t.name == words.name)
    np.testing.assert_array_equal(rows, numpy_helper.to_array(table))
    found = OnnxView(part, tmp_path).run([tap.query], make_feeds())
    with open_graph(pretraining.bundle / file.name) as graph:
        whole = graph.cut([tap.query])
    wanted = OnnxView(whole, pretraining.bundle).run([tap.query], make_feeds())
    np.testing.assert_array_equal(found[0], wanted[0])


def test_graphs_within_a_node_take_from_outside() -> None:
    inner = [
        helper.make_graph(
            [helper.make_node("Add", ["outer", number], ["sum"])],
            "branch",
            [],
            [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1])],
        )
        for number in ("one", "two")
    ]
    node = helper.make_node("If", ["which"], ["chosen"], then_branch=inner[0], else_branch=inner[1])
    numbers = [
        numpy_helper.from_array(np.array([number], np.float32), name)
        for number, name in ((1, "one"), (2, "two"))
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["outer"]),
            helper.make_node("Neg", ["x"], ["other"]),
            node,
        ],
        "whole",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("which", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [1])],
        initializer=numbers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    part = read_graph(model.SerializeToString(), "whole.onnx").cut(["chosen"])
    assert [n.op_type for n in onnx.load_from_string(part).graph.node] == ["Neg", "If"]
    view = OnnxView(part, Path())
    feeds = {"x": np.ones(1, np.float32), "which": np.zeros((), np.bool_)}
    np.testing.assert_array_equal(view.run(["chosen"], feeds)[0], [1.0])


def test_what_is_no_graph() -> None:
    for content in (b"not a graph", b"\x3a\x05abc", b"\x3a\x04\x2a\x02\x42\xff"):
        with pytest.raises(WireError):
            read_graph(content, "x")
    with pytest.raises(BundleDamaged):
        OnnxView(b"not a graph", Path())


def test_a_file_with_any_byte_changed_ends_in_one_way(pretraining: Exported) -> None:
    """It is refused, or read: nothing else is raised, and nothing runs for ever."""
    with open_graph(pretraining.bundle / "trunk.fp32.onnx") as whole:
        # Of a part nearly every byte says something.
        content = whole.cut([node.outputs[0] for node in whole.nodes[-1:]])
    source = random.Random(5)
    for _ in range(5_000):
        changed = bytearray(content)
        for _ in range(source.randint(1, 4)):
            changed[source.randrange(len(changed))] = source.randrange(256)
        try:
            graph = read_graph(bytes(changed), "x")
            find_words(graph, 100)
            for tap in find_attention(graph) or []:
                graph.cut(tap.names)
        except WireError:
            continue


def test_who_writes_into_a_file_is_noticed(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"x" * 10)
    files = MappedFiles([file])
    assert not files.changed
    assert not files.replaced
    other.write_bytes(b"y" * 10)
    other.replace(file)
    assert files.replaced
    assert not files.changed
    files = MappedFiles([file])
    file.write_bytes(b"")
    assert files.changed
    file.unlink()
    assert files.replaced
