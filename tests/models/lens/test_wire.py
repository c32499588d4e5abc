"""Fields are found where protobuf's own reader finds them, and nothing leads it astray."""

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.lens.wire import (
    WireError,
    join_fields,
    list_fields,
    read_number,
    read_numbers,
    read_text,
    write_field,
    write_number,
)


@given(st.integers(0, (1 << 63) - 1))
def test_numbers_come_back(number: int) -> None:
    written = write_number(number)
    assert read_number(written, 0, len(written)) == (number, len(written))


@given(st.text(max_size=300), st.lists(st.integers(0, 1 << 40), max_size=20))
def test_what_is_written_is_read_by_protobuf(name: str, dims: list[int]) -> None:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(write_field(8, name) + join_fields(1, dims) + write_field(2, 1))
    assert (tensor.name, list(tensor.dims), tensor.data_type) == (name, dims, 1)
    written = tensor.SerializeToString()
    fields = list(list_fields(written, 0, len(written)))
    assert [read_text(written, each) for each in fields if each.number == 8] == [name]
    found = [n for each in fields if each.number == 1 for n in read_numbers(written, each)]
    assert found == dims
    assert b"".join(written[each.begin : each.stop] for each in fields) == written


def test_fields_of_every_kind() -> None:
    attribute = onnx.helper.make_attribute("scale", 0.125)
    written = attribute.SerializeToString() + b"\x59" + b"\0" * 8
    kinds = [(each.number, each.kind) for each in list_fields(written, 0, len(written))]
    assert {(1, 2), (2, 5), (20, 0), (11, 1)} == set(kinds)


@pytest.mark.parametrize(
    "data",
    [b"\x08", b"\x08\x80", b"\x0a\x05ab", b"\x0b", b"\x09abc", b"\x0d\0", b"\x08" + b"\xff" * 11],
    ids=repr,
)
def test_half_a_field_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(list_fields(data, 0, len(data)))


def test_no_text() -> None:
    data = write_field(1, b"\xff\xfe")
    (field,) = list_fields(data, 0, len(data))
    with pytest.raises(WireError):
        read_text(data, field)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_end(data: bytes) -> None:
    try:
        fields = list(list_fields(data, 0, len(data)))
    except WireError:
        return
    assert all(each.start <= each.stop <= len(data) for each in fields)
